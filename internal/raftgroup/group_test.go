package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
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

func TestOptionsListEveryFault(t *testing.T) {
	o := Options{Bootstrap: []Voter{{ID: "a"}, {ID: "a", Addr: "x"}}, Join: true, SnapshotBytes: -1}
	_, err := Open(t.Context(), o)
	for _, want := range []string{"Dir", "Name", "NodeID", "Machine", "SnapshotBytes", "exclude", "Transport", "empty field", "twice", "does not list"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in: %v", want, err)
		}
	}
}

// TestPacking proves that commands queued behind a busy log share entries and
// that each proposer gets its own answer.
func TestPacking(t *testing.T) {
	gate := make(chan struct{})
	o := options(t.TempDir(), newLedger())
	o.wrapStore = func(_ string, s store) store { return &gatedStore{store: s, gate: gate} }
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

// TestSnapshotsUnderLoad takes many snapshots while commands arrive, checks that
// the log stays short and that the last snapshot and the log give everything.
func TestSnapshotsUnderLoad(t *testing.T) {
	dir := t.TempDir()
	var mu sync.Mutex
	var failed []error
	o := options(dir, newLedger())
	o.SnapshotEntries, o.TrailingLogs = 20, 5
	o.Events = func(e Event) {
		if e.Kind == EventSnapshot && e.Err != nil {
			mu.Lock()
			failed = append(failed, e.Err)
			mu.Unlock()
		}
	}
	g := mustOpen(t, o)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			key := fmt.Sprintf("k%d", w)
			for i := range uint64(150) {
				if v, err := g.Propose(context.Background(), addCmd(key, 1)); err != nil || v != i+1 {
					t.Errorf("%s: %v, %v; want %d", key, v, err, i+1)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := g.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	s := g.Stats()
	first, err := g.log.FirstIndex()
	t.Logf("%d snapshots, log from %d to %d", s.Snapshots, first, s.LastIndex)
	if err != nil || s.Snapshots < 2 || s.LastIndex-first > 5 || s.SnapshotIndex != s.LastIndex {
		t.Errorf("%+v, first %d, %v", s, first, err)
	}
	if err := errors.Join(failed...); err != nil {
		t.Error(err)
	}
	want := stateOf(t, g)
	mustClose(t, g)
	if found, err := filepath.Glob(filepath.Join(dir, snapsName, "*")); err != nil || len(found) != 1 {
		t.Errorf("snapshots kept: %v, %v", found, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "state-000001")); err != nil {
		t.Fatal(err)
	}
	g = mustOpen(t, o)
	if got := stateOf(t, g); !maps.Equal(got, want) || len(got) != 4 {
		t.Errorf("rebuilt %v, want %v", got, want)
	}
	mustClose(t, g)
}

// BenchmarkPropose measures acknowledged commands by the number of proposers.
func BenchmarkPropose(b *testing.B) {
	for _, n := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchPropose(b, n, options(b.TempDir(), newLedger())) })
	}
}

// BenchmarkMirrors is BenchmarkPropose by the number of mirrors.
func BenchmarkMirrors(b *testing.B) {
	for _, mirrors := range []int{1, 3} {
		for _, n := range []int{1, 64} {
			b.Run(fmt.Sprintf("mirrors=%d/%d", mirrors, n), func(b *testing.B) {
				o := mirrored(b, mirrors, newLedger())
				o.Mirrors = mirrors
				benchPropose(b, n, o)
			})
		}
	}
}

func benchPropose(b *testing.B, n int, o Options) {
	g, err := Open(b.Context(), o)
	if err != nil {
		b.Fatal(err)
	}
	cmd := addCmd(string(make([]byte, 91)), 1) // 100 bytes
	cmd[9] = 'k'
	var left sync.WaitGroup
	b.ResetTimer()
	for w := range n {
		left.Go(func() {
			for i := w; i < b.N; i += n {
				if _, err := g.Propose(context.Background(), cmd); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	left.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
	if err := g.Close(); err != nil {
		b.Fatal(err)
	}
}
