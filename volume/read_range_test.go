package volume

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// TestReadsOfARange: what ends in the first mebibyte of a record costs one
// read of the file, the rest one for the table and one for each mebibyte.
func TestReadsOfARange(t *testing.T) {
	var reads, bytesRead atomic.Int64
	fault := &vfs.Fault{FS: newMem(t, 1), Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead && op.Name == testFile {
			reads.Add(1)
			bytesRead.Add(op.Len)
		}
		return vfs.Outcome{}
	}}
	v := create(t, fault)
	v.checkpoints.begun = maxOffset // none is written meanwhile: that reads too
	key := id.ID(0)
	for _, c := range []struct{ size, off, n, reads, most int64 }{
		{100, 50, 10, 1, 1 << 10},
		{blocksAbove, 0, 1, 1, blocksAbove + 1<<10},
		{blocksAbove + 1000, 100, 1, 1, BlockSize + 2<<10},
		{200 << 10, 70_000, 50_000, 1, 128<<10 + 2<<10},
		{200 << 10, 0, 0, 1, 2 << 10},
		{1 << 20, 1<<20 - 1, 1, 1, 1<<20 + 2<<10},
		{1 << 20, 0, 1 << 20, 1, 1<<20 + 2<<10},
		{10 << 20, 0, 10, 1, BlockSize + 2<<10},
		{10 << 20, 0, 1 << 20, 1, 1<<20 + 2<<10},
		{10 << 20, 5 << 20, 10, 2, BlockSize + 4<<10},
		{10 << 20, 3 << 20, 1 << 20, 2, 1<<20 + 4<<10},
		{10 << 20, 2 << 20, 4 << 20, 5, 4<<20 + 8<<10},
		{10 << 20, 0, 10 << 20, 11, 10<<20 + 16<<10},
		{10 << 20, 11 << 20, 1, 1, 4 << 10}, // beyond the end
	} {
		key++
		n := testNeedle(key, 0, int(c.size))
		n.Master = testNeedle(3, 0, 0).Master
		mustAppend(t, v, n)
		reads.Store(0)
		bytesRead.Store(0)
		r, err := v.ReadRange(bg, n.Key, 0, n.Cookie, c.off, c.n)
		if err != nil {
			t.Fatal(err)
		}
		from := min(c.off, c.size)
		if !bytes.Equal(r.Data, n.Data[from:min(from+c.n, c.size)]) {
			t.Fatalf("%+v: other bytes", c)
		}
		r.Release()
		if reads.Load() != c.reads || bytesRead.Load() > c.most {
			t.Errorf("%+v: %d reads, %d bytes", c, reads.Load(), bytesRead.Load())
		}
	}
	closeVolume(t, v)
}

// rewriteHeader changes the header of a record on the device, checksum included.
func rewriteHeader(t *testing.T, v *Volume, key id.ID, change func(h *header, meta []byte) []byte) {
	t.Helper()
	p, _, _ := v.idx.Load().get(key, 0)
	b := make([]byte, p.size)
	if _, err := v.file.ReadAt(b, p.off); err != nil {
		t.Fatal(err)
	}
	h, err := v.seal.decodeHeader(b, p.off)
	if err != nil {
		t.Fatal(err)
	}
	data := b[h.metaLen() : int64(h.metaLen())+h.Length]
	meta := change(&h, append([]byte(nil), b[:h.metaLen()]...))
	v.seal.putHeader(meta, &h, p.off)
	if _, err := v.file.WriteVAt([][]byte{meta, data}, p.off); err != nil {
		t.Fatal(err)
	}
	v.idx.Load().put(key, 0, place{p.off, h.size()})
}

// TestWholeReadsCompareTheETag: a table that fits its blocks does not vouch for
// a data CRC that does not, however the needle is read as a whole.
func TestWholeReadsCompareTheETag(t *testing.T) {
	v := create(t, newMem(t, 1))
	for i, size := range []int{100, 200 << 10, 1 << 20, 1<<20 + 8000, 3 << 20} {
		n := testNeedle(id.ID(i+1), 0, size)
		mustAppend(t, v, n)
		rewriteHeader(t, v, n.Key, func(h *header, meta []byte) []byte {
			h.DataCRC ^= 1
			return meta
		})
		wantErr(t, readErr(v, n), ErrCorrupt)
		_, err := v.ReadRange(bg, n.Key, 0, n.Cookie, 0, MaxData)
		wantErr(t, err, ErrCorrupt)
	}
	closeVolume(t, v)
}

// TestLongMasterInfo: master info of a later version, longer than any of
// today's, is skipped by every way to read.
func TestLongMasterInfo(t *testing.T) {
	v := create(t, newMem(t, 1))
	var all []Needle
	for i, size := range []int{100, blocksAbove, blocksAbove + 1, 300 << 10, 3 << 20} {
		n := testNeedle(id.ID(i+1), 0, size)
		n.Master = testNeedle(3, 0, 0).Master
		all = append(all, n)
	}
	for _, n := range all {
		mustAppend(t, v, n, testNeedle(n.Key+100, 0, 70_000)) // the second makes room
		rewriteHeader(t, v, n.Key, func(h *header, meta []byte) []byte {
			longer := append([]byte(nil), meta[:headerSize+h.MasterLen]...)
			longer = append(append(longer, make([]byte, 60_000)...), meta[headerSize+h.MasterLen:]...)
			h.MasterLen += 60_000
			return longer
		})
	}
	for _, n := range all {
		mustRead(t, v, n)
		size := int64(len(n.Data))
		for _, off := range []int64{0, size / 2, size - 1} {
			r, err := v.ReadRange(bg, n.Key, 0, n.Cookie, off, 1000)
			if err != nil || !bytes.Equal(r.Data, n.Data[off:min(size, off+1000)]) || !r.Master.equal(n.Master) {
				t.Fatalf("%d bytes at %d: %v", size, off, err)
			}
			r.Release()
		}
	}
	closeVolume(t, v)
}

// TestRangeIsCutOff: a record that the file ends in is corrupt, whichever part
// of it is asked for, and counted once.
func TestRangeIsCutOff(t *testing.T) {
	v, events := openNew(t, newMem(t, 1))
	for i, size := range []int64{100, 300 << 10, 5 << 20} {
		n := testNeedle(id.ID(i+1), 0, int(size))
		mustAppend(t, v, n)
		p := place0(v, n.Key)
		end := p.off + p.size
		for _, missing := range []int64{size, size + 40, 8} {
			v.synced.Store(end - missing)
			before := count(*events, EventCorruptRead)
			_, err := v.ReadRange(bg, n.Key, 0, n.Cookie, size-1, 1)
			wantErr(t, err, ErrCorrupt)
			if got := count(*events, EventCorruptRead) - before; got != 1 {
				t.Fatalf("%d bytes without %d: %d events", size, missing, got)
			}
		}
		v.synced.Store(end)
		mustRead(t, v, n)
	}
	closeVolume(t, v)
}

// TestReadsDuringASync: while a batch is being synced everything that
// was acknowledged before is read, the needle that shares a page with the batch
// as well.
func TestReadsDuringASync(t *testing.T) {
	var armed atomic.Bool
	syncing, goOn := make(chan struct{}), make(chan struct{})
	fault := &vfs.Fault{FS: newMem(t, 1), Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpSync && op.Name == testFile && armed.CompareAndSwap(true, false) {
			close(syncing)
			<-goOn
		}
		return vfs.Outcome{}
	}}
	v := create(t, fault)
	all := []Needle{testNeedle(1, 0, 3<<20), testNeedle(2, 0, 200<<10), testNeedle(3, 0, 1000), testNeedle(4, 0, 10)}
	for _, n := range all {
		mustAppend(t, v, n)
	}
	armed.Store(true)
	late := testNeedle(9, 0, 5000)
	appended := make(chan error, 1)
	go func() { appended <- v.Append(context.Background(), []Needle{late}) }()
	<-syncing
	for _, n := range all {
		mustRead(t, v, n)
		r, err := v.ReadRange(bg, n.Key, 0, n.Cookie, 5, 5)
		if err != nil || !bytes.Equal(r.Data, n.Data[5:10]) {
			t.Fatal(err)
		}
		r.Release()
	}
	wantErr(t, readErr(v, late), ErrNotFound)
	select {
	case err := <-appended:
		t.Fatalf("acknowledged before the sync was over: %v", err)
	default:
	}
	close(goOn)
	if err := <-appended; err != nil {
		t.Fatal(err)
	}
	mustRead(t, v, late)
	closeVolume(t, v)
}

// TestOneBadSector: a part of the device that cannot be read takes the needles
// on it out of service, by name, and nothing else.
func TestOneBadSector(t *testing.T) {
	var from, to atomic.Int64
	fault := &vfs.Fault{FS: newMem(t, 1), Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead && op.Name == testFile && op.Off < to.Load() && from.Load() < op.Off+op.Len {
			return vfs.Outcome{Err: unix.EIO}
		}
		return vfs.Outcome{}
	}}
	v, events := openNew(t, fault)
	var all []Needle
	for i := range 9 {
		n := testNeedle(id.ID(i+1), 0, 20_000)
		mustAppend(t, v, n)
		all = append(all, n)
	}
	p, _, _ := v.idx.Load().get(5, 0)
	from.Store(p.off + 8000)
	to.Store(p.off + 8512)
	for _, n := range all {
		if n.Key != 5 {
			mustRead(t, v, n)
			continue
		}
		if err := readErr(v, n); !errors.Is(err, ErrCorrupt) || !errors.Is(err, unix.EIO) {
			t.Fatal(err)
		}
	}
	mustAppend(t, v, testNeedle(10, 0, 100))
	if v.Stats().CorruptReads != 1 || len(*events) != 1 || (*events)[0].Kind != EventCorruptRead || (*events)[0].Key != 5 {
		t.Fatalf("%d counted, events %+v", v.Stats().CorruptReads, *events)
	}
	closeVolume(t, v)
}
