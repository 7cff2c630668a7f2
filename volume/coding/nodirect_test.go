package coding

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
)

// cachedFS is a file system without a way past the page cache: it says so when a
// file is opened, or when it is used.
type cachedFS struct {
	vfs.FS
	late bool
}

type refusing struct{ vfs.File }

func (refusing) ReadAt([]byte, int64) (int, error)     { return 0, unix.EINVAL }
func (refusing) WriteVAt([][]byte, int64) (int, error) { return 0, unix.EINVAL }

func (f cachedFS) OpenDirect(name string) (vfs.File, int, error) {
	if !f.late {
		return nil, 0, vfs.ErrNoDirect
	}
	file, unit, err := f.FS.OpenDirect(name)
	return refusing{file}, unit, err
}

func (f cachedFS) OpenDirectWrite(name string) (vfs.File, int, error) {
	if !f.late {
		return nil, 0, vfs.ErrNoDirect
	}
	file, unit, err := f.FS.OpenDirectWrite(name)
	return refusing{file}, unit, err
}

func TestThroughThePageCache(t *testing.T) {
	for _, late := range []bool{false, true} {
		rng := rand.New(rand.NewPCG(1, 3))
		r := newRig(t, rng, Policy{3, 2}, 400_000, 5000)
		direct := r.on(r.fs.Kill())
		want := direct.encode()
		r = r.on(cachedFS{r.fs, late})
		c := r.encode()
		for i := range c.Shards() {
			if !bytes.Equal(r.file(i), direct.file(i)) || c.Digests[i] != want.Digests[i] {
				t.Fatalf("shard %d differs", i)
			}
		}
		r.must(r.fs.Remove(r.path(2)))
		r.readEverywhere(rng, c)
		r.must(Rebuild(context.Background(), c, r.open(c), []Lost{{2, r.homes[2]}}, Options{}))
		if !bytes.Equal(r.file(2), direct.file(2)) {
			t.Fatal("the rebuilt shard differs")
		}
		r.decodes(rng, c)
	}
}

// TestCallsThatFail fails every call that a reader's opening makes.
func TestCallsThatFail(t *testing.T) {
	r := newRig(t, rand.New(rand.NewPCG(1, 4)), Policy{2, 1}, 100_000, 100)
	c := r.encode()
	for _, kind := range []vfs.OpKind{vfs.OpOpen, vfs.OpEvict, vfs.OpSize} {
		fault := &vfs.Fault{FS: r.fs, Before: func(op vfs.Op) vfs.Outcome {
			if op.Kind == kind {
				return vfs.Outcome{Err: errDisk}
			}
			return vfs.Outcome{}
		}}
		if _, err := Open(Home{fault, r.homes[0].Dir}, c, 0); !errors.Is(err, errDisk) {
			t.Errorf("call %d: %v", kind, err)
		}
		found := 0
		r.must(Check(context.Background(), Home{fault, r.homes[0].Dir}, c.Plan, 0, c.Digests[0], Options{}, func(Finding) { found++ }))
		if found != 1 {
			t.Errorf("call %d: %d findings", kind, found)
		}
	}
	// One head that cannot be read is a finding; the other one serves.
	for _, at := range []int64{0, r.plan.FileBytes() - headSize} {
		fault := &vfs.Fault{FS: r.fs, Before: func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpRead && op.Off == at {
				return vfs.Outcome{Err: errDisk}
			}
			return vfs.Outcome{}
		}}
		f, err := Open(Home{fault, r.homes[0].Dir}, c, 0)
		r.must(err)
		shards := r.open(c)
		shards[0] = f
		reader, err := NewReader(c, shards, ReaderOptions{})
		r.must(err)
		b, err := reader.Read(context.Background(), 100, 1000, nil)
		r.must(err)
		if b.Degraded {
			t.Error("a head that cannot be read costs a shard")
		}
		b.Release()
		var found []Finding
		r.must(Check(context.Background(), Home{fault, r.homes[0].Dir}, c.Plan, 0, c.Digests[0], Options{}, func(f Finding) { found = append(found, f) }))
		if len(found) != 1 || found[0].Offset != at || !errors.Is(found[0].Err, errDisk) {
			t.Errorf("head at %d: %v", at, found)
		}
		r.must(f.Close())
	}
	if _, err := List(&vfs.Fault{FS: r.fs, Before: func(vfs.Op) vfs.Outcome { return vfs.Outcome{Err: errDisk} }}, "/disk00"); !errors.Is(err, errDisk) {
		t.Errorf("list: %v", err)
	}
}
