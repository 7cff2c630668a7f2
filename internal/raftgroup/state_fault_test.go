package raftgroup

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestStateWriteFails: Pebble cannot write its WAL any more. The group stops,
// the process lives, and after a restart everything acknowledged is there, from
// the log. It runs in a process of its own, because the instance that is given
// up keeps its goroutines.
func TestStateWriteFails(t *testing.T) {
	if !inChild() {
		cmd := exec.Command(os.Args[0], "-test.run=^TestStateWriteFails$", "-test.v")
		cmd.Env = append(os.Environ(), childEnv+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	dir := t.TempDir()
	mem := vfs.NewCrashableMem()
	var broken atomic.Bool
	inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.HasSuffix(op.Path, ".log") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errDisk
		}
		return nil
	})
	o := options(dir, newLedger())
	o.FS = errorfs.Wrap(mem, inject)
	g := mustOpen(t, o)
	mustAdd(t, g, "a", 1, 1)
	broken.Store(true)
	acked := uint64(1)
	var err error
	filler := addCmd(strings.Repeat("z", 64<<10), 1)
	for range 1000 { // the WAL is written behind
		var v any
		if v, err = g.Propose(context.Background(), addCmd("a", 1)); err != nil {
			break
		}
		acked = v.(uint64)
		if _, err = g.Propose(context.Background(), filler); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrStopped) || !errors.Is(err, errDisk) {
		t.Fatalf("after %d: %v", acked, err)
	}
	mustClose(t, g)
	broken.Store(false)
	l := newLedger()
	o = options(dir, l)
	o.FS = mem.CrashClone(vfs.CrashCloneCfg{}) // the lock of the given-up instance is not in it
	g = mustOpen(t, o)
	got := stateOf(t, g)
	if got["a"] < acked || got["a"] > acked+1 || !maps.Equal(got, l.snapshot()) {
		t.Errorf("%d, acknowledged %d", got["a"], acked)
	}
	mustClose(t, g)
}

const childEnv = "RAFTGROUP_TEST_PLAIN"

// inChild reports whether the test binary runs as a child whose goroutines are
// not counted.
func inChild() bool { return os.Getenv(childEnv) != "" }

// TestMachinePanics: a fault of the Machine is not taken for one of the disk.
func TestMachinePanics(t *testing.T) {
	for name, r := range map[string]any{"text": "oops", "runtime error": runtimeError()} {
		if diskPanic(r) != nil {
			t.Errorf("%s: taken for a fault of the disk", name)
		}
	}
}

func runtimeError() (r any) {
	defer func() { r = recover() }()
	s := []int{}
	return s[len(os.Args)+1] // out of range, which the compiler must not see
}
