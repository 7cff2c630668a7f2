package raftgroup

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// mirrorWorld is crashWorld with four disks, of which any two may be lost.
type mirrorWorld struct {
	crashWorld
	root string
	dirs []string

	ops   sync.RWMutex // held for reading by every call of a log, for writing while a picture is taken
	left  atomic.Int64 // calls of a log until the picture
	saved string       // the picture of the logs

	victim string // the disk that fails or hangs
	after  atomic.Int64
	hang   chan struct{} // nil: it fails
}

// worldStore is the log of one mirror in a mirrorWorld.
type worldStore struct {
	store
	w   *mirrorWorld
	dir string
}

func (s worldStore) around(op func() error) error {
	w := s.w
	if w.left.Add(-1) == 0 {
		w.ops.Lock()
		w.picture4()
		w.ops.Unlock()
	}
	if s.dir == w.victim && w.after.Add(-1) < 0 {
		if w.hang != nil {
			<-w.hang
		}
		return errDisk
	}
	w.ops.RLock()
	defer w.ops.RUnlock()
	return op()
}

func (s worldStore) StoreLogs(l []*raft.Log) error {
	return s.around(func() error { return s.store.StoreLogs(l) })
}

func (s worldStore) DeleteRange(a, b uint64) error {
	return s.around(func() error { return s.store.DeleteRange(a, b) })
}

func (s worldStore) Set(k, v []byte) error {
	return s.around(func() error { return s.store.Set(k, v) })
}

func (s worldStore) SetUint64(k []byte, v uint64) error {
	return s.around(func() error { return s.store.SetUint64(k, v) })
}

// picture4 keeps what a power cut would leave now: no log is being written.
func (w *mirrorWorld) picture4() {
	w.mu.Lock()
	w.atCrash = maps.Clone(w.acked)
	w.mu.Unlock()
	copyTree(w.t, w.root, w.saved)
	w.picture = w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.rand.IntN(101), RNG: w.rand})
	w.taken = true
}

func (w *mirrorWorld) options(l *ledger) Options {
	return Options{
		Dirs: w.dirs, Mirrors: 3, Name: "test", NodeID: "n1", Machine: l, Scratch: scratch, FS: w.fs,
		SnapshotEntries: 15, TrailingLogs: 3, Patience: 200 * time.Millisecond,
		wrapStore: func(dir string, s store) store { return worldStore{s, w, dir} },
	}
}

// copies is how many mirrors the newest record names.
func (w *mirrorWorld) copies() int {
	var newest *record
	for _, dir := range w.dirs {
		if r, err := readRecord(vfs.Default, dir); err != nil {
			w.t.Fatal(err)
		} else if r != nil && (newest == nil || r.Epoch > newest.Epoch) {
			newest = r
		}
	}
	if newest == nil {
		return 0 // cut off before the first one
	}
	return len(newest.Mirrors)
}

// wipe empties n disks.
func (w *mirrorWorld) wipe(n int) {
	for _, i := range w.rand.Perm(len(w.dirs))[:n] {
		wipe(w.t, w.dirs[i])
		if err := w.fs.RemoveAll(filepath.Dir(w.dirs[i])); err != nil {
			w.t.Fatal(err)
		}
	}
}

// trouble takes one disk away under the running group, in one of three ways.
func (w *mirrorWorld) trouble(g *Group) {
	switch dir := w.dirs[w.rand.IntN(len(w.dirs))]; w.rand.IntN(4) {
	case 0:
		w.hang = make(chan struct{})
		fallthrough
	case 1:
		w.victim = dir
	case 2:
		g.Lost(dir, errDisk)
		wipe(w.t, dir)
		if err := w.fs.RemoveAll(filepath.Dir(dir)); err != nil {
			w.t.Error(err)
		}
		if w.rand.IntN(2) == 0 {
			g.Usable(dir)
		}
	default:
		wipe(w.t, dir) // nobody notices until something is written there
	}
}

// TestMirrorCrashes cuts the power at random calls, many times in a row, while a
// disk fails, hangs or vanishes, and empties others before the next start; never
// more than two. Nothing acknowledged is lost.
func TestMirrorCrashes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d (repeat: put it in place of the clock's in TestMirrorCrashes)", seed)
	r := rand.New(rand.NewPCG(seed, 6))
	for world := range 3 {
		root := filepath.Join(t.TempDir(), "root")
		w := &mirrorWorld{root: root, saved: filepath.Join(t.TempDir(), "saved"),
			crashWorld: crashWorld{t: t, rand: r, fs: vfs.NewCrashableMem(), acked: map[string]uint64{}, asked: map[string]uint64{}}}
		for i := range 4 {
			w.dirs = append(w.dirs, filepath.Join(root, fmt.Sprintf("disk%d", i+1), "group"))
		}
		for round := range 8 {
			w.taken, w.victim, w.hang = false, "", nil
			w.left.Store(int64(1 + r.IntN(150)))
			if round == 0 {
				w.left.Store(1000) // nothing is promised before the first start has ended
			}
			w.after.Store(int64(r.IntN(20)))
			l := newLedger()
			var told atomic.Int64 // a disk that is slow for another reason counts too
			o := w.options(l)
			o.Events = func(e Event) {
				if e.Kind == EventMirrorLost {
					told.Add(1)
				}
			}
			g, err := Open(t.Context(), o)
			if err != nil {
				t.Fatalf("world %d, round %d: %v", world, round, err)
			}
			w.check(g, l)
			untilMirrors(t, g, 3, w.dirs...)
			lost := int64(r.IntN(2))
			if lost > 0 {
				w.trouble(g)
			}
			w.run(g)
			if w.hang != nil {
				close(w.hang)
			}
			mustClose(t, g)
			if t.Failed() {
				t.Fatalf("world %d, round %d", world, round)
			}
			if w.taken {
				w.fs = w.picture
				copyTree(t, w.saved, w.root)
				w.acked = w.atCrash
			} else {
				w.fs = w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: r}) // locks of what was given up
			}
			// The power may have gone while mirrors were still being made anew.
			lost = max(lost, told.Load())
			if spare := min(2, w.copies()-1) - int(lost); spare > 0 {
				w.wipe(r.IntN(spare + 1))
			}
		}
	}
}

// TestKillMirrors is TestKill with four disks, of which two are emptied before
// each start.
func TestKillMirrors(t *testing.T) {
	root := t.TempDir()
	o := mirrored(t, 4, nil)
	for i := range o.Dirs {
		o.Dirs[i] = filepath.Join(root, fmt.Sprintf("disk%d", i+1), "group")
	}
	acked := map[string]uint64{}
	for round := range 5 {
		killChild(t, strings.Join(o.Dirs, ":"), 50+rand.IntN(300), acked)
		for _, i := range rand.Perm(4)[:rand.IntN(3)] {
			wipe(t, o.Dirs[i])
		}
		o.Machine = newLedger()
		g := mustOpen(t, o)
		have := stateOf(t, g)
		for key, v := range acked {
			if have[key] < v || have[key] > v+1 {
				t.Errorf("round %d: %s is %d, acknowledged was %d", round, key, have[key], v)
			}
			acked[key] = have[key]
		}
		untilMirrors(t, g, 3)
		mustClose(t, g)
	}
}

// TestStateDiskFails: Pebble can no longer write, or hangs, in the directory of
// the state, while the log there could still be written. The state moves. It runs
// in a process of its own, because the instance that is given up may keep its
// goroutines.
func TestStateDiskFails(t *testing.T) {
	if !inChild() {
		cmd := exec.Command(os.Args[0], "-test.run=^TestStateDiskFails$", "-test.v", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), childEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	for _, how := range []string{"fails", "hangs"} {
		t.Run(how, func(t *testing.T) {
			var broken atomic.Bool
			hang := make(chan struct{})
			defer close(hang)
			o := mirrored(t, 3, newLedger())
			inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
				if !broken.Load() || !strings.HasPrefix(op.Path, o.Dirs[0]) || op.Kind == errorfs.OpFileClose {
					return nil
				}
				if how == "hangs" {
					<-hang
				}
				if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
					return errDisk
				}
				return nil
			})
			o.FS = errorfs.Wrap(vfs.Default, inject)
			g := mustOpen(t, o)
			untilMirrors(t, g, 3)
			mustAdd(t, g, "a", 1, 1)
			broken.Store(true)
			filler := addCmd(strings.Repeat("z", 64<<10), 1)
			var want uint64
			for want = 2; !g.Mirrors()[1].State; want++ { // the WAL is written behind
				if how == "hangs" && want == 5 {
					g.Lost(o.Dirs[0], errDisk) // the owner watches disks
				}
				mustAdd(t, g, "a", 1, want)
				if _, err := g.Propose(context.Background(), filler); err != nil {
					t.Fatal(err)
				}
			}
			mustAdd(t, g, "a", 1, want)
			if got := stateOf(t, g)["a"]; got != want {
				t.Errorf("%d, want %d", got, want)
			}
			untilMirrors(t, g, 2, o.Dirs[0])
			mustClose(t, g)
			o.FS, o.Machine = nil, newLedger()
			o.Dirs = slices.Clone(o.Dirs)
			wipe(t, o.Dirs[0])
			g = mustOpen(t, o)
			if got := stateOf(t, g)["a"]; got != want {
				t.Errorf("opened again: %d, want %d", got, want)
			}
			mustClose(t, g)
		})
	}
}
