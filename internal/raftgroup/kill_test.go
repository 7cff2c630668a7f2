package raftgroup

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// childDir is set when the test binary runs as the process to be killed.
func childDir() string { return os.Getenv("RAFTGROUP_TEST_CHILD") }

// childMain adds 1 to a counter for ever, on several goroutines, and prints
// each acknowledged value.
func childMain(dir string) {
	dirs := strings.Split(dir, ":")
	g, err := Open(context.Background(), Options{
		Dirs: dirs, Mirrors: min(3, len(dirs)), Name: "test", NodeID: "n1", Machine: newLedger(), Scratch: scratch, SnapshotEntries: 50, TrailingLogs: 5,
	})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("open")
	for w := range 8 {
		go func() {
			key := fmt.Sprintf("k%d", w)
			for {
				v, err := g.Propose(context.Background(), addCmd(key, 1))
				if err != nil {
					fmt.Println("error", err)
					os.Exit(1)
				}
				// One write call per line: a killed process prints whole lines.
				_, _ = os.Stdout.WriteString(fmt.Sprintf("%s %d\n", key, v))
			}
		}()
	}
	select {}
}

// killChild runs a child until it has acknowledged that many commands, kills it
// and notes what it acknowledged.
func killChild(t *testing.T, dir string, left int, acked map[string]uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "RAFTGROUP_TEST_CHILD="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		var key string
		var v uint64
		switch {
		case strings.HasPrefix(line, "open"):
		case strings.HasPrefix(line, "error"):
			t.Fatalf("the child said %q", line)
		default:
			if _, err := fmt.Sscanf(line, "%s %d", &key, &v); err != nil {
				t.Fatalf("%q", line)
			}
			acked[key] = v
			if left--; left == 0 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	_ = cmd.Wait() // it was killed
}

// TestKill kills a real process again and again in the middle of its work. What
// it acknowledged must be there, and at most one more per worker.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	acked := map[string]uint64{}
	for round := range 6 {
		killChild(t, dir, 50+rand.IntN(400), acked) // the scheduler adds the rest of the chance
		begin := time.Now()
		g := mustOpen(t, options(dir, newLedger()))
		t.Logf("round %d: open again after %v at entry %d", round, time.Since(begin), g.AppliedIndex())
		have := stateOf(t, g)
		for key, v := range acked {
			if have[key] < v || have[key] > v+1 {
				t.Errorf("round %d: %s is %d, acknowledged was %d", round, key, have[key], v)
			}
			acked[key] = have[key]
		}
		mustClose(t, g)
	}
}
