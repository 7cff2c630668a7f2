package volume

import (
	"bytes"
	"context"
	"errors"
	"testing"
)

// TestExport fills a fresh volume with what a replica exports; both then have
// one digest. Damaged needles are named, deleted ones left out.
func TestExport(t *testing.T) {
	t.Parallel()
	mem := newMem(t, 1)
	v, live, dead := sealSample(t, mem)
	copyOf := create(t, newMem(t, 2))
	got := map[pair]bool{}
	fill := func(n Needle) error {
		got[pair{n.Key, n.Alt}] = true
		n.Data = bytes.Clone(n.Data)
		return copyOf.Fill(bg, []Needle{n})
	}
	if err := v.Export(bg, nil, fill, func(f Finding) { t.Errorf("%+v", f) }); err != nil {
		t.Fatal(err)
	}
	for _, n := range live {
		mustRead(t, copyOf, n)
	}
	if len(got) != len(live) {
		t.Fatalf("%d of %d needles", len(got), len(live))
	}
	// An open volume too, with a damaged needle.
	p, _ := v.sealing.part.Load().idx.get(live[3].Key, live[3].Alt)
	for _, w := range []*Volume{v, copyOf} {
		fs := mem
		if w == v {
			if err := fs.Flip(testFile, p.off+200, 1); err != nil {
				t.Fatal(err)
			}
		}
		n, bad := 0, 0
		count := func(Needle) error { n++; return nil }
		if err := w.Export(bg, nil, count, func(f Finding) {
			if bad++; f.Key != live[3].Key || !errors.Is(f.Err, ErrCorrupt) {
				t.Errorf("%+v", f)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if want := map[bool]int{true: 1}[w == v]; bad != want || n+bad != len(live) {
			t.Fatalf("%d needles, %d damaged", n, bad)
		}
	}
	stop := errors.New("stop")
	wantErr(t, v.Export(bg, nil, func(Needle) error { return stop }, func(Finding) {}), stop)
	wantErr(t, v.Export(bg, func(context.Context, int64) error { return stop }, fill, func(Finding) {}), stop)
	for _, n := range dead {
		wantErr(t, readErr(copyOf, n), ErrNotFound)
	}
	closeVolume(t, v)
	closeVolume(t, copyOf)
}
