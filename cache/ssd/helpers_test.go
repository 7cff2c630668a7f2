package ssd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/internal/spread"
	"hayloft/internal/vfs"
)

func TestMain(m *testing.M) {
	// The package cache brings fasthttp, which keeps one clock for ever.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

var errDown = errors.New("down")

var seedFlag = flag.Uint64("seed", 0, "repeat a random test with this seed")

func seeds(n int) []uint64 {
	if *seedFlag != 0 {
		return []uint64{*seedFlag}
	}
	var out []uint64
	for range n {
		out = append(out, rand.Uint64()|1)
	}
	return out
}

const regionBytes = 32 << 10

// rig is a tier over a file system in memory that can be made to fail. It lives
// in a bubble, so that waiting for the writer is waiting for everybody to sleep.
type rig struct {
	testing.TB
	*Tier
	o   Options
	mem *vfs.Mem

	mu     sync.Mutex
	before func(vfs.Op) vfs.Outcome
	events []Event
}

func newRig(t testing.TB, o Options) *rig {
	t.Helper()
	r := &rig{TB: t, mem: vfs.NewMem(1)}
	if err := r.mem.MkdirAll("c"); err != nil {
		t.Fatal(err)
	}
	o.Dir = "c"
	o.Size = cmp.Or(o.Size, 12*regionBytes)
	o.regionBytes = cmp.Or(o.regionBytes, regionBytes)
	o.Rate = cmp.Or(o.Rate, 1<<40)
	o.Events = func(e Event) {
		r.mu.Lock()
		r.events = append(r.events, e)
		r.mu.Unlock()
	}
	r.o = o
	return r
}

// open opens the tier on mem and waits until it has settled.
func (r *rig) open(mem *vfs.Mem) {
	r.Helper()
	r.mem = mem
	r.o.FS = &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		r.mu.Lock()
		before := r.before
		r.mu.Unlock()
		if before == nil {
			return vfs.Outcome{}
		}
		return before(op)
	}}
	t, err := Open(r.o)
	if err != nil {
		r.Fatal(err)
	}
	r.Tier = t
	synctest.Wait()
}

func (r *rig) close() {
	r.Helper()
	if err := r.Close(); err != nil {
		r.Error(err)
	}
}

// fail sets what happens to the calls of the file system from now on.
func (r *rig) fail(before func(vfs.Op) vfs.Outcome) {
	r.mu.Lock()
	r.before = before
	r.mu.Unlock()
}

func (r *rig) told(kind EventKind) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if e.Kind == kind {
			n++
		}
	}
	return n
}

// content is what k holds: no two keys share a byte pattern.
func content(k cache.Key) []byte {
	seed := crc32.ChecksumIEEE(fmt.Append(nil, k))
	b := make([]byte, 200+seed%5000)
	for i := range b {
		seed = seed*1664525 + 1013904223
		b[i] = byte(seed >> 24)
	}
	return b
}

func object(k cache.Key) cache.Object {
	b := content(k)
	return cache.Object{Data: b, ContentType: "image/jpeg", ETag: fmt.Sprintf("%08x", crc32.ChecksumIEEE(b))}
}

func keyOf(blob id.ID, variant string) cache.Key {
	return cache.Key{Variant: variant, Blob: blob, Cookie: id.Cookie(spread.Mix(uint64(blob)) | 1), Ext: "jpg"}
}

// offer offers k and waits until the tier has done with it.
func (r *rig) offer(keys ...cache.Key) {
	for _, k := range keys {
		o := object(k)
		r.Offer(k, o)
		clear(o.Data) // what is kept was copied
	}
	synctest.Wait()
}

// has gets k, and compares every byte of what there is.
func (r *rig) has(k cache.Key) bool {
	r.Helper()
	o, ok := r.Get(context.Background(), k)
	if !ok {
		return false
	}
	want := object(k)
	if !bytes.Equal(o.Data, want.Data) || o.ETag != want.ETag || o.ContentType != want.ContentType {
		r.Errorf("%v: %d bytes, %q, %q: not what was offered", k, len(o.Data), o.ETag, o.ContentType)
	}
	clear(o.Data)
	o.Release()
	return true
}

// fitting returns how many of keys are small enough for the device.
func (r *rig) fitting(keys []cache.Key) (n int) {
	for _, k := range keys {
		if rec := objectRecord(k, object(k)); rec.size() <= min(r.o.regionBytes/4, maxObject) {
			n++
		}
	}
	return n
}

func keys(from, to id.ID) (out []cache.Key) {
	for b := from; b < to; b++ {
		out = append(out, keyOf(b, "small"), keyOf(b, "large"))
	}
	return out
}

// count returns how many of keys are there.
func (r *rig) count(keys []cache.Key) (n int) {
	r.Helper()
	for _, k := range keys {
		if r.has(k) {
			n++
		}
	}
	return n
}
