package raftgroup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := childDir(); dir != "" {
		childMain(dir)
		return
	}
	if spec := os.Getenv(dieEnv); spec != "" {
		dieMain(spec)
		return
	}
	if inChild() {
		os.Exit(m.Run())
	}
	goleak.VerifyTestMain(m)
}

// ledger is the state machine of the tests. A command is an op, a key, a value:
//
//	'a' key n   adds n to a counter and answers its new value
//	'r' key     is refused
//	'x'         is of an unknown version
//	'b'         cannot be applied, by a fault of the replica
//	'w' key     is refused after it wrote, which is a fault of the machine
//	'p'         panics
//
// It counts what it applies, so that a test sees an entry applied twice.
type ledger struct {
	mu      sync.Mutex
	mem     map[string]uint64 // what Applied and Restored made of the state
	applied uint64
	dirty   map[string]uint64
	applies int
}

var errRefused = errors.New("refused")

func newLedger() *ledger { return &ledger{mem: map[string]uint64{}, dirty: map[string]uint64{}} }

func addCmd(key string, n uint64) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{'a'}, n), key...)
}

func (l *ledger) Apply(b *pebble.Batch, cmd []byte) (any, error) {
	l.applies++
	switch cmd[0] {
	case 'r':
		return nil, fmt.Errorf("%w: %s", errRefused, cmd[1:])
	case 'x':
		return nil, fmt.Errorf("%w: x", ErrUnsupported)
	case 'b':
		return nil, fmt.Errorf("%w: %w", ErrBroken, errDisk)
	case 'w':
		return nil, errors.Join(b.Set([]byte("k"), []byte("v"), nil), errRefused)
	case 'p':
		panic("a fault of the machine")
	}
	key := cmd[9:]
	have := uint64(0)
	if v, c, err := b.Get(key); err == nil {
		have = binary.BigEndian.Uint64(v)
		c.Close()
	} else if !errors.Is(err, pebble.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	have += binary.BigEndian.Uint64(cmd[1:])
	if err := b.Set(key, binary.BigEndian.AppendUint64(nil, have), nil); err != nil {
		return nil, err
	}
	l.dirty[string(key)] = have
	return have, nil
}

func (l *ledger) Applied(_ *pebble.DB, index uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.Copy(l.mem, l.dirty)
	clear(l.dirty)
	l.applied = index
}

func (l *ledger) Restored(db *pebble.DB) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	clear(l.dirty)
	l.mem, err = contents(db)
	return err
}

func (l *ledger) snapshot() map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.mem)
}

// contents reads every counter of a state.
func contents(r pebble.Reader) (map[string]uint64, error) {
	out := map[string]uint64{}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{1}})
	if err != nil {
		return nil, err
	}
	for ok := it.First(); ok; ok = it.Next() {
		out[string(it.Key())] = binary.BigEndian.Uint64(it.Value())
	}
	return out, errors.Join(it.Error(), it.Close())
}

func options(dir string, m Machine) Options {
	return Options{Dirs: []string{dir}, Name: "test", NodeID: "n1", Machine: m}
}

func mustOpen(t *testing.T, o Options) *Group {
	t.Helper()
	g, err := Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return g
}

func mustClose(t testing.TB, g *Group) {
	t.Helper()
	if err := g.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

func mustAdd(t testing.TB, g *Group, key string, n, want uint64) {
	t.Helper()
	got, err := g.Propose(context.Background(), addCmd(key, n))
	if err != nil {
		t.Fatalf("add %s: %v", key, err)
	}
	if got != want {
		t.Fatalf("add %s: the counter is %v, want %d", key, got, want)
	}
}

func stateOf(t testing.TB, g *Group) map[string]uint64 {
	t.Helper()
	var out map[string]uint64
	err := g.View(func(r pebble.Reader) (err error) {
		out, err = contents(r)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
