package feed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/feed/timeline"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

// localGroup is a group of one that keeps its log in memory: what
// internal/raftgroup does, without disks, so that long histories run in little
// time. A crash takes the Pebble instance back to what was synced; the log
// brings the rest back.
type localGroup struct {
	mu      sync.Mutex // guards all below
	fs      *vfs.MemFS
	db      *pebble.DB
	machine *Machine
	log     [][]byte
	applied uint64
}

var localApplied = []byte("\x00applied")

func newLocalGroup(t testing.TB) *localGroup {
	g := &localGroup{fs: vfs.NewCrashableMem()}
	g.open(t)
	t.Cleanup(func() { g.close(t) })
	return g
}

func (g *localGroup) open(t testing.TB) {
	t.Helper()
	db, err := pebble.Open("db", &pebble.Options{FS: g.fs, Logger: quiet{}, MemTableSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	g.db, g.machine, g.applied = db, NewMachine(), 0
	if v, closer, err := db.Get(localApplied); err == nil {
		g.applied = parseBE(v)
		closer.Close()
	} else if !errors.Is(err, pebble.ErrNotFound) {
		t.Fatal(err)
	}
	if err := g.machine.Restored(db); err != nil {
		t.Fatal(err)
	}
	for g.applied < uint64(len(g.log)) {
		if _, err := g.apply(g.log[g.applied]); err != nil && !refusal(err) {
			t.Fatalf("replay: %v", err)
		}
	}
}

func (g *localGroup) close(t testing.TB) {
	if err := g.db.Close(); err != nil {
		t.Error(err)
	}
}

// crash gives up the instance and reopens what a power cut leaves of it.
func (g *localGroup) crash(t testing.TB, rng *rand.Rand) {
	clone := g.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
	g.close(t)
	g.fs = clone
	g.open(t)
}

func (g *localGroup) apply(cmd []byte) (any, error) {
	b := g.db.NewIndexedBatch()
	v, err := g.machine.Apply(b, cmd)
	if err != nil && b.Count() != 0 {
		panic(fmt.Sprintf("a refused command has written: %v", err))
	}
	g.applied++
	if err := b.Set(localApplied, be(nil, g.applied), nil); err != nil {
		panic(err)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		panic(err)
	}
	g.machine.Applied(g.db, g.applied)
	return v, err
}

func (g *localGroup) Propose(ctx context.Context, cmd []byte) (any, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.log = append(g.log, bytes.Clone(cmd))
	return g.apply(cmd)
}

func (g *localGroup) Snapshot() (*raftgroup.Snapshot, error) { panic("not used") }

func (g *localGroup) View(f func(pebble.Reader) error) error { return f(g.db) }

func (g *localGroup) AppliedIndex() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.applied
}

func (g *localGroup) Ready(context.Context) error               { return nil }
func (g *localGroup) WaitApplied(context.Context, uint64) error { return nil }
func (g *localGroup) Fresh(context.Context) error               { return nil }
func (g *localGroup) Leading() error                            { return nil }
func (g *localGroup) Working() error                            { return nil }
func (g *localGroup) Staleness() time.Duration                  { return 0 }

func (g *localGroup) Members() ([]raftgroup.Member, error) {
	return []raftgroup.Member{{ID: "n1", Voter: true, Leader: true}}, nil
}

// dump is every key and value but the group's own.
func (g *localGroup) dump(t testing.TB) []string {
	var out []string
	err := store{g.db}.scan([]byte{tabMeta}, []byte{0xff}, func(k, v []byte) error {
		out = append(out, fmt.Sprintf("%x=%x", k, v))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

type quiet struct{}

func (quiet) Infof(string, ...any)      {}
func (quiet) Errorf(string, ...any)     {}
func (quiet) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// house is a feed on a local group, with a clock and ids of its own.
type house struct {
	t     testing.TB
	group *localGroup
	clock *clock.Fake
	feed  *Feed
	tune  func(*Options)
	dir   string

	mu   sync.Mutex // guards next
	next id.ID

	stop func() // ends Run; nil: not running

	sweepRows int // 0: as shipped
}

var testStart = time.Date(2026, time.March, 1, 12, 0, 0, 0, time.UTC)

func newHouse(t testing.TB, tune func(*Options)) *house {
	h := &house{t: t, group: newLocalGroup(t), clock: clock.NewFake(testStart), tune: tune, dir: filepath.Join(t.TempDir(), "timelines")}
	h.open()
	t.Cleanup(h.close)
	return h
}

func (h *house) open() {
	o := Options{
		Group: h.group, Machine: h.group.machine, Member: "n1", Clock: h.clock, TimelineDirs: []string{h.dir},
		Mint:     func(context.Context) (id.ID, error) { return h.mint(), nil },
		Timeline: timeline.Options{CacheBytes: 1 << 20, MemoryBytes: 1 << 20},
	}
	if h.tune != nil {
		h.tune(&o)
	}
	f, err := Open(o)
	if err != nil {
		h.t.Fatal(err)
	}
	group := h.group
	f.snapshot = func() (pebble.Reader, error) { return group.db.NewSnapshot(), nil }
	if h.sweepRows > 0 {
		f.sweepRows = h.sweepRows
	}
	h.feed = f
}

func (h *house) close() {
	h.halt()
	if h.feed != nil {
		if err := h.feed.Close(); err != nil {
			h.t.Error(err)
		}
		h.feed = nil
	}
}

// run starts Run in the background; halt ends it.
func (h *house) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.feed.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			h.t.Errorf("Run: %v", err)
		}
	}
}

func (h *house) halt() {
	if h.stop != nil {
		h.stop()
		h.stop = nil
	}
}

// mint hands out ids that ascend and follow the clock.
func (h *house) mint() id.ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.next = max(h.next+1, id.Make(id.MillisOf(h.clock.Now()), 7, 0))
	return h.next
}

// check wants the state to be without findings.
func (h *house) check() {
	h.t.Helper()
	err := h.feed.Check(context.Background(), func(f Finding) { h.t.Errorf("%x: %s", f.Key, f.Text) })
	if err != nil {
		h.t.Fatal(err)
	}
}

// user makes an account.
func (h *house) user(handle string) id.ID {
	h.t.Helper()
	u, _, err := h.feed.CreateAccount(context.Background(), NewAccount{
		Handle: handle, Name: handle, PasswordHash: "hash",
		Session: NewSession{TokenHash: tokenHash(handle), ExpiresAt: h.clock.Now().Add(24 * time.Hour)},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return u.ID
}

func tokenHash(s string) (h [32]byte) {
	copy(h[:], "token of "+s)
	return h
}

// sweepNow sweeps as of a clock that nobody doubts.
func (h *house) sweepNow() (time.Duration, error) {
	return h.feed.sweepThrough(context.Background(), h.feed.now())
}

// upload takes a photo to Pending.
func (h *house) upload(owner id.ID, d Details) id.ID {
	h.t.Helper()
	ctx := context.Background()
	photo := h.reserve(owner)
	blob := h.mint()
	if err := h.feed.Intend(ctx, photo, blob); err != nil {
		h.t.Fatal(err)
	}
	if err := h.feed.Stored(ctx, photo, master(blob), &d); err != nil {
		h.t.Fatal(err)
	}
	return photo
}

func (h *house) reserve(owner id.ID) id.ID {
	h.t.Helper()
	photo, err := h.feed.BeginUpload(context.Background(), owner, UploadSpec{
		Size: 1000, ContentType: "image/jpeg", ExpiresAt: h.clock.Now().Add(15 * time.Minute),
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return photo
}

func master(blob id.ID) Master {
	return Master{
		Blob: blob, Cookie: id.Cookie(blob) ^ 0xabcdef, Size: 1000, ContentType: "image/jpeg",
		Digest: [32]byte{1, 2, 3}, Width: 40, Height: 30,
	}
}

func rendition(blob id.ID) Rendition {
	return Rendition{
		Blob: blob, Cookie: id.Cookie(blob) ^ 0xfedcba, Placeholder: "LKO2", Colour: "#aabbcc",
		Variants: []Variant{{1, 150, 150, 9000}, {2, 320, 240, 20000}},
	}
}

// ready publishes a pending photo.
func (h *house) ready(photo id.ID) error {
	ctx := context.Background()
	blob := h.mint()
	if err := h.feed.Intend(ctx, photo, blob); err != nil {
		return err
	}
	return h.feed.MarkReady(ctx, photo, rendition(blob))
}

// post is upload and ready.
func (h *house) post(owner id.ID, d Details) id.ID {
	h.t.Helper()
	photo := h.upload(owner, d)
	if err := h.ready(photo); err != nil {
		h.t.Fatal(err)
	}
	return photo
}

// must fails the test on an error.
func (h *house) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// wants fails the test unless err is target.
func (h *house) wants(err, target error) {
	h.t.Helper()
	if !errors.Is(err, target) {
		h.t.Fatalf("got %v, want %v", err, target)
	}
}
