package volume

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// contentOf is everything an index answers, and what goes with it.
func contentOf(v *Volume) string {
	s := v.Stats()
	out := fmt.Sprintf("%d needles %d tombstones %d live, end %d, deletes %d, damage %+v\n",
		s.Needles, s.Tombstones, s.LiveBytes, s.FileBytes, v.writer.deletes, v.damage)
	v.idx.Load().each(func(key id.ID, alt uint8, p place) bool {
		out += fmt.Sprintf("%v/%d %+v\n", key, alt, p)
		return true
	})
	return out
}

// filled is a closed volume with puts, deletes and a checkpoint, and what it
// answers.
func filled(t testing.TB, needles int) (*vfs.Mem, string) {
	t.Helper()
	mem := newMem(t, 1)
	v := create(t, mem)
	for key := id.ID(1); key <= id.ID(needles); key++ {
		mustAppend(t, v, testNeedle(key, 0, int(key%70)), testNeedle(key, 3, 10))
		if key%3 == 0 {
			if err := v.Delete(bg, key/2+1); err != nil {
				t.Fatal(err)
			}
		}
	}
	closeVolume(t, v)
	return mem, contentOf(v)
}

// TestCheckpointEqualsScan: what a checkpoint gives is what a walk gives, also
// when records follow it, and nothing below its end is walked.
func TestCheckpointEqualsScan(t *testing.T) {
	for _, n := range []int{0, 1, 30, 3000} {
		mem, want := filled(t, n)
		walked := int64(0)
		counting := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpRead && op.Name == testFile && op.Off >= dataStart {
				walked += op.Len
			}
			return vfs.Outcome{}
		}}
		v, events := openWatched(t, counting)
		if got := contentOf(v); got != want || len(*events) != 0 {
			t.Fatalf("%d: from the checkpoint:\n%s\nwant\n%s\n%+v", n, got, want, *events)
		}
		if walked > 300 { // the last record
			t.Fatalf("%d: read %d bytes of records", n, walked)
		}
		mustAppend(t, v, testNeedle(9999, 0, 100))
		if err := v.Delete(bg, 2); err != nil {
			t.Fatal(err)
		}
		killed := mem.Kill()
		closeVolume(t, v)
		v, events = openWatched(t, killed) // an old checkpoint and a tail
		got := contentOf(v)
		if count(*events, EventIndexRebuilt) != 0 || count(*events, EventRecovered) != 1 {
			t.Fatalf("%+v", *events)
		}
		closeVolume(t, v)
		forget(t, killed)
		v, _ = openWatched(t, killed)
		if scan := contentOf(v); scan != got {
			t.Fatalf("%d: from a walk:\n%s\nfrom checkpoint and tail\n%s", n, scan, got)
		}
		closeVolume(t, v)
	}
}

// replaceFile gives a file other content, durably.
func replaceFile(t testing.TB, m *vfs.Mem, name string, b []byte) {
	t.Helper()
	if err := vfs.WriteFile(m, name, b); err != nil {
		t.Fatal(err)
	}
}

func readAll(t testing.TB, m vfs.FS, name string) []byte {
	t.Helper()
	b, err := vfs.ReadFile(m, name, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCheckpointBitFlips: one flipped bit in any byte of a checkpoint, and a
// cut or an addition at any byte, is noticed, reported, and the index rebuilt.
func TestCheckpointBitFlips(t *testing.T) {
	t.Parallel()
	mem, want := filled(t, 40)
	b := readAll(t, mem, testCheckpoint)
	try := func(what string, content []byte) {
		m := mem.Kill()
		replaceFile(t, m, testCheckpoint, content)
		v, events := openWatched(t, m)
		if got := contentOf(v); got != want || len(*events) != 1 || (*events)[0].Kind != EventIndexRebuilt || (*events)[0].Err == nil {
			t.Fatalf("%s:\n%s\nwant\n%s\n%+v", what, got, want, *events)
		}
		closeVolume(t, v)
		if again := readAll(t, m, testCheckpoint); !slices.Equal(again, b) {
			t.Fatalf("%s: no new checkpoint at the close", what)
		}
	}
	for at := range b {
		flipped := slices.Clone(b)
		flipped[at] ^= 1 << (at % 8)
		try(fmt.Sprintf("bit flipped in byte %d", at), flipped)
		if at%7 == 0 {
			try(fmt.Sprintf("cut at %d", at), b[:at])
		}
	}
	try("longer", append(slices.Clone(b), 0))
}

// TestCheckpointOfAnother: a checkpoint of another file, generation or history
// is not used.
func TestCheckpointOfAnother(t *testing.T) {
	mem, want := filled(t, 20)
	b := readAll(t, mem, testCheckpoint)
	other, _ := filled(t, 20) // the same needles, another secret
	replaceFile(t, other, testCheckpoint, b)
	v, events := openWatched(t, other)
	if got := contentOf(v); got != want || count(*events, EventIndexRebuilt) != 1 {
		t.Fatalf("%s\n%+v", got, *events)
	}
	closeVolume(t, v)

	next := slices.Clone(b)
	next[20]++ // the generation
	replaceFile(t, mem, testCheckpoint, next)
	v, events = openWatched(t, mem)
	if got := contentOf(v); got != want || count(*events, EventIndexRebuilt) != 1 {
		t.Fatalf("%s\n%+v", got, *events)
	}
	closeVolume(t, v)

	// An older copy of the volume came back and went another way.
	past := newMem(t, 3)
	v = create(t, past)
	mustAppend(t, v, testNeedle(1, 0, 100))
	fork := past.Kill()
	mustAppend(t, v, testNeedle(2, 0, 100))
	closeVolume(t, v)
	v = reopen(t, fork)
	n := testNeedle(2, 0, 100)
	n.Cookie += 2
	mustAppend(t, v, n)
	mustAppend(t, v, testNeedle(3, 0, 100))
	closeVolume(t, v)
	replaceFile(t, fork, testCheckpoint, readAll(t, past, testCheckpoint))
	v, events = openWatched(t, fork)
	if count(*events, EventIndexRebuilt) != 1 {
		t.Fatalf("%+v", *events)
	}
	mustRead(t, v, n)
	mustRead(t, v, testNeedle(3, 0, 100))
	closeVolume(t, v)
}

// TestCheckpointNewerThanData: records that a checkpoint knows and the file
// has no more were acknowledged: they are dropped from the index and reported,
// and what may have been among them is "corrupt", not "not found", from then on.
func TestCheckpointNewerThanData(t *testing.T) {
	for _, lost := range []string{"needles", "deletes", "half a needle"} {
		mem := newMem(t, 1)
		v := create(t, mem)
		mustAppend(t, v, testNeedle(1, 0, 100))
		mustAppend(t, v, testNeedle(2, 0, 100))
		end := v.Stats().FileBytes
		mustAppend(t, v, testNeedle(3, 0, 100))
		if lost == "deletes" {
			if err := v.Delete(bg, 1); err != nil {
				t.Fatal(err)
			}
		}
		closeVolume(t, v)
		cut := end
		if lost == "half a needle" {
			cut += 100
		}
		f, err := mem.OpenWrite(testFile)
		if err == nil {
			err = errors.Join(f.Truncate(cut), f.Sync(), f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		for round := range 3 { // found, then kept by the next checkpoints
			v, events := openWatched(t, mem)
			if count(*events, EventIndexRebuilt) != 1-min(round, 1) || count(*events, EventRot) != 1 ||
				count(*events, EventVoid) != 0 || v.Stats().VoidBytes != 0 {
				t.Fatalf("%s, round %d: %+v", lost, round, *events)
			}
			if round == 0 && !strings.Contains((*events)[0].Err.Error(), "records are gone") {
				t.Fatal((*events)[0].Err)
			}
			wantErr(t, readErr(v, testNeedle(3, 0, 100)), ErrCorrupt)
			if lost == "deletes" {
				wantErr(t, readErr(v, testNeedle(1, 0, 100)), ErrCorrupt)
			} else {
				mustRead(t, v, testNeedle(1, 0, 100))
			}
			wantGap(t, v, end)
			mustAppend(t, v, testNeedle(id.ID(50+round), 0, 2000)) // behind the gap: certain
			mustRead(t, v, testNeedle(id.ID(50+round), 0, 2000))
			closeVolume(t, v)
		}
	}
}

// wantGap wants Check to say that the part of the file from off on is gone.
func wantGap(t *testing.T, v *Volume, off int64) {
	t.Helper()
	var found []Finding
	_, err := v.Check(bg, func(f Finding) { found = append(found, f) })
	if err != nil || len(found) != 1 || found[0].Kind != FindingGap || found[0].Offset != off || found[0].Length <= 0 || found[0].Err == nil {
		t.Fatalf("%+v, %v", found, err)
	}
}

// TestDamageSurvivesCheckpoint: rot and lost deletes found by a walk are known
// after later starts that walk nothing.
func TestDamageSurvivesCheckpoint(t *testing.T) {
	mem, _ := filled(t, 30)
	v := reopen(t, mem)
	p, _, deleted := v.idx.Load().get(5, 0)
	q, _, _ := v.idx.Load().get(20, 0)
	closeVolume(t, v)
	if !deleted {
		t.Fatal("5 is there")
	}
	for _, off := range []int64{p.off, p.off + headerSize, q.off} { // both tombstones of 5, and 20/0
		if err := mem.Flip(testFile, off+9, 1); err != nil {
			t.Fatal(err)
		}
	}
	forget(t, mem)
	v, events := openWatched(t, mem)
	if count(*events, EventRot) != 2 {
		t.Fatalf("%+v", *events)
	}
	want := contentOf(v)
	closeVolume(t, v)
	v, events = openWatched(t, mem)
	if got := contentOf(v); got != want || len(*events) != 2 {
		t.Fatalf("%s\nwant\n%s\n%+v", got, want, *events)
	}
	wantErr(t, readErr(v, testNeedle(5, 0, 5)), ErrCorrupt)
	wantErr(t, readErr(v, testNeedle(20, 0, 20)), ErrCorrupt)
	closeVolume(t, v)
}

// TestRotBelowCheckpoint: a header that rots below a checkpoint is found when
// it is read and by Check, and its key is still known.
func TestRotBelowCheckpoint(t *testing.T) {
	mem, _ := filled(t, 30)
	v := reopen(t, mem)
	p, _, _ := v.idx.Load().get(25, 0)
	closeVolume(t, v)
	if err := mem.Flip(testFile, p.off+20, 1); err != nil {
		t.Fatal(err)
	}
	v, events := openWatched(t, mem)
	wantErr(t, readErr(v, testNeedle(25, 0, 25)), ErrCorrupt)
	wantErr(t, readErr(v, testNeedle(1<<40, 0, 25)), ErrNotFound)
	if count(*events, EventCorruptRead) != 1 || len(*events) != 1 {
		t.Fatalf("%+v", *events)
	}
	var kinds []FindingKind
	if _, err := v.Check(bg, func(f Finding) { kinds = append(kinds, f.Kind) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(kinds, []FindingKind{FindingGap, FindingDangling}) {
		t.Fatal(kinds)
	}
	closeVolume(t, v)
}

// TestUnmarkedCheckpoint: records that only a checkpoint knows to be synced
// get a mark at the next open, so that losing the checkpoint later does not
// make damage to them look like a torn batch.
func TestUnmarkedCheckpoint(t *testing.T) {
	mem := newMem(t, 1)
	v := create(t, mem)
	mustAppend(t, v, testNeedle(1, 0, 100))
	mustAppend(t, v, testNeedle(2, 0, 100))
	v.checkpoint(v.snapshot())
	killed := mem.Kill()
	closeVolume(t, v)
	v, events := openWatched(t, killed)
	closeVolume(t, v)
	if len(*events) != 0 {
		t.Fatalf("%+v", *events)
	}
	p := place0(v, 2)
	forget(t, killed)
	if err := killed.Flip(testFile, p.off+20, 1); err != nil {
		t.Fatal(err)
	}
	v, events = openWatched(t, killed)
	if count(*events, EventRot) != 1 || count(*events, EventVoid) != 0 {
		t.Fatalf("%+v", *events)
	}
	wantErr(t, readErr(v, testNeedle(2, 0, 100)), ErrCorrupt)
	closeVolume(t, v)
}

// TestCheckpointFails: whichever call of writing a checkpoint fails, the volume
// takes no harm, nothing is left over but the old checkpoint or the new one,
// and it is reported.
func TestCheckpointFails(t *testing.T) {
	for _, errno := range []error{unix.EIO, unix.ENOSPC} {
		for at := int64(1); ; at++ {
			mem, _ := filled(t, 20)
			fault := &vfs.Fault{FS: mem}
			v, events := openWatched(t, fault)
			mustAppend(t, v, testNeedle(100, 0, 100))
			calls := int64(0)
			fault.Before = func(op vfs.Op) vfs.Outcome {
				if op.Kind == vfs.OpRead || op.Kind == vfs.OpSize {
					return vfs.Outcome{} // the walker asks again
				}
				if calls++; calls == at {
					return vfs.Outcome{Err: errno, Short: op.Len / 2}
				}
				return vfs.Outcome{}
			}
			v.checkpoint(v.snapshot())
			fault.Before = nil
			if calls < at {
				closeVolume(t, v)
				if at < 6 {
					t.Fatalf("%d calls", calls)
				}
				break
			}
			if count(*events, EventCheckpointFailed) != 1 {
				t.Fatalf("call %d: %+v", at, *events)
			}
			mustAppend(t, v, testNeedle(101, 0, 100))
			want := contentOf(v)
			killed := mem.Crash(uint64(at))
			closeVolume(t, v)
			v, events = openWatched(t, killed)
			v2 := strings.SplitN(contentOf(v), "\n", 2)[1] // a mark was added
			if v2 != strings.SplitN(want, "\n", 2)[1] || count(*events, EventIndexRebuilt) != 0 {
				t.Fatalf("call %d: %s\nwant\n%s\n%+v", at, v2, want, *events)
			}
			closeVolume(t, v)
		}
	}
}

// TestCheckpointsBehind: checkpoints are begun while puts go on, beside them,
// and each is right.
func TestCheckpointsBehind(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	put := make(chan *vfs.Mem, 64)
	fault := &vfs.Fault{FS: mem}
	fault.Before = func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpSyncDir && op.Name == "/d" {
			select {
			case put <- mem.Kill(): // a new name: a checkpoint, among others
			default:
			}
		}
		return vfs.Outcome{}
	}
	v, err := Create("/d", testIdent, Options{FS: fault, AllocChunk: 1 << 16, CheckpointBytes: 2000})
	if err != nil {
		t.Fatal(err)
	}
	for key := id.ID(1); v.Stats().Checkpoints < 8; key++ {
		mustAppend(t, v, testNeedle(key, 0, 500))
		mustRead(t, v, testNeedle(key, 0, 500))
		if key%4 == 0 {
			if err := v.Delete(bg, key/2); err != nil {
				t.Fatal(err)
			}
		}
	}
	want := contentOf(v)
	last := mem.Kill()
	closeVolume(t, v)
	close(put)
	for m := range put {
		if _, err := m.Stat(testCheckpoint); err != nil {
			continue
		}
		v, events := openWatched(t, m)
		if count(*events, EventIndexRebuilt)+count(*events, EventRot) != 0 {
			t.Fatalf("%+v", *events)
		}
		from := contentOf(v)
		closeVolume(t, v)
		forget(t, m)
		v, _ = openWatched(t, m)
		if scan := contentOf(v); scan != from {
			t.Fatalf("from the checkpoint:\n%s\nfrom a walk:\n%s", from, scan)
		}
		closeVolume(t, v)
	}
	v, _ = openWatched(t, last)
	if got := contentOf(v); strings.SplitN(got, "\n", 2)[1] != strings.SplitN(want, "\n", 2)[1] {
		t.Fatalf("%s\nwant\n%s", got, want)
	}
	closeVolume(t, v)
}

// TestPoisonedFromCheckpoint: a poisoned volume starts from its checkpoint,
// and writes none.
func TestPoisonedFromCheckpoint(t *testing.T) {
	mem, _ := filled(t, 20)
	fault := &vfs.Fault{FS: mem}
	v, _ := openWatched(t, fault)
	mustAppend(t, v, testNeedle(100, 0, 100))
	want := contentOf(v)
	before := readAll(t, mem, testCheckpoint)
	fault.Before = func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpSync && op.Name == testFile {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}
	wantErr(t, v.Append(bg, []Needle{testNeedle(101, 0, 100)}), ErrPoisoned)
	closeVolume(t, v)
	v, events := openWatched(t, mem)
	if got := contentOf(v); got != want || count(*events, EventIndexRebuilt) != 0 {
		t.Fatalf("%s\nwant\n%s\n%+v", got, want, *events)
	}
	closeVolume(t, v)
	if !slices.Equal(before, readAll(t, mem, testCheckpoint)) {
		t.Fatal("a poisoned volume wrote a checkpoint")
	}
}

// TestV1Checkpoint: the checkpoint of the closed v1 volume opens for ever.
func TestV1Checkpoint(t *testing.T) {
	dir := t.TempDir()
	for _, ext := range []string{".vol", ".ckpt"} {
		b, err := os.ReadFile(filepath.Join("testdata", "v1", "closed"+ext))
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(FileName(7, 1), ".vol") + ext
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var events []Event
	v, err := Open(dir, 7, Options{Events: func(e Event) { events = append(events, e) }})
	if err != nil {
		t.Fatal(err)
	}
	if s := v.Stats(); s.CheckpointEnd != s.FileBytes || len(events) != 0 {
		t.Fatalf("not used: %+v, %+v", s, events)
	}
	mustRead(t, v, testNeedle(6, 2, blocksAbove+1))
	mustRead(t, v, testNeedle(4, 0, 400))
	wantErr(t, readErr(v, testNeedle(2, 0, 900)), ErrNotFound)
	if _, err := v.Check(bg, func(f Finding) { t.Errorf("%+v", f) }); err != nil {
		t.Fatal(err)
	}
	closeVolume(t, v)
}

// FuzzCheckpoint: the decoder never panics, and what it accepts has entries
// that lie inside what it covers, in order.
func FuzzCheckpoint(f *testing.F) {
	mem, _ := filled(f, 12)
	v := reopen(f, mem)
	s, ident := v.seal, v.sb.Identity
	closeVolume(f, v)
	good := readAll(f, mem, testCheckpoint)
	f.Add(good)
	f.Add(good[:checkpointHead])
	f.Fuzz(func(t *testing.T, in []byte) {
		b := slices.Clone(in)
		for range 2 {
			m := newMem(t, 1)
			replaceFile(t, m, "/d/c", b)
			file, err := m.Open("/d/c")
			if err != nil {
				t.Fatal(err)
			}
			c, list, err := readCheckpoint(file, ident, &s, 1<<20)
			if err == nil {
				var ix index
				ix.adopt(list.chunks, c.blocks, list.tables)
				at := int64(dataStart)
				for e := range ix.all() {
					if e.off < at || e.off+e.size > c.covers || e.size < headerSize {
						t.Fatalf("accepted %+v behind %d, covers %d", e, at, c.covers)
					}
					at = e.off + e.size
					ix.get(e.key, e.alt)
				}
			}
			if len(b) < checkpointHead {
				return
			}
			resealCheckpoint(b, &s) // let the fuzzer past the checksums
		}
	})
}

// resealCheckpoint makes every checksum right, and the identity.
func resealCheckpoint(b []byte, s *seal) {
	le := binary.LittleEndian
	copy(b, checkpointMagic)
	le.PutUint32(b[16:], uint32(testIdent.Volume))
	le.PutUint32(b[20:], testIdent.Generation)
	le.PutUint32(b[124:], s.headCRC(b[:checkpointHead]))
	covers, left := int64(le.Uint64(b[24:])), le.Uint64(b[72:])
	number := int64(0)
	for rest := b[checkpointHead:]; len(rest) >= 4; number++ {
		n := int(min(left, chunkBlocks)) * blockSize
		if left == 0 {
			n = len(rest) - 4
		}
		if n+4 > len(rest) {
			return
		}
		le.PutUint32(rest[n:], s.sectionCRC(covers, number, rest[:n]))
		left -= min(left, chunkBlocks)
		rest = rest[n+4:]
	}
}

// TestRandomBlocks: lists of any shape survive encoding.
func TestRandomBlocks(t *testing.T) {
	for _, seed := range seeds(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		var ix index
		off := int64(dataStart)
		for range rng.IntN(2000) {
			off += align * rng.Int64N(3) * rng.Int64N(1<<rng.IntN(20))
			p := place{off, headerSize + align*rng.Int64N(1<<rng.IntN(23))}
			off += p.size
			ix.add(located{id.ID(1 + rng.Uint64N(1<<rng.IntN(64))), uint8(rng.UintN(256)), p})
		}
		at := place{off: dataStart}
		feed := newTableBuilder(ix.blocks.Load(), ix.slots(), 1).feeder()
		for n := range ix.blocks.Load() {
			b, got := ix.block(n), new(block)
			var buf [blockSize]byte
			b.encode(buf[:], b.head.Load())
			var err error
			if at, err = got.decode(buf[:], at.off+at.size, off, n, feed); err != nil {
				t.Fatalf("%v\n%s", err, repeatWith(t, seed))
			}
			for c, d := b.cursor(), got.cursor(); ; {
				more, more2 := c.next(), d.next()
				if more != more2 || c.located != d.located {
					t.Fatalf("%+v became %+v\n%s", c.located, d.located, repeatWith(t, seed))
				}
				if !more {
					break
				}
			}
		}
	}
}
