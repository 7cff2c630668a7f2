package cache

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// wrkScript asks for the paths of a file in turn and says at the end what came of
// it, in words that are easy to read.
const wrkScript = `
local requests, at = {}, 0
function init(args)
  for path in io.lines(args[1]) do requests[#requests + 1] = wrk.format("GET", path) end
end
function request()
  at = at + 1
  if at > #requests then at = 1 end
  return requests[at]
end
function done(summary, latency)
  local e = summary.errors
  print(string.format("RESULT %d %d %d %d %.0f %.0f", summary.requests, summary.duration, summary.bytes,
    e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
`

// load is what wrk saw.
type load struct {
	requests, bytes, errors float64
	took                    time.Duration
	p50, p99                float64 // seconds
}

// wrk drives one server with the paths of a file: one thread, 64 connections,
// each of which asks again when it was answered.
func wrk(ctx context.Context, script, base, paths string, d time.Duration) (load, error) {
	seconds := fmt.Sprintf("%ds", max(1, int(d.Round(time.Second)/time.Second)))
	out, err := exec.CommandContext(ctx, "wrk", "-t1", "-c64", "-d"+seconds, "-s", script, base, "--", paths).CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("wrk: %w: %s", err, out)
	}
	return readWrk(string(out))
}

// readWrk reads what the script says.
func readWrk(out string) (l load, err error) {
	_, rest, ok := strings.Cut(out, "RESULT ")
	line, _, _ := strings.Cut(rest, "\n")
	cells := strings.Fields(line)
	if !ok || len(cells) != 6 {
		return l, fmt.Errorf("wrk said nothing that can be read: %s", out)
	}
	var v [6]float64
	for i, c := range cells {
		if v[i], err = strconv.ParseFloat(c, 64); err != nil {
			return l, fmt.Errorf("wrk said %q", line)
		}
	}
	return load{requests: v[0], took: time.Duration(v[1]) * time.Microsecond, bytes: v[2], errors: v[3], p50: v[4] / 1e6, p99: v[5] / 1e6}, nil
}

// writeLines writes a file of lines.
func writeLines(name string, lines []string) error {
	return os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}
