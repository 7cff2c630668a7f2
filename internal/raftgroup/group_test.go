package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

func TestProposeAndReopen(t *testing.T) {
	dir := t.TempDir()
	l := newLedger()
	begin := time.Now()
	g := mustOpen(t, options(dir, l))
	t.Logf("open on an empty directory: %v", time.Since(begin))
	mustAdd(t, g, "a", 2, 2)
	mustAdd(t, g, "a", 3, 5)
	if _, err := g.Propose(t.Context(), []byte("rno")); !errors.Is(err, errRefused) {
		t.Fatalf("refusal: %v", err)
	}
	if _, err := g.Propose(t.Context(), make([]byte, MaxCommandBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Fatalf("too large: %v", err)
	}
	if err := g.Fresh(t.Context()); err != nil {
		t.Fatalf("fresh: %v", err)
	}
	if err := g.WaitApplied(t.Context(), g.AppliedIndex()); err != nil {
		t.Fatal(err)
	}
	mustClose(t, g)
	if _, err := g.Propose(t.Context(), addCmd("a", 1)); !errors.Is(err, ErrStopped) {
		t.Fatalf("propose after close: %v", err)
	}
	if err := g.View(func(pebble.Reader) error { return nil }); !errors.Is(err, ErrStopped) {
		t.Fatalf("view after close: %v", err)
	}
	l = newLedger()
	begin = time.Now()
	g = mustOpen(t, options(dir, l))
	t.Logf("open again: %v", time.Since(begin))
	mustAdd(t, g, "a", 1, 6)
	if l.applies != 1 {
		t.Errorf("%d commands applied, 1 expected: entries of the state were not skipped", l.applies)
	}
	if got := l.snapshot(); !maps.Equal(got, map[string]uint64{"a": 6}) {
		t.Errorf("in memory: %v", got)
	}
	mustClose(t, g)
}

// TestPacking proves that commands queued behind a busy log share entries and
// that each proposer gets its own answer.
func TestPacking(t *testing.T) {
	gate := make(chan struct{})
	o := options(t.TempDir(), newLedger())
	o.wrapStore = func(s store) store { return &gatedStore{store: s, gate: gate} }
	close(gate)
	g := mustOpen(t, o)
	defer mustClose(t, g)
	before := g.Stats()
	const n = 3000
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			key := fmt.Sprintf("k%d", i)
			if v, err := g.Propose(context.Background(), addCmd(key, uint64(i))); err != nil || v != uint64(i) {
				t.Errorf("%s: %v, %v", key, v, err)
			}
		})
	}
	wg.Wait()
	s := g.Stats()
	entries := s.LastIndex - before.LastIndex
	t.Logf("%d commands in %d entries", n, entries)
	if s.Commands-before.Commands != n || entries > n/4 {
		t.Errorf("%d commands took %d entries", s.Commands-before.Commands, entries)
	}
}

func TestStateLost(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot=%v", snapshot), func(t *testing.T) {
			dir := t.TempDir()
			o := options(dir, newLedger())
			o.TrailingLogs = 1
			g := mustOpen(t, o)
			for i := range 20 {
				mustAdd(t, g, "a", 1, uint64(i+1))
			}
			if snapshot {
				if err := g.Checkpoint(); err != nil {
					t.Fatal(err)
				}
			}
			mustAdd(t, g, "b", 7, 7)
			mustClose(t, g)
			if err := os.RemoveAll(filepath.Join(dir, "state-000001")); err != nil {
				t.Fatal(err)
			}
			l := newLedger()
			o.Machine = l
			g = mustOpen(t, o)
			want := map[string]uint64{"a": 20, "b": 7}
			if got := stateOf(t, g); !maps.Equal(got, want) {
				t.Errorf("state %v, want %v", got, want)
			}
			if got := l.snapshot(); !maps.Equal(got, want) {
				t.Errorf("in memory %v, want %v", got, want)
			}
			mustAdd(t, g, "a", 1, 21)
			mustClose(t, g)
		})
	}
}
