package coding

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

// TestCheckNamesWhatIsWrong damages a shard in each way of the document's table.
func TestCheckNamesWhatIsWrong(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	r := newRig(t, rng, Policy{2, 1}, 300_000, 5000)
	c := r.encode()
	l := r.plan.layout()
	good := r.file(1)
	reseal := func(b []byte, at int64, change func(head []byte)) {
		h := b[at : at+headSize]
		change(h)
		binary.LittleEndian.PutUint32(h[4092:], headCRC(h))
	}
	for name, tt := range map[string]struct {
		change func(b []byte) []byte
		want   []Finding // Err is compared with errors.Is
	}{
		"nothing":        {func(b []byte) []byte { return b }, nil},
		"first head":     {func(b []byte) []byte { b[70]++; return b }, []Finding{{1, 0, headSize, volume.ErrCorrupt}}},
		"last head":      {func(b []byte) []byte { b[l.tailAt()+70]++; return b }, []Finding{{1, l.tailAt(), headSize, volume.ErrCorrupt}}},
		"both heads":     {func(b []byte) []byte { b[70]++; b[l.tailAt()+70]++; return b }, []Finding{{1, 0, 0, volume.ErrCorrupt}}},
		"superblock":     {func(b []byte) []byte { b[5000]++; return b }, []Finding{{1, 0, headSize, volume.ErrCorrupt}}},
		"heads differ":   {func(b []byte) []byte { reseal(b, 0, func(h []byte) { h[130]++ }); return b }, []Finding{{1, 0, 0, volume.ErrCorrupt}}},
		"newer":          {func(b []byte) []byte { reseal(b, 0, func(h []byte) { h[8]++ }); return b }, []Finding{{1, 0, 0, volume.ErrUnsupported}}},
		"of no length":   {func([]byte) []byte { return nil }, []Finding{{1, 0, 0, volume.ErrCorrupt}}},
		"short":          {func(b []byte) []byte { return b[:len(b)-1] }, []Finding{{1, 0, 0, volume.ErrCorrupt}}},
		"short by pages": {func(b []byte) []byte { return b[:len(b)-pageSize] }, []Finding{{1, 0, 0, volume.ErrCorrupt}}},
		"long":           {func(b []byte) []byte { return append(b, make([]byte, pageSize)...) }, []Finding{{1, 0, 0, volume.ErrCorrupt}}},
		"first block":    {func(b []byte) []byte { b[headSize]++; return b }, []Finding{{1, headSize, BlockSize, volume.ErrCorrupt}}},
		"index":          {func(b []byte) []byte { b[headSize+l.payload]++; return b }, []Finding{{1, headSize + l.payload, 2 * pageSize, volume.ErrCorrupt}}},
		"table":          {func(b []byte) []byte { b[l.tableAt()]++; return b }, []Finding{{1, l.tableAt(), pageSize, volume.ErrCorrupt}}},
		"two blocks": {func(b []byte) []byte { b[headSize+5]++; b[headSize+BlockSize+5]++; return b },
			[]Finding{{1, headSize, BlockSize, volume.ErrCorrupt}, {1, headSize + BlockSize, BlockSize, volume.ErrCorrupt}}},
		"blocks swapped": {func(b []byte) []byte {
			x := bytes.Clone(b[headSize:][:BlockSize])
			copy(b[headSize:], b[headSize+BlockSize:][:BlockSize])
			copy(b[headSize+BlockSize:], x)
			return b
		}, []Finding{{1, headSize, BlockSize, volume.ErrCorrupt}, {1, headSize + BlockSize, BlockSize, volume.ErrCorrupt}}},
		"another digest": {func(b []byte) []byte {
			for _, at := range []int64{0, l.tailAt()} {
				reseal(b, at, func(h []byte) { h[130]++ })
			}
			return b
		}, []Finding{{1, l.tableAt(), pageSize, volume.ErrCorrupt}}},
		"another shard": {func([]byte) []byte { return r.file(0) }, []Finding{{1, 0, 0, ErrForeign}}},
	} {
		r.must(vfs.WriteFile(r.fs, r.path(1), tt.change(bytes.Clone(good))))
		got := r.findings(c, 1)
		if len(got) != len(tt.want) {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
			continue
		}
		for i, f := range got {
			w := tt.want[i]
			if f.Shard != w.Shard || f.Offset != w.Offset || f.Length != w.Length || !errors.Is(f.Err, w.Err) {
				t.Errorf("%s: %+v, want %+v", name, f, w)
			}
		}
	}
	r.must(vfs.WriteFile(r.fs, r.path(1), good))
	other := c
	other.Digests = append([]Digest(nil), c.Digests...)
	other.Digests[1][3]++
	if f := r.findings(other, 1); len(f) != 1 || !errors.Is(f[0].Err, volume.ErrCorrupt) {
		t.Errorf("a whole shard that was not committed: %v", f)
	}
	r.must(r.fs.Remove(r.path(1)))
	if f := r.findings(c, 1); len(f) != 1 || !errors.Is(f[0].Err, fs.ErrNotExist) {
		t.Errorf("a shard that is missing: %v", f)
	}
	// A rebuild whose result is not what was committed gives nothing its name.
	if err := Rebuild(context.Background(), other, r.open(c), []Lost{{1, r.homes[1]}}, Options{}); !errors.Is(err, volume.ErrCorrupt) {
		t.Errorf("rebuild of another digest: %v", err)
	}
	if all, _ := List(r.fs, r.homes[1].Dir); len(all) != 0 {
		t.Errorf("it left %v", all)
	}
	// Nor does one replace a whole shard that was not committed.
	r.must(vfs.WriteFile(r.fs, r.path(1), good))
	if err := Rebuild(context.Background(), other, r.open(c), []Lost{{1, r.homes[1]}}, Options{}); !errors.Is(err, ErrForeign) {
		t.Errorf("rebuild over another digest: %v", err)
	}
}

// TestUnreadablePlaces lets reads of one sector fail.
func TestUnreadablePlaces(t *testing.T) {
	r := newRig(t, rand.New(rand.NewPCG(23, 24)), Policy{2, 1}, 600_000, 5000)
	c := r.encode()
	bad := int64(headSize + BlockSize + 5000)
	fault := &vfs.Fault{FS: r.fs, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead && op.Name == r.path(0) && op.Off <= bad && bad < op.Off+op.Len {
			return vfs.Outcome{Err: errDisk}
		}
		return vfs.Outcome{}
	}}
	sick := r.on(fault)
	got := sick.findings(c, 0)
	if len(got) != 1 || got[0].Offset != headSize+BlockSize || got[0].Length != BlockSize || !errors.Is(got[0].Err, errDisk) {
		t.Errorf("findings %v", got)
	}
	f, err := Open(sick.homes[0], c, 0)
	r.must(err)
	t.Cleanup(func() { _ = f.Close() })
	shards := r.open(c)
	shards[0] = f
	reader, err := NewReader(c, shards, ReaderOptions{})
	r.must(err)
	r.reads(reader, BlockSize+4000, 3000, true)
	r.reads(reader, BlockSize+9000, 3000, false)
	// Any piece of the file can be asked for.
	b := make([]byte, 1001)
	r.must(f.ReadAt(context.Background(), b, 77))
	if !bytes.Equal(b, r.file(0)[77:1078]) {
		t.Error("an unaligned read gives other bytes")
	}
	if err := f.ReadAt(context.Background(), b, c.FileBytes()-1000); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("past the end: %v", err)
	}
	r.must(Rebuild(context.Background(), c, shards, []Lost{{1, Home{r.fs, "/src"}}}, Options{}))
	// Each of two shards lacks another block of the range, and a third is away.
	bad = headSize + 5000
	shards[0], shards[1], shards[2] = partial{shards[0], bad}, partial{shards[1], headSize + BlockSize + 5000}, r.open(c)[2]
	if reader, err = NewReader(c, shards, ReaderOptions{}); err != nil {
		t.Fatal(err)
	}
	r.reads(reader, 4000, BlockSize+4000, true)
}

// partial is a shard of which one place cannot be read.
type partial struct {
	Shard
	bad int64
}

func (s partial) ReadAt(ctx context.Context, p []byte, off int64) error {
	if off <= s.bad && s.bad < off+int64(len(p)) {
		return errDisk
	}
	return s.Shard.ReadAt(ctx, p, off)
}

// TestFullDisk has no room for the last of the files.
func TestFullDisk(t *testing.T) {
	r := newRig(t, rand.New(rand.NewPCG(25, 26)), Policy{2, 1}, 600_000, 5000)
	full := func() *vfs.Fault {
		return &vfs.Fault{FS: r.fs, Before: func(op vfs.Op) vfs.Outcome {
			switch {
			case op.Kind == vfs.OpAllocate && (op.Name == r.path(2)+tmpExt || op.Name == "/src/decoded.tmp"):
				return vfs.Outcome{Err: unix.ENOSPC}
			case op.Kind == vfs.OpRead && op.Len > pageSize && op.Name == sourceName:
				t.Error("the source is read for nothing")
			}
			return vfs.Outcome{}
		}}
	}
	sick := r.on(full())
	if _, err := Encode(context.Background(), r.plan, sick.src(), sick.homes, Options{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("encode: %v", err)
	}
	r.none()
	c := r.encode()
	r.must(r.fs.Remove(r.path(2)))
	if err := Rebuild(context.Background(), c, r.open(c), []Lost{{2, r.on(full()).homes[2]}}, Options{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("rebuild: %v", err)
	}
	if err := Decode(context.Background(), c, r.open(c), full(), "/src/decoded", Options{}); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("decode: %v", err)
	}
	if names, _ := r.fs.ReadDir("/src"); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}
