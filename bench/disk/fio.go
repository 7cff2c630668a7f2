package disk

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// fioReads asks fio for the raw side's reads: the same file, direct, as many
// jobs, extents of the same length at random multiples of the alignment. It
// returns reads per second and their median in seconds.
func fioReads(ctx context.Context, run func(context.Context, ...string) ([]byte, error), file string, e int64, align int64, jobs int, d time.Duration) (perSecond, p50 float64, err error) {
	seconds := max(1, int(d.Round(time.Second)/time.Second))
	out, err := run(ctx,
		"--name=raw", "--filename="+file, "--readonly", "--rw=randread", "--direct=1", "--ioengine=psync",
		"--bs="+strconv.FormatInt(e, 10), "--blockalign="+strconv.FormatInt(align, 10),
		"--numjobs="+strconv.Itoa(jobs), "--thread", "--group_reporting", "--randrepeat=0", "--norandommap",
		"--time_based", "--runtime="+strconv.Itoa(seconds), "--output-format=json")
	if err != nil {
		return 0, 0, fmt.Errorf("fio: %w", err)
	}
	return parseFio(out)
}

func parseFio(out []byte) (perSecond, p50 float64, err error) {
	var report struct {
		Jobs []struct {
			Error int
			Read  struct {
				IOPS   float64 `json:"iops"`
				ClatNS struct {
					Percentile map[string]float64 `json:"percentile"`
				} `json:"clat_ns"`
			} `json:"read"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return 0, 0, fmt.Errorf("fio's report: %w", err)
	}
	if len(report.Jobs) != 1 || report.Jobs[0].Error != 0 || report.Jobs[0].Read.IOPS == 0 {
		return 0, 0, fmt.Errorf("fio's report tells of %d jobs, or of a failed one", len(report.Jobs))
	}
	r := report.Jobs[0].Read
	return r.IOPS, r.ClatNS.Percentile["50.000000"] / 1e9, nil
}
