package volume

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"

	"hayloft/internal/vfs"
)

// TestProbe asks an open and a sealed volume for live, damaged, deleted and unknown
// keys.
func TestProbe(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	open := create(t, newMem(t, 2))
	for _, n := range live {
		mustAppend(t, open, n)
	}
	mustAppend(t, open, dead[0])
	if err := open.Delete(bg, dead[0].Key); err != nil {
		t.Fatal(err)
	}
	for _, w := range []*Volume{v, open} {
		got, err := w.Probe(bg, 9)
		if err != nil || got.Deleted || len(got.Needles) != 2 || got.Needles[0].Alt != 0 || got.Needles[1].Alt != 1 {
			t.Errorf("%+v, %v", got, err)
		}
		for _, n := range got.Needles {
			if n.Err != nil || n.Size == 0 || n.Offset == 0 {
				t.Errorf("%+v", n)
			}
		}
		_, err = w.Probe(bg, 1000)
		wantErr(t, err, ErrNotFound)
	}
	if got, err := open.Probe(bg, dead[0].Key); err != nil || !got.Deleted || len(got.Needles) > 0 {
		t.Errorf("deleted: %+v, %v", got, err)
	}
	if got, err := v.Probe(bg, dead[2].Key); err != nil || !got.Deleted {
		t.Errorf("deleted after the seal: %+v, %v", got, err)
	}
	_, err := v.Probe(bg, dead[0].Key) // before the seal
	wantErr(t, err, ErrNotFound)
	p, _ := v.sealing.part.Load().idx.get(live[3].Key, live[3].Alt)
	if err := mem.Flip(testFile, p.off+200, 1); err != nil {
		t.Fatal(err)
	}
	if got, err := v.Probe(bg, live[3].Key); err != nil || len(got.Needles) != 1 || !errors.Is(got.Needles[0].Err, ErrCorrupt) {
		t.Errorf("damaged: %+v, %v", got, err)
	}
	closeVolume(t, v)
	closeVolume(t, open)
	_, err = v.Probe(bg, 9)
	wantErr(t, err, ErrClosed)
}

// TestScanAndCopyInService compares both with the file.
func TestScanAndCopyInService(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, _, _ := sealSample(t, mem)
	var file, served []int64
	if _, err := Scan(mem, testFile, func(r Record) error { file = append(file, r.Offset, r.Size); return nil }); err != nil {
		t.Fatal(err)
	}
	if err := v.Scan(bg, func(r Record) error { served = append(served, r.Offset, r.Size); return nil }); err != nil || len(served) == 0 {
		t.Fatal(err)
	}
	if len(file) < len(served) || !bytes.Equal(asBytes(file[:len(served)]), asBytes(served)) {
		t.Errorf("%v of %v", served, file)
	}
	stop := errors.New("stop")
	wantErr(t, v.Scan(bg, func(Record) error { return stop }), stop)

	var got []byte
	paid := int64(0)
	rec, err := v.Copy(bg, func(_ context.Context, n int64) error { paid += n; return nil }, func(b []byte) error { got = append(got, b...); return nil })
	if err != nil {
		t.Fatal(err)
	}
	want, err := vfs.ReadFile(mem, filepath.Join("/d", FileName(testIdent.Volume, testIdent.Generation)), 1<<30)
	if err != nil || int64(len(got)) != rec.End || paid != rec.End || !bytes.Equal(got, want[:rec.End]) {
		t.Errorf("%d bytes, %d paid, of %d: %v", len(got), paid, rec.End, err)
	}
	_, err = v.Copy(bg, nil, func([]byte) error { return stop })
	wantErr(t, err, stop)
	closeVolume(t, v)
	open := create(t, newMem(t, 2))
	_, err = open.Copy(bg, nil, nil)
	wantErr(t, err, ErrNotSealed)
	closeVolume(t, open)
}

func asBytes(all []int64) (out []byte) {
	for _, n := range all {
		for i := range 8 {
			out = append(out, byte(n>>(8*i)))
		}
	}
	return out
}
