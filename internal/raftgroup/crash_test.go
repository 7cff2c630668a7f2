package raftgroup

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// crashStore takes a picture of the disk at a chosen operation on the log: the
// log file, which is synced at every operation, and what Pebble's crash file
// system says is left of state and snapshots.
type crashStore struct {
	store
	w *crashWorld

	mu   sync.Mutex
	left int // operations until the picture
}

func (s *crashStore) around(op func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left--
	if s.left == 0 && s.w.before {
		s.w.takePicture()
	}
	err := op()
	if s.left == 0 && !s.w.before {
		s.w.takePicture()
	}
	return err
}

func (s *crashStore) StoreLogs(l []*raft.Log) error {
	return s.around(func() error { return s.store.StoreLogs(l) })
}

func (s *crashStore) DeleteRange(a, b uint64) error {
	return s.around(func() error { return s.store.DeleteRange(a, b) })
}

func (s *crashStore) SetUint64(k []byte, v uint64) error {
	return s.around(func() error { return s.store.SetUint64(k, v) })
}

// crashWorld is one disk and what its users know.
type crashWorld struct {
	t      *testing.T
	rand   *rand.Rand
	dir    string
	fs     *vfs.MemFS
	before bool // the picture is taken before the operation, else after it

	mu      sync.Mutex
	acked   map[string]uint64 // highest acknowledged value
	asked   map[string]uint64 // how often 1 was added
	taken   bool
	picture *vfs.MemFS
	log     []byte
	atCrash map[string]uint64 // acked when the picture was taken
}

func (w *crashWorld) takePicture() {
	w.mu.Lock()
	w.atCrash = maps.Clone(w.acked)
	w.mu.Unlock()
	w.picture = w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.rand.IntN(101), RNG: w.rand})
	b, err := os.ReadFile(filepath.Join(w.dir, logName))
	if err != nil {
		w.t.Error(err)
	}
	w.log, w.taken = b, true
}

func (w *crashWorld) options(l *ledger, ops int) Options {
	o := options(w.dir, l)
	o.FS = w.fs
	o.SnapshotEntries = 15
	o.TrailingLogs = 3
	o.wrapStore = func(_ string, s store) store { return &crashStore{store: s, w: w, left: ops} }
	return o
}

// run works until the picture was taken.
func (w *crashWorld) run(g *Group) {
	var wg sync.WaitGroup
	for k := range 3 {
		wg.Go(func() {
			key := fmt.Sprintf("k%d", k)
			for range 40 {
				w.mu.Lock()
				w.asked[key]++
				w.mu.Unlock()
				v, err := g.Propose(context.Background(), addCmd(key, 1))
				if err != nil {
					w.t.Errorf("propose: %v", err)
					return
				}
				w.mu.Lock()
				w.acked[key] = v.(uint64)
				w.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestCrashes cuts the power at random operations, many times in a row on the
// same disk. Nothing acknowledged is lost, nothing is applied twice, the state
// in memory is the one on disk, and every restart works by itself.
func TestCrashes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d (repeat: put it in place of the clock's in TestCrashes)", seed)
	r := rand.New(rand.NewPCG(seed, 4))
	for disk := range 3 {
		w := &crashWorld{t: t, rand: r, dir: t.TempDir(), fs: vfs.NewCrashableMem(), acked: map[string]uint64{}, asked: map[string]uint64{}}
		rebuilt := 0
		for round := range 8 {
			w.before, w.taken = r.IntN(2) == 0, false
			ops := 1 + r.IntN(60)
			if round == 0 {
				ops = max(ops, 6) // the first picture shows a directory that was opened once
			}
			l := newLedger()
			o := w.options(l, ops)
			o.Events = func(e Event) {
				if e.Kind == EventRebuilding {
					rebuilt++
				}
			}
			g, err := Open(t.Context(), o)
			if err != nil {
				t.Fatalf("disk %d, round %d: %v", disk, round, err)
			}
			w.check(g, l)
			w.run(g)
			mustClose(t, g)
			if t.Failed() {
				t.Fatalf("disk %d, round %d", disk, round)
			}
			if w.taken {
				w.fs = w.picture
				if err := os.WriteFile(filepath.Join(w.dir, logName), w.log, 0o600); err != nil {
					t.Fatal(err)
				}
				w.acked = w.atCrash
			}
		}
		t.Logf("disk %d: rebuilt %d times", disk, rebuilt)
	}
}

// check compares what is there with what was promised, and takes it as the new
// truth: a command in flight may or may not have made it.
func (w *crashWorld) check(g *Group, l *ledger) {
	have := stateOf(w.t, g)
	if mem := l.snapshot(); !maps.Equal(mem, have) {
		w.t.Errorf("in memory %v, on disk %v", mem, have)
	}
	for key, n := range w.asked {
		if have[key] < w.acked[key] || have[key] > n {
			w.t.Errorf("%s is %d; acknowledged %d, asked for %d", key, have[key], w.acked[key], n)
		}
	}
	w.acked = have
	w.asked = maps.Clone(have)
}
