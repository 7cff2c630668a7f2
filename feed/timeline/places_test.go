package timeline

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"hayloft/internal/testenv"
)

var errGone = errors.New("the disk is gone")

func twoDirs(o *Options) { o.Dirs = []string{"a/t", "b/t"} }

func (f *fixture) kinds() (out []NoticeKind) {
	for _, n := range f.saw {
		out = append(out, n.Kind)
	}
	return out
}

// TestDirectoryLost: the timelines start empty in another directory; with none
// left pages are pulled and events are needed no more; one that comes back is
// used.
func TestDirectoryLost(t *testing.T) {
	f := newFixture(t, twoDirs)
	f.built(2)
	f.s.Lost("a/t", errGone)
	f.see() // before the writer has noticed
	f.m.publish(post(3, author))
	f.see()
	f.rest()
	f.see()
	f.rest()
	if f.s.in.place.dir != "b/t" || f.rows(keyTimeline) != 1 || !slices.Equal(f.kinds(), []NoticeKind{Wiped}) {
		t.Fatalf("in %s with %d timelines, %v", f.s.in.place.dir, f.rows(keyTimeline), f.saw)
	}
	f.s.Lost("b/t", errGone)
	f.see()
	f.rest()
	f.m.publish(post(4, author))
	f.see()
	f.rest()
	if f.s.in != nil || f.s.Stats().Readers != 0 || f.kinds()[1] != Homeless {
		t.Fatalf("%+v, %v", f.s.in, f.saw)
	}
	last, _ := f.m.Snapshot().LastSeq()
	if f.s.DurableCursor() != last {
		t.Errorf("events after %d of %d are kept for nobody", f.s.DurableCursor(), last)
	}
	// What was left open there may still be about to close: then it is asked again.
	for limit := time.After(testenv.Patience); f.s.in == nil; <-time.After(time.Millisecond) {
		f.s.Usable("a/t")
		f.rest()
		f.see()
		f.rest()
		select {
		case <-limit:
			t.Fatalf("not used again: %v", f.saw)
		default:
		}
	}
	if f.s.in.place.dir != "a/t" || f.rows(keyTimeline) != 1 {
		t.Errorf("in %s with %d timelines", f.s.in.place.dir, f.rows(keyTimeline))
	}
	f.m.publish(post(5, author))
	f.rest()
	f.see()
}

// TestOtherInstanceGoes: of two instances the one in the first directory is
// opened, the other is removed; an only one is opened wherever it is.
func TestOtherInstanceGoes(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Dirs = []string{"b/t"} })
	f.built(2)
	if err := f.s.Close(); err != nil {
		t.Fatal(err)
	}
	f.o.Dirs = []string{"a/t", "b/t"}
	f.open()
	if f.s.in.place.dir != "b/t" || f.rows(keyTimeline) != 1 {
		t.Errorf("in %s with %d timelines", f.s.in.place.dir, f.rows(keyTimeline))
	}
	f.s.Lost("b/t", errGone)
	f.rest()
	f.reopen()
	if f.s.in.place.dir != "a/t" {
		t.Errorf("in %s", f.s.in.place.dir)
	}
	if _, err := f.fs.Stat("b/t/db"); err == nil {
		t.Error("the other instance is still there")
	}
	f.see()
}

// TestHangingDirectory: a page that waits for a disk that hangs is answered, from
// elsewhere, as soon as the disk counts as lost.
func TestHangingDirectory(t *testing.T) {
	var hangs atomic.Bool
	hang, entered := make(chan struct{}), make(chan struct{}, 64)
	f := newFixture(t, func(o *Options) {
		twoDirs(o)
		o.CacheBytes = 1
		o.FS = errorfs.Wrap(o.FS, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if hangs.Load() && strings.HasPrefix(op.Path, "a/") && op.Kind == errorfs.OpFileReadAt {
				entered <- struct{}{}
				<-hang
			}
			return nil
		}))
	})
	f.built(2)
	f.reopen() // nothing is in memory
	hangs.Store(true)
	type page struct {
		posts []Post
		err   error
	}
	answered := make(chan page, 1)
	go func() {
		posts, _, err := f.s.Page(context.Background(), reader, 0, 100, f.m.visible(reader))
		answered <- page{posts, err}
	}()
	<-entered
	f.s.Lost("a/t", errGone)
	if p := <-answered; p.err != nil || len(p.posts) != 2 {
		t.Errorf("%v, %v", p.posts, p.err)
	}
	f.rest()
	close(hang)
	hangs.Store(false)
	f.see()
	if f.s.in.place.dir != "b/t" {
		t.Errorf("in %s", f.s.in.place.dir)
	}
}

// TestPebbleGivesUp: what Pebble calls fatal costs the instance, not the process.
func TestPebbleGivesUp(t *testing.T) {
	for _, dirs := range []int{2, 1} {
		f := newFixture(t, func(o *Options) { twoDirs(o); o.Dirs = o.Dirs[:dirs] })
		f.built(2)
		in := f.s.in
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s := f.s.pebbleOptions(in)
			s.Logger.Fatalf("MANIFEST write failed: %v", errGone)
		}()
		<-ended
		f.see()
		f.rest()
		f.see()
		switch {
		case dirs == 2 && f.s.in.place.dir != "b/t":
			t.Errorf("in %s", f.s.in.place.dir)
		case dirs == 1 && f.s.in != nil:
			t.Errorf("the only directory is used again")
		}
		if err := in.db.Close(); err == nil { // left open by the store; its files were cut off
			t.Error("the instance that was given up could still write")
		}
	}
}

// TestWriteFails: a background write that fails moves the timelines when there is
// another directory.
func TestWriteFails(t *testing.T) {
	var fails atomic.Bool
	f := newFixture(t, func(o *Options) {
		twoDirs(o)
		o.FS = errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if fails.Load() && strings.HasPrefix(op.Path, "a/") && strings.HasSuffix(op.Path, ".sst") && op.Kind == errorfs.OpCreate {
				return errGone
			}
			return nil
		}))
	})
	f.built(2)
	in := f.s.in
	fails.Store(true)
	if err := f.s.w.beginFlush(); err != nil {
		t.Fatal(err)
	}
	<-in.place.gone
	f.rest()
	f.see()
	if f.s.in.place.dir != "b/t" {
		t.Errorf("in %s", f.s.in.place.dir)
	}
}
