package directory

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
	"hayloft/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func mustOpen(t testing.TB, dir string, c clock.Clock) *Directory {
	t.Helper()
	d, err := Open(t.Context(), Options{Dirs: []string{dir}, Member: "m1", Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustClose(t testing.TB, d *Directory) {
	t.Helper()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// must returns the value of a call that may not fail.
func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestOptions(t *testing.T) {
	if _, err := Open(t.Context(), Options{}); err == nil || !strings.Contains(err.Error(), "Dir") || !strings.Contains(err.Error(), "Member") {
		t.Fatalf("%v", err)
	}
}

// TestRoad walks the whole road once: register, lease, open, mint, locate,
// restart, go on with the same volume, replace it, take over from a lost node.
func TestRoad(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	c := clock.NewFake(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
	d := mustOpen(t, dir, c)
	node := must(d.RegisterNode(ctx, NodeSpec{Name: "a", Rack: "r1"}))(t)
	disk := must(d.RegisterDisk(ctx, DiskSpec{Node: node.ID, UUID: [16]byte{1}, Capacity: 1 << 40}))(t)
	if again := must(d.RegisterNode(ctx, NodeSpec{Name: "a", Rack: "r1"}))(t); again != node {
		t.Fatalf("registered again: %+v, %+v", again, node)
	}
	req := AcquireRequest{Node: node.ID, Incarnation: 11, Kind: Variants, Disk: disk.ID}
	lease := must(d.AcquireSlot(ctx, req))(t)
	if lease.To-lease.From != 60_000 || lease.Map != d.Map().Version() || KindOf(lease.Slot) != Variants {
		t.Fatalf("lease %+v, version %d", lease, d.Map().Version())
	}
	m := id.NewMinter(c, lease)
	v := must(d.OpenVolume(ctx, lease, []DiskID{disk.ID}, 1, m.Fence()))(t)
	if v.ID != 1 || v.Class != ClassVariants || v.State != StateOpen || !v.On(disk.ID) || !v.Unconfirmed {
		t.Fatalf("volume %+v", v)
	}
	v = must(d.ConfirmVolume(ctx, v.ID, v.Generation, 11))(t)
	if again := must(d.AbandonVolume(ctx, v.ID))(t); again.State != StateOpen || v.Unconfirmed || again.Unconfirmed {
		t.Fatalf("confirmed %+v, abandoned %+v", v, again)
	}
	blob := must(m.Mint())(t)
	if got, ok := d.Map().Locate(blob); !ok || got.ID != v.ID {
		t.Fatalf("located at %+v, %v", got, ok)
	}
	if _, ok := d.Map().Locate(id.Make(lease.From-1, lease.Slot, 0)); ok {
		t.Fatal("an id before the tile was located")
	}
	mustClose(t, d) // no surrender: a crash, as far as leases go

	d = mustOpen(t, dir, c)
	req.Incarnation = 12
	second := must(d.AcquireSlot(ctx, req))(t)
	if second.Slot != lease.Slot || second.From != lease.To {
		t.Fatalf("after the restart %+v, before %+v", second, lease)
	}
	m = id.NewMinter(c, second)
	later := must(m.Mint())(t)
	if got, ok := d.Map().Locate(later); !ok || got.ID != v.ID {
		t.Fatalf("the new incarnation does not go on with volume %d but %d, %v", v.ID, got.ID, ok)
	}
	v2 := must(d.OpenVolume(ctx, second, []DiskID{disk.ID}, 1, m.Fence()))(t)
	v2 = must(d.ConfirmVolume(ctx, v2.ID, 1, 12))(t)
	last := must(m.Mint())(t)
	for _, w := range []struct {
		blob id.ID
		want VolumeID
	}{{blob, v.ID}, {later, v.ID}, {last, v2.ID}} {
		if got, _ := d.Map().Locate(w.blob); got.ID != w.want {
			t.Fatalf("%d is located at %d, want %d", w.blob, got.ID, w.want)
		}
	}
	if got, _ := d.Map().Volume(v.ID); got.State != StateClosing {
		t.Fatalf("the replaced volume is %d", got.State)
	}
	if err := d.SurrenderLease(ctx, second, m.Surrender()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.RenewLease(ctx, second, 0, 0); !errors.Is(err, id.ErrLeaseLost) {
		t.Fatalf("renewed after the surrender: %v", err)
	}
	if tile, ok := d.Map().OpenTile(second.Slot); !ok || tile.Volume != v2.ID {
		t.Fatalf("a surrender closed the tile: %+v, %v", tile, ok)
	}
	if err := d.CloseSilent(ctx, second.Slot); err != nil {
		t.Fatal(err)
	}
	if got, ok := d.Map().Locate(last); !ok || got.ID != v2.ID {
		t.Fatalf("after the close: %+v, %v", got, ok)
	}
	mustClose(t, d)
}

func TestFollow(t *testing.T) {
	d := mustOpen(t, t.TempDir(), nil)
	defer mustClose(t, d)
	before := d.Map()
	got := make(chan *Map, 1)
	go func() {
		m, err := d.Wait(t.Context(), before.Version())
		if err != nil {
			t.Error(err)
		}
		got <- m
	}()
	node := must(d.RegisterNode(t.Context(), NodeSpec{Name: "a"}))(t)
	m := <-got
	if m.Version() != before.Version()+1 {
		t.Fatalf("version %d after %d", m.Version(), before.Version())
	}
	if _, ok := m.Node(node.ID); !ok {
		t.Fatal("the node is missing")
	}
	if _, ok := before.Node(node.ID); ok {
		t.Fatal("a former table has changed")
	}
	if fresh, err := d.Fresh(t.Context()); err != nil || fresh.Version() != m.Version() {
		t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Wait(ctx, m.Version()); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
}

func TestClosedIsUnavailable(t *testing.T) {
	d := mustOpen(t, t.TempDir(), nil)
	mustClose(t, d)
	if _, err := d.RegisterNode(t.Context(), NodeSpec{Name: "a"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if _, err := d.Fresh(t.Context()); !errors.Is(err, ErrUnavailable) {
		t.Errorf("%v", err)
	}
	if _, err := d.EnsureKey(t.Context(), strings.Repeat("x", 256)); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// TestStopped: a group that stopped for good is told as such: at once by Ready,
// and to a keeper, whose Mint then does not wait.
func TestStopped(t *testing.T) {
	d := mustOpen(t, t.TempDir(), nil)
	node := must(d.RegisterNode(t.Context(), NodeSpec{Name: "a"}))(t)
	if err := d.Ready(); err != nil {
		t.Fatalf("ready: %v", err)
	}
	l := d.Leaser(AcquireRequest{Node: node.ID, Incarnation: 1, Kind: IDs})
	lease := must(l.Acquire(t.Context(), 1))(t)
	lost := lease
	lost.Holder++
	if _, err := l.Renew(t.Context(), lost, 1); !errors.Is(err, id.ErrLeaseLost) || errors.Is(err, id.ErrStopped) {
		t.Errorf("renew while it works: %v", err)
	}
	if _, err := d.group.Propose(t.Context(), []byte{99, 99}); !errors.Is(err, raftgroup.ErrUnsupported) {
		t.Fatalf("%v", err)
	}
	for range 1_000 {
		if err := d.Ready(); !errors.Is(err, ErrUnavailable) || !errors.Is(err, raftgroup.ErrStopped) || !errors.Is(err, raftgroup.ErrUnsupported) {
			t.Fatalf("ready after the stop: %v", err)
		}
	}
	told := make(chan error, 100)
	k := id.NewKeeper(id.KeeperOptions{Leaser: d.Leaser(AcquireRequest{Node: node.ID, Incarnation: 2, Kind: IDs}), Failed: func(err error) { told <- err }})
	minted := make(chan error, 1)
	go func() { _, err := k.Mint(context.Background()); minted <- err }()
	select {
	case err := <-minted:
		if !errors.Is(err, id.ErrStopped) || !errors.Is(err, ErrUnavailable) || !errors.Is(err, raftgroup.ErrStopped) {
			t.Errorf("mint: %v", err)
		}
	case <-time.After(testenv.Patience):
		t.Fatal("Mint waits for a directory that has stopped")
	}
	if err := k.Close(t.Context()); err != nil || len(told) != 1 {
		t.Errorf("close: %v; told %d times", err, len(told))
	}
	if _, err := l.Renew(t.Context(), lease, 2); !errors.Is(err, id.ErrStopped) {
		t.Errorf("renew: %v", err)
	}
	if err := l.Surrender(t.Context(), lease, 2); !errors.Is(err, id.ErrStopped) {
		t.Errorf("surrender: %v", err)
	}
	mustClose(t, d)
	if err := d.Ready(); !errors.Is(err, raftgroup.ErrStopped) {
		t.Errorf("ready after close: %v", err)
	}
}

func TestKeys(t *testing.T) {
	ctx := t.Context()
	dir := t.TempDir()
	d := mustOpen(t, dir, nil)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := d.EnsureKey(ctx, "media"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	keys := must(d.EnsureKey(ctx, "media"))(t)
	if len(keys) != 1 || keys[0].Version != 1 || keys[0].Secret == [32]byte{} {
		t.Fatalf("%v", keys)
	}
	two := must(d.RotateKey(ctx, "media", 1))(t)
	if again := must(d.RotateKey(ctx, "media", 1))(t); len(two) != 2 || len(again) != 2 || two[1] != again[1] || two[0] != keys[0] || two[0].Secret == two[1].Secret {
		t.Fatalf("%v, %v", two, again)
	}
	if other := must(d.EnsureKey(ctx, "upload"))(t); other[0].Secret == keys[0].Secret {
		t.Fatal("two purposes have one secret")
	}
	text := fmt.Sprintf("%v %+v %#v %s", keys, keys, keys, keys[0])
	if strings.Contains(text, fmt.Sprint(keys[0].Secret[0])+" "+fmt.Sprint(keys[0].Secret[1])) || strings.Contains(text, "0x") {
		t.Fatalf("a secret is printed: %s", text)
	}
	mustClose(t, d)
	d = mustOpen(t, dir, nil)
	defer mustClose(t, d)
	if back := must(d.EnsureKey(ctx, "media"))(t); len(back) != 2 || back[0] != two[0] || back[1] != two[1] {
		t.Fatalf("after the restart %v, before %v", back, two)
	}
}

// TestKeepers lets several keepers mint against the real directory while it is
// reopened in between.
func TestKeepers(t *testing.T) {
	dir := t.TempDir()
	seen := map[id.ID]bool{}
	for round := range 3 {
		d := mustOpen(t, dir, nil)
		node := must(d.RegisterNode(t.Context(), NodeSpec{Name: "a"}))(t)
		var wg sync.WaitGroup
		var mu sync.Mutex
		for w := range 4 {
			wg.Go(func() {
				k := id.NewKeeper(id.KeeperOptions{Leaser: d.Leaser(AcquireRequest{
					Node: node.ID, Incarnation: uint64(round + 1), Worker: uint16(w), Kind: IDs,
				})})
				for range 500 {
					i, err := k.Mint(t.Context())
					if err != nil {
						t.Error(err)
						break
					}
					mu.Lock()
					if seen[i] || KindOf(i.Slot()) != IDs {
						t.Errorf("id %d twice or on slot %d", i, i.Slot())
					}
					seen[i] = true
					mu.Unlock()
				}
				if w%2 == 0 {
					if err := k.Close(t.Context()); err != nil {
						t.Error(err)
					}
					return
				}
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_ = k.Close(ctx) // a crash: most likely nothing was surrendered
			})
		}
		wg.Wait()
		mustClose(t, d)
	}
	if len(seen) != 3*4*500 {
		t.Fatalf("%d ids", len(seen))
	}
}

// TestStateIsRebuilt takes the working state away.
func TestStateIsRebuilt(t *testing.T) {
	dir := t.TempDir()
	d := mustOpen(t, dir, nil)
	node := must(d.RegisterNode(t.Context(), NodeSpec{Name: "a"}))(t)
	must(d.RegisterDisk(t.Context(), DiskSpec{Node: node.ID, UUID: [16]byte{1}}))(t)
	before := d.Map()
	mustClose(t, d)
	found, err := filepath.Glob(filepath.Join(dir, "state-*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("%v, %v", found, err)
	}
	if err := os.RemoveAll(found[0]); err != nil {
		t.Fatal(err)
	}
	d = mustOpen(t, dir, nil)
	defer mustClose(t, d)
	if err := sameTable(before, d.Map()); err != nil {
		t.Fatal(err)
	}
}

// fill opens n volumes as fast as it can.
func fill(t testing.TB, d *Directory, n int) {
	t.Helper()
	ctx := t.Context()
	node := must(d.RegisterNode(ctx, NodeSpec{Name: "a"}))(t)
	disk := must(d.RegisterDisk(ctx, DiskSpec{Node: node.ID, UUID: [16]byte{1}}))(t)
	const writers = 400
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			l, err := d.AcquireSlot(ctx, AcquireRequest{Node: node.ID, Incarnation: 5, Worker: uint16(w), Kind: Variants, Want: time.Hour})
			for k := 0; err == nil && k < n/writers; k++ {
				var v Volume
				if v, err = d.OpenVolume(ctx, l, []DiskID{disk.ID}, 1, l.From+id.Millis(k)); err == nil {
					_, err = d.ConfirmVolume(ctx, v.ID, 1, 5)
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestReady proves the bounds on the time to start.
func TestReady(t *testing.T) {
	dir := t.TempDir()
	begin := time.Now()
	d := mustOpen(t, dir, nil)
	empty := time.Since(begin)
	fill(t, d, 8_000)
	want := d.Map()
	mustClose(t, d)
	begin = time.Now()
	d = mustOpen(t, dir, nil)
	full := time.Since(begin)
	t.Logf("ready after %v on an empty directory, %v with %d volumes", empty, full, len(want.Volumes()))
	if err := sameTable(want, d.Map()); err != nil {
		t.Error(err)
	}
	mustClose(t, d)
	if empty > time.Second || full > 2*time.Second {
		t.Errorf("too slow: empty %v, full %v", empty, full)
	}
}

// BenchmarkOpenFull measures the start of a directory of 100,000 volumes.
func BenchmarkOpenFull(b *testing.B) {
	dir := b.TempDir()
	d := mustOpen(b, dir, nil)
	fill(b, d, 100_000)
	mustClose(b, d)
	for b.Loop() {
		d := mustOpen(b, dir, nil)
		b.StopTimer()
		mustClose(b, d)
		b.StartTimer()
	}
}

// BenchmarkLocate measures a look-up among 100,000 volumes.
func BenchmarkLocate(b *testing.B) {
	dir := b.TempDir()
	d := mustOpen(b, dir, nil)
	defer mustClose(b, d)
	fill(b, d, 100_000)
	m := d.Map()
	tiles := m.Tiles(100)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		t := tiles[n%len(tiles)]
		n++
		if _, ok := m.Locate(id.Make(t.From, t.Slot, 1)); !ok {
			b.Fatal("not located")
		}
	}
}

// BenchmarkRenew measures renewals by many holders at once.
func BenchmarkRenew(b *testing.B) {
	d := mustOpen(b, b.TempDir(), nil)
	defer mustClose(b, d)
	node := must(d.RegisterNode(b.Context(), NodeSpec{Name: "a"}))(b)
	l := must(d.AcquireSlot(b.Context(), AcquireRequest{Node: node.ID, Incarnation: 1, Kind: IDs}))(b)
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := d.RenewLease(context.Background(), l, 0, 0); err != nil {
				b.Error(err)
			}
		}
	})
}
