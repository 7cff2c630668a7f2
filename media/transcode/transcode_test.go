package transcode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"hayloft/internal/id"
	"hayloft/media"
	"hayloft/media/mediatest"
)

// world is a feed, a blob store and a cache in memory that keep the promises
// of their interfaces, and fail on command.
type world struct {
	mu      sync.Mutex
	t       *testing.T
	photos  map[id.ID]*row
	blobs   map[id.ID]group
	cookies map[id.ID]id.Cookie // of reserved ids
	pushed  []Pushed
	nextID  id.ID
	makes   int

	steps   int  // fallible calls so far
	failAt  int  // the call that fails, from 1; 0: none
	after   bool // fail after the effect took place: the answer was lost
	moved   int  // so many writes find their tile closed
	verdict error
}

type row struct {
	status    string // pending, ready, failed, deleted
	master    Master
	intents   map[id.ID]bool
	rendition Rendition
	failure   Failure
}

type group map[uint8][]byte

var errBroken = errors.New("broken on command")

func newWorld(t *testing.T) (*world, id.ID) {
	w := &world{t: t, photos: map[id.ID]*row{}, blobs: map[id.ID]group{}, cookies: map[id.ID]id.Cookie{}, nextID: 100}
	w.blobs[7] = group{0: mediatest.JPEG(mediatest.Picture(40, 30), 80)}
	w.cookies[7] = 77
	w.photos[1] = &row{status: "pending", master: Master{7, 77}, intents: map[id.ID]bool{}}
	return w, 1
}

// step runs one fallible call.
func (w *world) step(effect func() error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.steps++
	if w.steps == w.failAt && !w.after {
		return errBroken
	}
	if err := effect(); err != nil {
		return err
	}
	if w.steps == w.failAt {
		return errBroken
	}
	return nil
}

func (w *world) Master(_ context.Context, photo id.ID) (m Master, err error) {
	err = w.step(func() error {
		p := w.photos[photo]
		if p == nil || p.status != "pending" {
			return ErrGone
		}
		m = p.master
		return nil
	})
	return m, err
}

func (w *world) Intend(_ context.Context, photo, blob id.ID) error {
	return w.step(func() error {
		p := w.photos[photo]
		if p == nil || p.status == "deleted" {
			return ErrGone
		}
		p.intents[blob] = true
		return nil
	})
}

func (w *world) MarkReady(_ context.Context, photo id.ID, r Rendition) error {
	return w.step(func() error {
		p := w.photos[photo]
		switch {
		case p == nil || p.status != "pending":
			return ErrGone
		case !p.intents[r.Blob]:
			return fmt.Errorf("blob %v was never intended", r.Blob)
		case len(w.blobs[r.Blob]) != len(r.Variants) || w.cookies[r.Blob] != r.Cookie:
			return fmt.Errorf("blob %v is not what %+v says", r.Blob, r)
		}
		p.status, p.rendition = "ready", r
		delete(p.intents, r.Blob)
		return nil
	})
}

func (w *world) MarkFailed(_ context.Context, photo id.ID, f Failure) error {
	return w.step(func() error {
		p := w.photos[photo]
		if p == nil || p.status != "pending" {
			return ErrGone
		}
		p.status, p.failure = "failed", f
		return nil
	})
}

func (w *world) ReadMaster(_ context.Context, blob id.ID, cookie id.Cookie) (data []byte, err error) {
	err = w.step(func() error {
		if w.cookies[blob] != cookie || w.blobs[blob] == nil {
			return errors.New("not found")
		}
		data = bytes.Clone(w.blobs[blob][0])
		return nil
	})
	return data, err
}

func (w *world) ReserveVariants(context.Context) (blob id.ID, cookie id.Cookie, err error) {
	err = w.step(func() error {
		w.nextID++
		blob, cookie = w.nextID, id.Cookie(w.nextID*1000)
		w.cookies[blob] = cookie
		return nil
	})
	return blob, cookie, err
}

func (w *world) WriteVariants(_ context.Context, blob id.ID, cookie id.Cookie, g []VariantBytes) error {
	return w.step(func() error {
		if w.cookies[blob] != cookie {
			return errors.New("wrong cookie")
		}
		intended := false
		for _, p := range w.photos {
			intended = intended || p.intents[blob]
		}
		if !intended {
			w.t.Errorf("blob %v is written and was not intended: nobody would sweep it", blob)
		}
		if w.moved > 0 {
			w.moved--
			return fmt.Errorf("slot 64: %w", ErrMoved)
		}
		if w.blobs[blob] != nil {
			w.t.Errorf("blob %v is written twice", blob)
		}
		w.blobs[blob] = group{}
		for _, v := range g {
			w.blobs[blob][v.Alt] = bytes.Clone(v.Data)
		}
		return nil
	})
}

func (w *world) Make(_ context.Context, master []byte) (res media.Result, err error) {
	err = w.step(func() error {
		w.makes++
		if w.verdict != nil {
			return w.verdict
		}
		info, err := media.Inspect(master, media.Limits{})
		if err != nil {
			return err
		}
		res = media.Result{Width: info.Width, Height: info.Height, Placeholder: "LEHV6nWB2yk8pyo0adR*.7kCMdnj", Colour: "#102030"}
		for _, v := range media.Made() {
			width, height := v.Size(info.Width, info.Height)
			res.Variants = append(res.Variants, media.Rendition{Variant: v, Width: width, Height: height,
				ContentType: media.TypeJPEG, Data: mediatest.JPEG(mediatest.Picture(width, height), 80)})
		}
		return nil
	})
	return res, err
}

func (w *world) worker(t *testing.T) *Worker {
	t.Helper()
	worker, err := New(Options{Photos: w, Blobs: w, Maker: w, Push: func(p Pushed) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.pushed = append(w.pushed, p)
	}})
	if err != nil {
		t.Fatal(err)
	}
	return worker
}

// check holds the world against what must be true after a photo has become
// ready: its group is there, and every other group is known to the sweeper.
func (w *world) check(t *testing.T, photo id.ID) {
	t.Helper()
	p := w.photos[photo]
	if p.status != "ready" {
		t.Fatalf("the photo is %s", p.status)
	}
	for _, v := range p.rendition.Variants {
		data := w.blobs[p.rendition.Blob][v.Alt]
		info, err := media.Inspect(data, media.Limits{})
		if err != nil || info.Width != v.Width || info.Height != v.Height || int64(len(data)) != v.Size {
			t.Errorf("variant %d: %+v, %v, the row says %+v", v.Alt, info, err, v)
		}
	}
	if len(p.rendition.Variants) != 4 || p.rendition.Placeholder == "" || p.rendition.Colour == "" {
		t.Errorf("%+v", p.rendition)
	}
	for blob := range w.blobs {
		if blob != 7 && blob != p.rendition.Blob && !p.intents[blob] {
			t.Errorf("blob %v belongs to nobody", blob)
		}
	}
	if !bytes.Equal(w.blobs[7][0], mediatest.JPEG(mediatest.Picture(40, 30), 80)) {
		t.Error("the master changed")
	}
}

func TestHandleMakesAPhotoReady(t *testing.T) {
	w, photo := newWorld(t)
	if err := w.worker(t).Handle(t.Context(), Job{photo}); err != nil {
		t.Fatal(err)
	}
	w.check(t, photo)
	p := w.photos[photo]
	if len(w.pushed) != 1 || w.pushed[0].Variant != media.Thumbnail || w.pushed[0].Blob != p.rendition.Blob ||
		w.pushed[0].Cookie != p.rendition.Cookie || !bytes.Equal(w.pushed[0].Data, w.blobs[p.rendition.Blob][1]) {
		t.Errorf("pushed %+v", w.pushed)
	}
	if len(p.intents) != 0 || w.steps != 7 {
		t.Errorf("%d intents are left after %d steps", len(p.intents), w.steps)
	}
}

// Every call fails once, before its effect or after it; the outbox tries again
// and the photo becomes ready all the same.
func TestHandleSurvivesAnyOneFailure(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 1; at <= 7; at++ {
			t.Run(fmt.Sprintf("call %d, after=%v", at, after), func(t *testing.T) {
				w, photo := newWorld(t)
				w.failAt, w.after = at, after
				worker := w.worker(t)
				if err := worker.Handle(t.Context(), Job{photo}); !errors.Is(err, errBroken) {
					t.Fatalf("%v", err)
				}
				if err := worker.Handle(t.Context(), Job{photo}); err != nil {
					t.Fatal(err)
				}
				w.check(t, photo)
				if err := worker.Handle(t.Context(), Job{photo}); err != nil { // the outbox forgot that it was done
					t.Fatal(err)
				}
				w.check(t, photo)
			})
		}
	}
}

func TestHandleFollowsAMove(t *testing.T) {
	for _, x := range []struct {
		moved int
		ok    bool
	}{{1, true}, {3, true}, {4, false}} {
		w, photo := newWorld(t)
		w.moved = x.moved
		err := w.worker(t).Handle(t.Context(), Job{photo})
		if !x.ok {
			if !errors.Is(err, ErrMoved) || w.photos[photo].status != "pending" {
				t.Errorf("%d moves: %v", x.moved, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		w.check(t, photo)
		if w.makes != 1 {
			t.Errorf("the variants were made %d times", w.makes)
		}
	}
}

func TestHandleGivesUpOnABadPhoto(t *testing.T) {
	w, photo := newWorld(t)
	w.verdict = media.Rejected{Type: media.RejectUndecodable, Title: "The image cannot be decoded."}
	w.failAt = 4 // MarkFailed
	worker := w.worker(t)
	if err := worker.Handle(t.Context(), Job{photo}); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if err := worker.Handle(t.Context(), Job{photo}); err != nil {
		t.Fatal(err)
	}
	p := w.photos[photo]
	if p.status != "failed" || p.failure != (Failure{media.RejectUndecodable, "The image cannot be decoded."}) {
		t.Errorf("%+v", p)
	}
	if len(w.blobs) != 1 || len(w.pushed) != 0 {
		t.Error("something was written for a photo that failed")
	}
}

// A decoder that hangs on a photo is not fed with it for ever; but only hanging
// counts, and only without a success in between.
func TestHandleGivesUpOnAPhotoThatAlwaysHangs(t *testing.T) {
	w, photo := newWorld(t)
	worker := w.worker(t)
	for n, err := range []error{media.ErrHung, media.ErrHung, media.ErrKilled, media.ErrHung, media.ErrBusy, media.ErrHung, media.ErrKilled} {
		w.verdict = fmt.Errorf("%w: 2m0s", err)
		if got := worker.Handle(t.Context(), Job{photo}); !errors.Is(got, err) || w.photos[photo].status != "pending" {
			t.Fatalf("attempt %d: %v, the photo is %s", n, got, w.photos[photo].status)
		}
	}
	w.verdict = media.ErrHung
	w.steps, w.failAt = 0, 4 // MarkFailed
	if err := worker.Handle(t.Context(), Job{photo}); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	if err := worker.Handle(t.Context(), Job{photo}); err != nil {
		t.Fatal(err)
	}
	if p := w.photos[photo]; p.status != "failed" || p.failure.Type != media.RejectUndecodable {
		t.Errorf("%+v", p)
	}
	if len(worker.hung.counts) != 0 {
		t.Errorf("%v is remembered of a photo that is done", worker.hung.counts)
	}
}

func TestHandleForgivesHangsOfAPhotoThatSucceeds(t *testing.T) {
	w, photo := newWorld(t)
	worker := w.worker(t)
	w.verdict = media.ErrHung
	for range 4 {
		if err := worker.Handle(t.Context(), Job{photo}); !errors.Is(err, media.ErrHung) {
			t.Fatal(err)
		}
	}
	w.verdict = nil
	if err := worker.Handle(t.Context(), Job{photo}); err != nil {
		t.Fatal(err)
	}
	w.check(t, photo)
	if len(worker.hung.counts) != 0 {
		t.Errorf("%v", worker.hung.counts)
	}
}

func TestSuspectsAreBounded(t *testing.T) {
	var s suspects
	for photo := id.ID(1); photo <= 3*maxSuspects; photo++ {
		if n := s.count(photo); n != 1 {
			t.Fatalf("photo %v hung %d times", photo, n)
		}
	}
	if n := len(s.counts); n != maxSuspects {
		t.Errorf("%d photos are remembered", n)
	}
}

func TestHandleWaitsWhenThePoolIsBusy(t *testing.T) {
	w, photo := newWorld(t)
	w.verdict = media.ErrBusy
	err := w.worker(t).Handle(t.Context(), Job{photo})
	if !errors.Is(err, media.ErrBusy) || w.photos[photo].status != "pending" {
		t.Errorf("%v, %s", err, w.photos[photo].status)
	}
}

// A photo that is deleted on the way is no error, whenever it happens.
func TestHandleLetsGoOfADeletedPhoto(t *testing.T) {
	for at := 1; at <= 7; at++ {
		w, photo := newWorld(t)
		worker, err := New(Options{Photos: deleting{w, at}, Blobs: w, Maker: w})
		if err != nil {
			t.Fatal(err)
		}
		if err := worker.Handle(t.Context(), Job{photo}); err != nil {
			t.Errorf("deleted at %d: %v", at, err)
		}
		if s := w.photos[photo].status; s != "deleted" {
			t.Errorf("deleted at %d: %s", at, s)
		}
		for blob := range w.blobs {
			if blob != 7 && !w.photos[photo].intents[blob] {
				t.Errorf("deleted at %d: blob %v belongs to nobody", at, blob)
			}
		}
	}
}

// deleting deletes the photo as soon as so many steps have been taken.
type deleting struct {
	*world
	at int
}

func (d deleting) strike(photo id.ID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.steps+1 >= d.at {
		d.photos[photo].status = "deleted"
	}
}

func (d deleting) Master(ctx context.Context, photo id.ID) (Master, error) {
	d.strike(photo)
	return d.world.Master(ctx, photo)
}

func (d deleting) Intend(ctx context.Context, photo, blob id.ID) error {
	d.strike(photo)
	return d.world.Intend(ctx, photo, blob)
}

func (d deleting) MarkReady(ctx context.Context, photo id.ID, r Rendition) error {
	d.strike(photo)
	return d.world.MarkReady(ctx, photo, r)
}

func TestOptionsNameEveryFault(t *testing.T) {
	err := Options{Moves: -1, Hangs: -1}.Validate()
	for _, want := range []string{"Photos", "Blobs", "Maker", "Moves", "Hangs"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s: %v", want, err)
		}
	}
}
