package raftgroup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// steps calls at before each thing a start does to a disk: every call of the
// log store that writes, and every operation on a file or directory beside it.
// One step is taken at a time.
type steps struct {
	mu sync.Mutex
	at func(name string) error
}

func (s *steps) step(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at(name)
}

func (s *steps) fs(under vfs.FS, name string) vfs.FS {
	return errorfs.Wrap(under, errorfs.InjectorFunc(func(op errorfs.Op) error {
		kind, ok := stepKinds[op.Kind]
		if !ok {
			return nil // nothing differs between a stop before it and one after it
		}
		return s.step(fmt.Sprintf("%s %s %s", name, kind, filepath.Base(op.Path)))
	}))
}

var stepKinds = map[errorfs.OpKind]string{
	errorfs.OpCreate: "create", errorfs.OpLink: "link", errorfs.OpRemove: "remove", errorfs.OpRemoveAll: "remove all",
	errorfs.OpRename: "rename", errorfs.OpReuseForWrite: "reuse", errorfs.OpMkdirAll: "make", errorfs.OpFileWrite: "write",
	errorfs.OpFileWriteAt: "write", errorfs.OpFileSync: "sync", errorfs.OpFileSyncData: "sync", errorfs.OpFileSyncTo: "sync",
}

// options routes a group's disk operations through s.
func (s *steps) options(o Options, state vfs.FS) Options {
	o.FS = s.fs(state, "state")
	o.disk = s.fs(vfs.Default, "disk")
	o.wrapStore = func(_ string, under store) store { return steppedStore{under, s} }
	return o
}

type steppedStore struct {
	store
	s *steps
}

// around holds the lock during the operation: no picture shows half of it.
func (s steppedStore) around(name string, op func() error) error {
	s.s.mu.Lock()
	defer s.s.mu.Unlock()
	if err := s.s.at("store " + name); err != nil {
		return err
	}
	return op()
}

func (s steppedStore) StoreLogs(l []*raft.Log) error {
	return s.around("append", func() error { return s.store.StoreLogs(l) })
}

func (s steppedStore) DeleteRange(a, b uint64) error {
	return s.around("truncate", func() error { return s.store.DeleteRange(a, b) })
}

func (s steppedStore) Set(k, v []byte) error {
	return s.around("set "+string(k), func() error { return s.store.Set(k, v) })
}

func (s steppedStore) SetUint64(k []byte, v uint64) error {
	return s.around("set "+string(k), func() error { return s.store.SetUint64(k, v) })
}

// opensAndWorks opens a directory after a first start that did not end, works
// with it and opens it again.
func opensAndWorks(t *testing.T, o Options) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for want := range uint64(2) {
		o.Machine = newLedger()
		g, err := Open(ctx, o)
		if err != nil {
			t.Fatalf("open %d: %v", want+1, err)
		}
		mustAdd(t, g, "a", 1, want+1)
		mustClose(t, g)
	}
}

// picture is what a power cut leaves.
type picture struct {
	step  string
	files map[string][]byte // log and identity
	state *vfs.MemFS
}

// TestFirstStartPowerCut cuts the power before every step of the first start:
// the next start must succeed.
func TestFirstStartPowerCut(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d (repeat: put it in place of the clock's in TestFirstStartPowerCut)", seed)
	r := rand.New(rand.NewPCG(seed, 5))
	dir := filepath.Join(t.TempDir(), "group")
	state := vfs.NewCrashableMem()
	var pictures []picture
	s := &steps{at: func(name string) error {
		p := picture{step: name, files: map[string][]byte{}}
		for _, file := range []string{logName, logName + tmpSuffix, recordName, recordName + tmpSuffix, identityName, identityName + tmpSuffix} {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err == nil {
				p.files[file] = b
			} else if !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
		p.state = state.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 100, r.IntN(101)}[len(pictures)%3], RNG: r})
		pictures = append(pictures, p)
		return nil
	}}
	mustClose(t, mustOpen(t, s.options(options(dir, newLedger()), state)))
	t.Logf("%d pictures", len(pictures))
	named := map[string]bool{}
	for i, p := range pictures {
		dir := filepath.Join(t.TempDir(), "group")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		for name, b := range p.files {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		named[p.step] = true
		o := options(dir, nil)
		o.FS = p.state
		if !t.Run(fmt.Sprintf("%d, before %s", i, p.step), func(t *testing.T) { opensAndWorks(t, o) }) {
			return
		}
	}
	for _, step := range []string{"store set CurrentTerm", "store append", "disk rename raft.db.tmp", "disk rename identity.tmp"} {
		if !named[step] {
			t.Errorf("no picture before %q", step)
		}
	}
}

// TestFirstStartDiskFails lets every step of the first start fail, and all that
// follow it, as a disk does that has gone: the next start must succeed.
func TestFirstStartDiskFails(t *testing.T) {
	for n, failed := 1, true; failed; n++ {
		dir := filepath.Join(t.TempDir(), "group")
		taken, name := 0, ""
		s := &steps{at: func(step string) error {
			if strings.HasPrefix(step, "state") { // TestStateWriteFails
				return nil
			}
			if taken++; taken < n {
				return nil
			}
			if taken == n {
				name = step
			}
			return errDisk
		}}
		o := options(dir, newLedger())
		g, err := Open(t.Context(), s.options(o, vfs.Default))
		if err == nil {
			mustClose(t, g)
		} else if !errors.Is(err, errDisk) {
			t.Fatalf("step %d, %s: %v", n, name, err)
		}
		failed = name != ""
		if failed && err == nil {
			t.Errorf("step %d, %s: the group opened on a disk that is gone", n, name)
		}
		t.Run(fmt.Sprintf("%d, at %s", n, name), func(t *testing.T) { opensAndWorks(t, o) })
	}
}

// dieEnv holds a number and a directory when the test binary runs as a process
// that starts a group there for the first time and kills itself at that step.
const dieEnv = "RAFTGROUP_TEST_DIE"

func dieMain(spec string) {
	number, dir, _ := strings.Cut(spec, ":")
	left, err := strconv.Atoi(number)
	if err == nil {
		s := &steps{at: func(name string) error {
			// What is written outlives the process without a sync. Pebble takes
			// many alike steps to its newest format; the power cuts show each.
			if strings.Contains(name, " sync ") || strings.Contains(name, "format-version") {
				return nil
			}
			if left--; left == 0 {
				_, _ = os.Stdout.WriteString(name)
				self, err := os.FindProcess(os.Getpid())
				if err == nil {
					err = self.Kill()
				}
				if err == nil {
					select {} // nothing of this process happens any more
				}
				return err
			}
			return nil
		}}
		_, err = Open(context.Background(), s.options(options(dir, newLedger()), vfs.Default))
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Print("open")
	os.Exit(0)
}

// TestFirstStartKill kills a real process at the steps of its first start, see
// dieMain; the next start must succeed.
func TestFirstStartKill(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		dir := filepath.Join(t.TempDir(), "group")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d:%s", dieEnv, n, dir))
		out, err := cmd.Output()
		if bytes.HasPrefix(out, []byte("error")) || (err == nil && !bytes.Equal(out, []byte("open"))) {
			t.Fatalf("step %d: %v, %q", n, err, out)
		}
		t.Run(fmt.Sprintf("%d, at %s", n, out), func(t *testing.T) { opensAndWorks(t, options(dir, nil)) })
		if err == nil || t.Failed() {
			t.Logf("%d steps", n-1)
			return
		}
	}
}

// TestNamesSyncedFirst: a start that was killed may have left the log under a
// name that is not yet durable. The next one syncs it before it makes anything
// that says the directory is not new.
func TestNamesSyncedFirst(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "group")
	mustClose(t, mustOpen(t, options(dir, newLedger())))
	remove(t, filepath.Join(dir, identityName))
	remove(t, filepath.Join(dir, "state-000001"))
	var seen []string
	s := &steps{at: func(name string) error { seen = append(seen, name); return nil }}
	mustClose(t, mustOpen(t, s.options(options(dir, newLedger()), vfs.Default)))
	synced := -1
	for i, name := range seen {
		if name == "disk sync group" && synced < 0 {
			synced = i
		}
		if strings.HasPrefix(name, "state make state-") {
			if synced < 0 {
				t.Fatalf("not synced before the state was made: %q", seen[:i+1])
			}
			return
		}
	}
	t.Fatalf("no state was made: %q", seen)
}

// TestEmptyLogIsRefused: a log file without its first entry has lost it.
func TestEmptyLogIsRefused(t *testing.T) {
	dir := t.TempDir()
	o := options(dir, newLedger())
	o.disk, o.wrapStore, o.FS = vfs.Default, func(_ string, s store) store { return s }, vfs.Default
	withLog(t, dir, func(s store) error { return s.SetUint64([]byte("CurrentTerm"), 1) })
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "empty") {
		t.Fatalf("%v", err)
	}
}
