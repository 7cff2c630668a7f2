package server

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

// rows is a directory that knows one row.
type oneRow struct {
	Directory
	row   Row
	fresh int // how often it was asked
}

func (o *oneRow) Row(volume.ID) (Row, bool) { return o.row, true }

func (o *oneRow) FreshRow(context.Context, volume.ID) (Row, bool, error) {
	o.fresh++
	return o.row, true, nil
}

// TestShelvesHaveOneHolder: a shelf goes to whoever has the latest term, when nothing of
// the former holder is under way any more, and that gets nothing done from then on.
func TestShelvesHaveOneHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := vfs.NewMem(1)
		var stuck chan struct{}
		slow := &vfs.Fault{FS: mem, Before: func(op vfs.Op) (o vfs.Outcome) {
			if op.Kind == vfs.OpWrite && stuck != nil {
				<-stuck
			}
			return o
		}}
		dir := &oneRow{row: Row{State: StateSealed, Term: 5}}
		s := &Server{o: Options{Directory: dir, DirectoryTimeout: 1 << 40}}
		d := &disk{s: s, number: 3, dir: "/d", fs: slow}
		silent := make(chan struct{})
		d.silent.Store(&silent)
		ctx := t.Context()
		take := func(term uint32) (*shelfFS, error) { return s.takeShelf(ctx, d, 7, 1, term) }
		first, err := take(5)
		if err != nil {
			t.Fatal(err)
		}
		if dir.fresh != 1 {
			t.Errorf("a table of now was asked for %d times", dir.fresh)
		}
		if _, err := take(4); !errors.Is(err, ErrMoved) {
			t.Errorf("under a term that is over: %v", err)
		}
		if _, err := take(6); !errors.Is(err, ErrUnavailable) {
			t.Errorf("under a term that nobody has given: %v", err)
		}
		f, err := first.Create("x")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := mem.Stat("/d/shards/00000007-00000001/x"); err != nil {
			t.Error(err)
		}
		for _, name := range []string{"../x", "a/b", ".."} {
			if _, err := first.Create(name); !errors.Is(err, volume.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		// The next one waits for what is under way.
		stuck = make(chan struct{})
		wrote := make(chan error, 1)
		go func() {
			_, err := f.WriteVAt([][]byte{[]byte("late")}, 0)
			wrote <- err
		}()
		synctest.Wait()
		dir.row.Term = 6
		late, cancel := context.WithCancel(ctx)
		refused := make(chan error, 1)
		go func() {
			_, err := s.takeShelf(late, d, 7, 1, 6)
			refused <- err
		}()
		synctest.Wait()
		if _, err := first.Stat("x"); !errors.Is(err, ErrShelf) || !first.Lost() {
			t.Errorf("while the next one waits: %v", err)
		}
		cancel()
		if err := <-refused; !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
		type taken struct {
			f   *shelfFS
			err error
		}
		got := make(chan taken, 1)
		go func() {
			f, err := take(6)
			got <- taken{f, err}
		}()
		synctest.Wait()
		if len(got) > 0 {
			t.Fatal("it was given out while a write of the former holder is under way")
		}
		close(stuck)
		stuck = nil
		second := <-got
		if err := <-wrote; err != nil || second.err != nil {
			t.Fatal(err, second.err)
		}
		if _, err := take(5); !errors.Is(err, ErrMoved) {
			t.Errorf("the former term: %v", err)
		}
		if _, err := f.WriteVAt([][]byte{[]byte("later")}, 0); !errors.Is(err, ErrShelf) {
			t.Error(err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		again, err := second.f.OpenWrite("x") // not locked by who had it
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 4)
		if n, err := again.ReadAt(b, 0); n != 4 || string(b) != "late" {
			t.Error(n, err, string(b))
		}
		// The same keeper, started anew or out of touch, takes it once more.
		third, err := take(6)
		if err != nil || !second.f.Lost() || third.Lost() {
			t.Error(err)
		}
		if _, err := again.Size(); !errors.Is(err, ErrShelf) {
			t.Error(err)
		}
		s.endShelves()
		if !third.Lost() {
			t.Error("it is held when the server has ended")
		}
	})
}
