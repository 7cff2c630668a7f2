package server_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// scrub has everything read now.
func (h *house) scrub() server.ScrubTotals {
	h.t.Helper()
	t, err := h.tryScrub()
	if err != nil {
		h.t.Fatal(err)
	}
	return t
}

// tryScrub lets time go by for as long as it takes: a scrub is held to a pace.
func (h *house) tryScrub() (t server.ScrubTotals, err error) {
	h.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		t, err = h.s.ScrubNow(context.Background(), nil)
	}()
	h.wait("the scrub", func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	return t, err
}

// scrubbed are the findings of a kind of event so far.
func (h *house) scrubbed(kind server.EventKind) (out []server.ScrubFinding) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.Kind == kind {
			out = append(out, e.Scrub)
		}
	}
	return out
}

// rot inverts a bit of a file that may be in use, as a device does.
func (h *house) rot(name string, at int64) {
	h.t.Helper()
	if err := h.mem.Flip(name, at, 1); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = nil
}

func (h *house) bytesOf(name string) string {
	h.t.Helper()
	b, err := vfs.ReadFile(h.mem, name, 1<<30)
	if err != nil {
		h.t.Fatal(err)
	}
	return string(b)
}

// allShards are the shard files of every disk, with their bytes.
func (h *house) allShards() map[string]string {
	out := make(map[string]string)
	for n := range 6 {
		for _, f := range h.shardFiles(fmt.Sprintf("/disk%d", n+1)) {
			out[f] = h.bytesOf(f)
		}
	}
	return out
}

func (h *house) same(want map[string]string) {
	h.t.Helper()
	for name, b := range want {
		if h.bytesOf(name) != b {
			h.t.Errorf("%s has other bytes than before", name)
		}
	}
}

const shardBlock = 64 << 10

// spoil flips bits in shards so that everything can be computed: of each volume at
// most two shards lack the same block, and no shard both heads.
func (h *house) spoil(rng *rand.Rand, shards map[string]string, flips int) map[string][]int64 {
	h.t.Helper()
	var names []string
	for name := range shards {
		names = append(names, name)
	}
	slices.Sort(names)
	lost := make(map[string]map[string]bool) // by volume and block: the shards
	heads := make(map[string]int64)
	out := make(map[string][]int64)
	for n := 0; n < flips; {
		name := names[rng.IntN(len(names))]
		size := int64(len(shards[name]))
		off := rng.Int64N(size)
		base := name[strings.LastIndex(name, "/")+1:]
		blocks := (size - 16384 - 4096) / shardBlock // at least so many
		switch {
		case off < 8192 || off >= size-8192:
			end := min(off/8192, 1) // head, or tail
			if other, ok := heads[name]; ok && other != end {
				continue
			}
			heads[name] = end
		default:
			from, to := (off-8192)/shardBlock, (off-8192)/shardBlock
			if off >= size-8192-4096 { // the table: nothing is known of any block
				from, to = 0, blocks+1
			}
			if !clear(lost, base[:8], name, from, to) {
				continue
			}
		}
		if err := h.mem.Flip(name, off, 1<<rng.IntN(8)); err != nil {
			h.t.Fatal(err)
		}
		out[name] = append(out[name], off)
		n++
	}
	return out
}

// clear notes that a shard loses blocks, if no two others have.
func clear(lost map[string]map[string]bool, v, name string, from, to int64) bool {
	key := func(b int64) string { return fmt.Sprint(v, " ", b) }
	for b := from; b <= to; b++ {
		if l := lost[key(b)]; !l[name] && len(l) >= 2 {
			return false
		}
	}
	for b := from; b <= to; b++ {
		if lost[key(b)] == nil {
			lost[key(b)] = make(map[string]bool)
		}
		lost[key(b)][name] = true
	}
	return true
}

// A thousand flipped bits, a thousand found, in their place, and every byte is again
// what it was.
func TestScrubRepairsEveryFlip(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 137))
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 120, 200_000)
	h.encodeAll()
	h.released()
	shards := h.allShards()
	if sum := h.scrub(); sum.Corrupt+sum.Notes+sum.Quarantined != 0 || sum.Items == 0 {
		t.Fatalf("of sound disks: %+v", sum)
	}
	flips := h.spoil(rng, shards, 1000)
	h.forget()
	sum := h.scrub()
	found := h.scrubbed(server.EventScrubFound)
	missed := 0
	for name, offs := range flips {
		for _, off := range offs {
			table := int64(len(shards[name])) - 8192 - 4096 // when it is damaged, it stands for the blocks
			if !slices.ContainsFunc(found, func(f server.ScrubFinding) bool {
				return f.Dir+"/"+f.File == name && f.Kind == server.ScrubShard && (f.Offset == table || f.Offset <= off && off < f.Offset+f.Length)
			}) {
				if missed++; missed < 5 {
					t.Errorf("%s at %d of %d was not found", name, off, len(shards[name]))
				}
			}
		}
	}
	if missed > 0 || sum.Corrupt != int64(len(found)) || sum.Repaired != sum.Corrupt || sum.Unrepairable != 0 {
		t.Errorf("%d of 1000 missed; %d findings, %+v", missed, len(found), sum)
	}
	if n := len(h.scrubbed(server.EventScrubRepaired)); n != len(found) {
		t.Errorf("%d repairs are told of %d findings", n, len(found))
	}
	h.same(shards)
	h.checkAll(all)
	if sum := h.scrub(); sum.Corrupt != 0 {
		t.Errorf("once more: %+v", sum)
	}
}

// Shard files that are gone, empty, cut off or another's are lost shards.
func TestScrubMakesShardsAgain(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 12, 60_000)
	h.encodeAll()
	h.released()
	shards := h.allShards()
	one, two := h.shardFiles("/disk1"), h.shardFiles("/disk2")
	want := map[string]server.ScrubKind{}
	cut := func(name string, size int64, kind server.ScrubKind) {
		f, err := h.mem.OpenWrite(name)
		if err == nil {
			err = errors.Join(f.Truncate(size), f.Sync(), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		want[name] = kind
	}
	cut(one[0], 0, server.ScrubEmpty)
	cut(one[1], 8192, server.ScrubShort)
	cut(one[2], int64(len(shards[one[2]])+4096), server.ScrubShard)
	cut(two[0], int64(len(shards[two[0]])-1), server.ScrubShort)
	for _, name := range two[1:3] {
		if err := h.mem.Remove(name); err != nil {
			t.Fatal(err)
		}
		want[name] = server.ScrubMissing
	}
	h.forget()
	sum := h.scrub()
	if sum.Corrupt != 6 || sum.Repaired != 6 || sum.Unrepairable != 0 {
		t.Errorf("%+v", sum)
	}
	for _, f := range h.scrubbed(server.EventScrubFound) {
		if name := f.Dir + "/" + f.File; want[name] != f.Kind {
			t.Errorf("%s is %s, want %q: %v", name, f.Kind, want[name], f.Err)
		}
	}
	h.same(shards)
	h.checkAll(all)
}

// More than m shards of a stripe are damaged: that is said, and nothing is made worse.
func TestScrubUnrepairable(t *testing.T) {
	h := newHouse(t, sixDisks())
	h.fill(originals, 6, 60_000)
	h.encodeAll()
	h.released()
	v := h.coded()[0].Volume
	n := 0
	for name := range h.allShards() {
		if strings.Contains(name, fmt.Sprintf("/%08x-", uint32(v))) && n < 3 {
			h.rot(name, 8192+100)
			n++
		}
	}
	before := h.allShards()
	h.forget()
	sum := h.scrub()
	if sum.Corrupt != 3 || sum.Repaired != 0 || sum.Unrepairable != 3 {
		t.Errorf("%+v", sum)
	}
	for _, f := range h.scrubbed(server.EventScrubUnrepairable) {
		if f.Volume != v || f.Offset != 8192 || f.Length != shardBlock || !strings.Contains(f.Err.Error(), "lost") {
			t.Errorf("%+v", f)
		}
	}
	h.same(before)
}

// Copies of delete logs that are damaged, gone or behind are made again.
func TestScrubMakesDeleteLogsAgain(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 12, 30_000)
	h.encodeAll()
	h.released()
	for _, b := range all[:6] {
		h.delete(b)
	}
	v := h.coded()[0].Volume
	file := func(disk int) string {
		return fmt.Sprintf("/disk%d/shards/%08x-%08x/%s", disk, uint32(v), 1, volume.DeleteLogName(v))
	}
	settled := h.bytesOf(file(1))[:8192+128]
	h.rot(file(1), 8192+70) // of a twin: nothing is lost with it
	h.rot(file(2), 4096+40)
	if err := h.mem.Remove(file(3)); err != nil {
		t.Fatal(err)
	}
	h.forget()
	sum := h.scrub()
	if sum.Corrupt != 3 || sum.Repaired != 3 {
		t.Errorf("%+v", sum)
	}
	for _, f := range h.scrubbed(server.EventScrubFound) {
		if f.Kind != server.ScrubDeleteLog || f.Volume != v {
			t.Errorf("%+v", f)
		}
	}
	for n := 1; n <= 6; n++ {
		if got := h.bytesOf(file(n)); got[:len(settled)] != settled {
			t.Errorf("%s has other bytes", file(n))
		}
	}
	h.delete(all[6])
	h.stop()
	h.start()
	for _, b := range all[:7] {
		h.gone(b)
	}
	h.checkAll(all[7:])
	if sum := h.scrub(); sum.Corrupt != 0 {
		t.Errorf("once more: %+v", sum)
	}
}

// Flips in plain volumes are told with their place and never served; what can be made
// again from what is there is.
func TestScrubPlainVolumes(t *testing.T) {
	h := newHouse(t, server.Options{Maintenance: 1 << 40})
	all := h.fill(originals, 8, 20_000)
	v := h.info(writing).Volume
	if err := h.s.Seal(t.Context(), v, nil); err != nil {
		t.Fatal(err)
	}
	more := h.fill(originals, 3, 20_000)
	if sum := h.scrub(); sum.Corrupt+sum.Notes != 0 || sum.Items != 3 || sum.Bytes < 11*20_000 {
		t.Fatalf("%+v", sum)
	}
	sealed, open := "/data/volumes/"+volume.FileName(v, 1), "/data/volumes/"+volume.FileName(h.info(writing).Volume, 1)
	at := int64(strings.Index(h.bytesOf(sealed), string(content(all[3].blob, 0, 20_000))))
	h.rot(sealed, at+5000)
	h.rot(sealed, 100) // a superblock
	h.rot("/data/volumes/"+volume.IndexName(v, 1), 140)
	second := int64(strings.Index(h.bytesOf(open), string(content(more[1].blob, 0, 20_000))))
	h.rot(open, second+100)
	h.rot(open, 4096+100)
	h.forget()
	sum := h.scrub()
	if sum.Corrupt != 5 || sum.Repaired != 3 || sum.Unrepairable != 2 {
		t.Errorf("%+v", sum)
	}
	for _, f := range h.scrubbed(server.EventScrubUnrepairable) {
		blob, want := all[3].blob, at
		if "/data/"+f.File == open {
			blob, want = more[1].blob, second
		}
		if f.Kind != "data" || f.Key != blob || f.Offset > want || f.Offset+f.Length < want+20_000 || f.Length > 21_000 {
			t.Errorf("%+v", f)
		}
	}
	for _, b := range []stored{all[3], more[1]} {
		if got, err := h.s.Read(t.Context(), b.blob, 0, b.cookie); !errors.Is(err, volume.ErrCorrupt) || len(got.Data) > 0 {
			t.Errorf("%d bytes, %v", len(got.Data), err)
		}
	}
	h.checkAll(append(append(all[:3:3], all[4:]...), more[0], more[2]))
}

// In its grace a source is repaired from the shards, whatever is left of it.
func TestScrubRestoresASource(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 18, 30_000)
	h.encodeAll()
	var sources []string
	for _, i := range h.volumes() {
		if i.Disk != 0 && i.State == "sealed" {
			sources = append(sources, i.Dir+"/volumes/"+volume.FileName(i.Volume, i.Generation))
		}
	}
	before := make(map[string]string)
	for _, s := range sources {
		before[s] = h.bytesOf(s)
	}
	h.rot(sources[0], 12_000)
	h.rot(sources[0], 8192+20) // a header
	h.rot(sources[1], 4096+50)
	sum := h.scrub()
	if sum.Corrupt < 3 || sum.Repaired != sum.Corrupt {
		t.Errorf("%+v: %+v", sum, h.scrubbed(server.EventScrubUnrepairable))
	}
	h.same(before)
	h.released()
	h.checkAll(all)
}
