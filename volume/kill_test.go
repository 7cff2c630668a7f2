package volume

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"

	"hayloft/internal/id"
)

// killEnv makes the test binary the process that is killed.
const killEnv = "HAYLOFT_VOLUME_KILL_DIR"

// killedMain puts and deletes until it is killed. It prints "p key" and
// "d key" once they are acknowledged, and "t key" before a delete is tried.
func killedMain(dir string) error {
	v, err := Open(dir, testIdent.Volume, Options{AllocChunk: 1 << 20})
	if err != nil {
		return err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	say := func(what string, key id.ID) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Printf("%s %d\n", what, uint64(key))
	}
	start := id.ID(v.Stats().FileBytes) // larger than any key of the round before
	for w := range id.ID(4) {
		wg.Go(func() {
			for n := id.ID(0); ; n++ {
				key := start*4 + n*4 + w
				if err := v.Append(bg, []Needle{testNeedle(key, 1, 30000), testNeedle(key, 2, 900)}); err != nil {
					panic(err)
				}
				say("p", key)
				if n%3 == 2 {
					say("t", key-4)
					if err := v.Delete(bg, key-4); err != nil {
						panic(err)
					}
					say("d", key-4)
				}
			}
		})
	}
	wg.Wait()
	return errors.New("cannot be reached")
}

// TestKillProcess kills a real process in the middle of its puts, again and
// again, and looks for everything it had acknowledged.
func TestKillProcess(t *testing.T) {
	dir := t.TempDir()
	v, err := Create(dir, testIdent, Options{})
	if err != nil {
		t.Fatal(err)
	}
	closeVolume(t, v)
	said := map[string]map[id.ID]bool{"p": {}, "t": {}, "d": {}}
	for round := range 5 {
		killRound(t, dir, 10+round*13, said)
		v, err := Open(dir, testIdent.Volume, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for key := range said["p"] {
			for alt, size := range map[uint8]int{1: 30000, 2: 900} {
				err := readErr(v, testNeedle(key, alt, size))
				switch {
				case said["d"][key] && !errors.Is(err, ErrNotFound):
					t.Fatalf("round %d: %v is back: %v", round, key, err)
				case !said["t"][key] && err != nil:
					t.Fatalf("round %d: %v is lost: %v", round, key, err)
				case err == nil:
					mustRead(t, v, testNeedle(key, alt, size))
				}
			}
		}
		if _, err := v.Check(bg, func(f Finding) { t.Errorf("round %d: %+v", round, f) }); err != nil {
			t.Fatal(err)
		}
		closeVolume(t, v)
	}
	t.Logf("%d puts and %d deletes acknowledged", len(said["p"]), len(said["d"]))
}

// killRound runs the process until it has said lines things, kills it, and
// notes everything it said.
func killRound(t *testing.T, dir string, lines int, said map[string]map[id.ID]bool) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	n := 0
	for ; scanner.Scan(); n++ {
		if n == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		line := scanner.Text() // whole: a write this short to a pipe is atomic
		key, err := strconv.ParseUint(line[min(2, len(line)):], 10, 64)
		if err != nil || said[line[:1]] == nil {
			t.Fatalf("the process said %q", line)
		}
		said[line[:1]][id.ID(key)] = true
	}
	if err := cmd.Wait(); err == nil || n <= lines {
		t.Fatalf("the process ended by itself after %d lines: %v", n, err)
	}
}
