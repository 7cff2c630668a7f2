package coding

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"

	"hayloft/internal/vfs"
)

var errCut = errors.New("the power is cut")

// moment is one call of a job at which something happens.
type moment struct {
	n  int64
	op vfs.Op // what the call was
}

// deeds are what can happen at a call: the machine loses power, the process is
// killed, or the call alone fails.
var deeds = []string{"power", "kill", "fail"}

// interrupted runs job on a copy of the rig, in which deed happens at call n. It
// returns the rig as the next process finds it, and false when there are fewer
// calls.
func (r *rig) interrupted(deed string, n int64, seed uint64, job func(r *rig) error) (after *rig, at moment, happened bool) {
	mem := r.fs.Kill()
	fault := &vfs.Fault{FS: mem}
	var mu sync.Mutex // guards all below
	var next *vfs.Mem
	fault.Before = func(op vfs.Op) vfs.Outcome {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case op.N < n:
			return vfs.Outcome{}
		case op.N == n:
			at, happened = moment{n, op}, true
			switch deed {
			case "power":
				next = mem.Crash(seed)
			case "kill":
				next = mem.Kill()
			case "fail":
				return vfs.Outcome{Err: errCut, Short: op.Len / 2 / 512 * 512}
			}
		case deed == "fail":
			return vfs.Outcome{}
		}
		return vfs.Outcome{Err: errCut}
	}
	err := job(r.on(fault))
	if next == nil {
		next = mem
	}
	if happened && deed != "fail" && err == nil {
		r.t.Fatalf("%s at %+v: the job did not notice", deed, at)
	}
	return r.on(next), at, happened
}

// on is the rig on another file system.
func (r *rig) on(fsys vfs.FS) *rig {
	out := *r
	out.homes = nil
	for _, h := range r.homes {
		out.homes = append(out.homes, Home{FS: fsys, Dir: h.Dir})
	}
	if m, ok := fsys.(*vfs.Mem); ok {
		out.fs = m
	}
	return &out
}

// everywhere interrupts job at every call, in every way, and has look at what is
// left.
func (r *rig) everywhere(job func(r *rig) error, look func(r *rig, deed string, at moment)) {
	r.t.Helper()
	for _, deed := range deeds {
		for n := int64(1); ; n++ {
			after, at, happened := r.interrupted(deed, n, uint64(n), job)
			if !happened {
				if n < 20 {
					r.t.Fatalf("only %d calls: the job does nothing", n)
				}
				break
			}
			look(after, deed, at)
			if r.t.Failed() {
				r.t.Fatalf("%s at %+v", deed, at)
			}
		}
	}
}

// wholeOrNothing checks that what has the name of a shard is that shard.
func (r *rig) wholeOrNothing(c Committed) {
	r.t.Helper()
	for i := range c.Shards() {
		if _, err := r.fs.Stat(r.path(i)); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if f := r.findings(c, i); len(f) != 0 {
			r.t.Errorf("shard %d has its name and %v", i, f)
		}
	}
}

// tidy checks that nothing unfinished is left.
func (r *rig) tidy() {
	r.t.Helper()
	for _, h := range r.homes {
		all, err := List(r.fs, h.Dir)
		r.must(err)
		for _, e := range all {
			if e.Unfinished {
				r.t.Errorf("%s is left", e.Name)
			}
		}
	}
}

func (r *rig) sourceIsThere() {
	r.t.Helper()
	b, err := vfs.ReadFile(r.fs, sourceName, 1<<40)
	r.must(err)
	if !bytes.Equal(b, r.source) {
		r.t.Error("the source has changed")
	}
}

func sameDigests(a, b []Digest) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestEncodeIsInterrupted(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	r := newRig(t, rng, Policy{2, 1}, 150_000, 5000)
	clean := r.on(r.fs.Kill())
	c := clean.encode()
	encode := func(r *rig) error {
		_, err := Encode(context.Background(), r.plan, r.src(), r.homes, Options{Verify: r.same})
		return err
	}
	r.everywhere(encode, func(r *rig, deed string, at moment) {
		r.sourceIsThere()
		r.wholeOrNothing(c)
		if again := r.encode(); !sameDigests(again.Digests, c.Digests) {
			t.Errorf("digests %x, want %x", again.Digests, c.Digests)
		}
		r.wholeOrNothing(c)
		r.tidy()
		for i := range c.Shards() {
			if !bytes.Equal(r.file(i), clean.file(i)) {
				t.Errorf("shard %d differs", i)
			}
		}
		// What Encode said is there stays there.
		r.on(r.fs.Crash(uint64(at.n))).allThere(c)
	})
}

func (r *rig) allThere(c Committed) {
	r.t.Helper()
	for i := range c.Shards() {
		if f := r.findings(c, i); len(f) != 0 {
			r.t.Errorf("after a crash shard %d has %v", i, f)
		}
	}
}

func TestRebuildIsInterrupted(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	r := newRig(t, rng, Policy{2, 2}, 150_000, 5000)
	c := r.encode()
	before := [][]byte{r.file(0), r.file(1), r.file(2), r.file(3)}
	r.must(r.fs.Remove(r.path(1)))
	r.must(r.fs.SyncDir(r.homes[1].Dir))
	r.must(r.fs.Flip(r.path(2), headSize+70_000, 4))
	rebuild := func(r *rig) error {
		shards := make([]Shard, c.Shards())
		for i, h := range r.homes {
			f, err := Open(h, c, i)
			if err != nil {
				continue
			}
			defer f.Close() //nolint:errcheck // opened for reading only
			shards[i] = f
		}
		return Rebuild(context.Background(), c, shards, []Lost{{1, r.homes[1]}, {2, r.homes[2]}}, Options{})
	}
	r.everywhere(rebuild, func(r *rig, deed string, at moment) {
		for _, i := range []int{0, 3} {
			if !bytes.Equal(r.file(i), before[i]) {
				t.Errorf("shard %d has changed", i)
			}
		}
		// Shard 2 is as it was, or whole; shard 1 absent, or whole.
		if f := r.findings(c, 2); len(f) > 1 {
			t.Errorf("shard 2 is worse than before: %v", f)
		}
		if _, err := r.fs.Stat(r.path(1)); err == nil && len(r.findings(c, 1)) > 0 {
			t.Error("shard 1 has its name and is not whole")
		}
		r.must(rebuild(r))
		r.tidy()
		for i := range before {
			if !bytes.Equal(r.file(i), before[i]) {
				t.Errorf("shard %d is not what it was", i)
			}
		}
		r.on(r.fs.Crash(uint64(at.n))).allThere(c)
	})
}

func TestDecodeIsInterrupted(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	r := newRig(t, rng, Policy{2, 1}, 150_000, 5000)
	c := r.encode()
	r.must(r.fs.Remove(r.path(0)))
	decode := func(r *rig) error {
		shards := make([]Shard, c.Shards())
		for i, h := range r.homes {
			f, err := Open(h, c, i)
			if err != nil {
				continue
			}
			defer f.Close() //nolint:errcheck // opened for reading only
			shards[i] = f
		}
		return Decode(context.Background(), c, shards, r.homes[0].FS, "/src/decoded", Options{})
	}
	r.everywhere(decode, func(r *rig, deed string, at moment) {
		b, err := vfs.ReadFile(r.fs, "/src/decoded", 1<<40)
		if err == nil && !bytes.Equal(b, r.source) {
			t.Error("the decoded file has its name and is not the source")
		}
		r.must(decode(r))
		b, err = vfs.ReadFile(r.fs.Crash(uint64(at.n)), "/src/decoded", 1<<40)
		r.must(err)
		if !bytes.Equal(b, r.source) {
			t.Error("the decoded file is not the source")
		}
	})
}
