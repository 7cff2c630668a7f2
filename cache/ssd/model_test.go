package ssd

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
)

// lives is a tier through restarts, kills and failures, and what may not come back: a
// purge that the device has noted holds until the object is offered again.
type lives struct {
	*rig
	rng    *rand.Rand
	purged map[cache.Key]bool // true: noted on the device, so that a restart finds it
	broken bool               // calls fail now
	found  int
}

func (l *lives) anyBlob() id.ID { return id.ID(1 + l.rng.IntN(20)) }

func (l *lives) anyKey() cache.Key {
	return keyOf(l.anyBlob(), []string{"small", "large"}[l.rng.IntN(2)])
}

func (l *lives) step() string {
	switch n := l.rng.IntN(100); {
	case n < 45:
		k := l.anyKey()
		l.offer(k)
		delete(l.purged, k)
		return fmt.Sprint("offer ", k)
	case n < 75:
		k := l.anyKey()
		if l.has(k) {
			l.found++
			if _, purged := l.purged[k]; purged {
				l.Errorf("%v is back although it was purged", k)
			}
		}
		return fmt.Sprint("get ", k)
	case n < 88:
		blob := l.anyBlob()
		l.Purge(blob)
		synctest.Wait()
		for _, k := range keys(blob, blob+1) {
			l.purged[k] = !l.broken && l.Stats().Up
		}
		return fmt.Sprint("purge ", blob)
	case n < 93:
		return l.restart()
	case n < 96 && !l.broken:
		left := 1 + l.rng.IntN(40)
		l.broken = true
		l.fail(func(vfs.Op) vfs.Outcome {
			l.mu.Lock()
			defer l.mu.Unlock()
			if left--; left < 0 {
				return vfs.Outcome{}
			}
			return vfs.Outcome{Err: []error{unix.EIO, unix.ENOSPC}[left%2], Short: int64(left * 100)}
		})
		return "failures begin"
	default:
		l.fail(nil)
		time.Sleep(3 * time.Minute) // of the bubble: until the device is looked at again
		l.broken = false
		return "failures end"
	}
}

// restart ends this life, cleanly or not, and begins the next one. Purges that were not
// noted are forgotten: who may see what does not hang on them.
func (l *lives) restart() string {
	how, mem := "restart", l.mem
	if l.rng.IntN(2) == 0 {
		how, mem = "kill", l.mem.Kill()
	}
	l.fail(nil)
	l.close()
	l.broken = false
	l.open(mem)
	for k, noted := range l.purged {
		if !noted {
			delete(l.purged, k)
		}
	}
	return how
}

// TestRandomLives does anything in any order. What comes back is right byte for byte
// (has sees to that), and what was purged does not.
func TestRandomLives(t *testing.T) {
	for _, seed := range seeds(testenv.Rounds(8)) {
		synctest.Test(t, func(t *testing.T) {
			l := &lives{rig: newRig(t, small), rng: rand.New(rand.NewPCG(seed, 1)), purged: map[cache.Key]bool{}}
			l.open(l.mem)
			var story []string
			for range 600 {
				if story = append(story, l.step()); t.Failed() {
					t.Fatalf("repeat with: go test ./cache/ssd -run TestRandomLives -seed %d\n%v", seed, story[max(0, len(story)-150):])
				}
			}
			l.close()
			if l.found < 10 {
				t.Errorf("seed %d: %d found, the test proved little", seed, l.found)
			}
		})
	}
}
