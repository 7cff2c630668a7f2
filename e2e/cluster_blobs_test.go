package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/client"
)

// oracle collects what must never be.
type oracle struct {
	mu    sync.Mutex // guards wrong
	wrong []string
}

func (o *oracle) violated(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wrong = append(o.wrong, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// tell fails the test for what must never be and was.
func (o *oracle) tell(t testing.TB) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.wrong); n > 0 {
		t.Errorf("%d times what was acknowledged did not hold:\n%s", n, strings.Join(o.wrong[:min(n, 40)], "\n"))
	}
}

// ledger is what is known of the blobs that were acknowledged.
type ledger struct {
	mu    sync.Mutex // guards blobs
	blobs []*ledgerRow
}

type fate int

const (
	stored   fate = iota
	deleting      // a delete was sent and not acknowledged: it may have happened
	deleted
)

type ledgerRow struct {
	ref client.Blob
	sum [32]byte

	mu    sync.Mutex // guards what follows
	fate  fate
	since time.Time // of the fate
}

func (r *ledgerRow) now() (fate, time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fate, r.since
}

func (r *ledgerRow) become(f fate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fate, r.since = f, time.Now()
}

func (l *ledger) add(r *ledgerRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blobs = append(l.blobs, r)
}

func (l *ledger) all() []*ledgerRow {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.blobs[:len(l.blobs):len(l.blobs)]
}

// pick is any of them, most often a young one; nil when there is none.
func (l *ledger) pick() *ledgerRow {
	all := l.all()
	if len(all) == 0 {
		return nil
	}
	if rand.IntN(2) == 0 {
		all = all[len(all)*3/4:]
	}
	return all[rand.IntN(len(all))]
}

// oldest is the first that is not deleted, nil when there is none.
func (l *ledger) oldest() *ledgerRow {
	for _, r := range l.all() {
		if f, _ := r.now(); f != deleted {
			return r
		}
	}
	return nil
}

// toVerify are all blobs that should be there, those that were deleted after a moment,
// and some of those that were deleted before.
func (l *ledger) toVerify(after time.Time) (some []*ledgerRow) {
	all := l.all()
	for _, r := range all {
		if f, since := r.now(); f != deleted || since.After(after) || rand.IntN(len(all)) < 500 {
			some = append(some, r)
		}
	}
	return some
}

// mostBlobs is how many blobs there are before they are stored slowly: a cluster's disks
// are small here.
const mostBlobs = 3000

// blobLoad is writers, readers and deleters of blobs.
type blobLoad struct {
	f   *fleet
	o   *oracle
	l   *ledger
	at  []*client.Client // by node
	out atomic.Pointer[string]

	verified time.Time // when verify began last

	puts, gets, refused, deletes, failedPuts, failedDeletes atomic.Int64
	slowest                                                 atomic.Int64 // nanoseconds that a put took with all its repetitions
}

func newBlobLoad(f *fleet, o *oracle) *blobLoad {
	b := &blobLoad{f: f, o: o, l: &ledger{}}
	for i := range f.rig.Nodes {
		b.at = append(b.at, f.client(i, f.key, f.http))
	}
	return b
}

// put stores one blob.
func (b *blobLoad) put(ctx context.Context, size int) error {
	data := randomBytes(size)
	file := client.File{At: bytes.NewReader(data), Size: int64(size), ContentType: "application/octet-stream"}
	var ref client.Blob
	began := time.Now()
	err := b.f.anywhere(ctx, func(ctx context.Context, node int) (err error) {
		ref, err = b.at[node].PutBlob(ctx, client.ClassOriginals, file)
		return err
	})
	if err != nil {
		return err
	}
	if took := time.Since(began).Nanoseconds(); took > b.slowest.Load() {
		b.slowest.Store(took)
	}
	b.puts.Add(1)
	b.l.add(&ledgerRow{ref: ref, sum: sha256.Sum256(data)})
	return nil
}

// read asks one node for a blob once and holds the answer against the ledger. Errors
// that say "not now" are returned.
func (b *blobLoad) read(ctx context.Context, r *ledgerRow, node int) error {
	began := time.Now()
	before, since := r.now()
	data, err := b.fetch(ctx, r, node)
	after, _ := r.now()
	name := b.f.rig.Nodes[node].Name
	switch {
	case err == nil && sha256.Sum256(data) != r.sum:
		b.o.violated("wrong bytes: blob %s of %s has %d bytes", r.ref.ID, name, len(data))
	case err == nil && before == deleted && began.Sub(since) > staleTime:
		b.o.violated("back from the dead: blob %s of %s, %v after its delete was acknowledged", r.ref.ID, name, began.Sub(since))
	case client.IsStatus(err, http.StatusNotFound):
		if after == stored {
			b.o.violated("lost: %s says that blob %s is not there", name, r.ref.ID)
		}
		return nil
	}
	return err
}

func (b *blobLoad) fetch(ctx context.Context, r *ledgerRow, node int) ([]byte, error) {
	o, err := b.at[node].GetBlob(ctx, r.ref, "")
	if err != nil {
		return nil, err
	}
	defer o.Body.Close()
	return io.ReadAll(o.Body)
}

// remove deletes a blob.
func (b *blobLoad) remove(ctx context.Context, r *ledgerRow) error {
	r.become(deleting)
	err := b.f.anywhere(ctx, func(ctx context.Context, node int) error { return b.at[node].DeleteBlob(ctx, r.ref) })
	if err != nil && !client.IsStatus(err, http.StatusNotFound) { // an attempt before may have arrived
		return err
	}
	r.become(deleted)
	b.deletes.Add(1)
	return nil
}

// run is the load, until ctx ends.
func (b *blobLoad) run(ctx context.Context, work *sync.WaitGroup) {
	for range 3 {
		work.Go(func() {
			for ctx.Err() == nil {
				if b.puts.Load()-b.deletes.Load() > mostBlobs {
					pause(ctx, 500*time.Millisecond) // deletes are faster than that
				}
				if err := b.put(ctx, 1+rand.IntN(48<<10)); err != nil && ctx.Err() == nil {
					b.failedPuts.Add(1)
					b.note(err)
				}
				pause(ctx, 25*time.Millisecond)
			}
		})
	}
	for range 3 {
		work.Go(func() {
			for ctx.Err() == nil {
				if r := b.l.pick(); r != nil {
					one, cancel := context.WithTimeout(ctx, attemptTime)
					if b.read(one, r, rand.IntN(len(b.at))) != nil {
						b.refused.Add(1)
					} else {
						b.gets.Add(1)
					}
					cancel()
				}
				pause(ctx, 15*time.Millisecond)
			}
		})
	}
	work.Go(func() {
		for ctx.Err() == nil {
			r := b.l.pick()
			if live := b.puts.Load() - b.deletes.Load(); live > mostBlobs && rand.IntN(4) > 0 {
				r = b.l.oldest()
			}
			if r != nil {
				if f, _ := r.now(); f != deleted {
					if err := b.remove(ctx, r); err != nil && ctx.Err() == nil {
						b.failedDeletes.Add(1)
						b.note(err)
					}
				}
			}
			pause(ctx, 60*time.Millisecond)
		}
	})
}

// note keeps the last failure, to be shown.
func (b *blobLoad) note(err error) {
	text := err.Error()
	b.out.Store(&text)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// verify reads every blob from each of the nodes, of a cluster to which nothing happens
// any more.
func (b *blobLoad) verify(nodes ...int) {
	b.f.t.Helper()
	ctx := context.Background()
	for _, r := range b.l.all() {
		if f, _ := r.now(); f == deleting {
			if err := b.remove(ctx, r); err != nil {
				b.f.t.Errorf("a delete whose answer was lost is sent again: %v", err)
			}
		}
	}
	var work sync.WaitGroup
	rows := b.l.toVerify(b.verified)
	b.verified = time.Now()
	for _, node := range nodes {
		work.Go(func() {
			for _, r := range rows {
				b.verifyOne(r, node)
			}
		})
	}
	work.Wait()
}

func (b *blobLoad) verifyOne(r *ledgerRow, node int) {
	name := b.f.rig.Nodes[node].Name
	var data []byte
	var err error
	eventually(20*time.Second, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), attemptTime)
		defer cancel()
		data, err = b.fetch(ctx, r, node)
		return err == nil || definite(err)
	})
	f, _ := r.now()
	gone := client.IsStatus(err, http.StatusNotFound)
	switch {
	case f == stored && gone:
		b.o.violated("lost: %s says that blob %s is not there", name, r.ref.ID)
	case f == stored && err != nil:
		b.o.violated("lost: blob %s cannot be read from %s: %v%s", r.ref.ID, name, err, b.f.why(r.ref.ID))
	case f == stored && sha256.Sum256(data) != r.sum:
		b.o.violated("wrong bytes: blob %s of %s", r.ref.ID, name)
	case f == deleted && err == nil:
		b.o.violated("back from the dead: blob %s of %s", r.ref.ID, name)
	case f == deleted && !gone:
		b.o.violated("blob %s was deleted, and %s says: %v", r.ref.ID, name, err)
	}
}

// String is how it went.
func (b *blobLoad) String() string {
	last := ""
	if p := b.out.Load(); p != nil {
		last = "; last failure: " + *p
	}
	return fmt.Sprintf("%d blobs stored (%d failed, the slowest took %.1f s), %d read (%d refused), %d deleted (%d failed)%s",
		b.puts.Load(), b.failedPuts.Load(), time.Duration(b.slowest.Load()).Seconds(), b.gets.Load(), b.refused.Load(), b.deletes.Load(), b.failedDeletes.Load(), last)
}
