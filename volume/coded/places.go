package coded

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// busy are the places at which a call that gives or takes names is under way, of
// this process. One that hangs may still do it much later: nobody else uses the
// place before it has ended.
var busy sync.Map // of LogCopy without its Disk

var errBusy = errors.New("an earlier call on this disk has not returned")

// claim reports false while somebody has the place. end gives it back.
func claim(at LogCopy) (end func(), ok bool) {
	at.Disk = 0
	if _, taken := busy.LoadOrStore(at, true); taken {
		return nil, false
	}
	return func() { busy.Delete(at) }, true
}

// answer is what a place answered.
type answer[T any] struct {
	i     int
	value T
	err   error
}

// ask runs fn for each place at once, and returns what has answered, by place, when
// all have, or patience has passed since it was enough, or ctx ends. What answers
// later is given to late; until then its answer is an error.
func ask[T any](ctx context.Context, places []LogCopy, fn func(context.Context, LogCopy) (T, error),
	enough func([]answer[T]) bool, c clock.Clock, patience time.Duration, late func(T, error)) []answer[T] {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // who is late begins nothing any more
	got := make(chan answer[T], len(places))
	for i, at := range places {
		end, ok := claim(at)
		if !ok {
			got <- answer[T]{i: i, err: errBusy}
			continue
		}
		go func() {
			value, err := fn(ctx, at)
			end()
			got <- answer[T]{i, value, err}
		}()
	}
	out := make([]answer[T], len(places))
	for i := range out {
		out[i] = answer[T]{i: i, err: fmt.Errorf("no answer: %w", context.DeadlineExceeded)}
	}
	var timer <-chan time.Time
	for open := len(places); open > 0; {
		if timer == nil && enough(out) {
			timer = c.After(patience)
		}
		select {
		case a := <-got:
			out[a.i] = a
			open--
			continue
		case <-timer:
		case <-ctx.Done():
		}
		go func() {
			for range open {
				a := <-got
				late(a.value, a.err)
			}
		}()
		break
	}
	return out
}

// putLog gives a log its name in the place of whatever is there, and opens it. ctx
// ends the work between two calls: then the name is as it was.
func putLog(ctx context.Context, at LogCopy, v volume.ID, content []byte) (vfs.File, error) {
	fsys, name := at.Home.FS, at.path(v)
	file, err := fsys.Create(name + tmpExt)
	if err != nil {
		return nil, err
	}
	if _, err = file.WriteVAt([][]byte{content}, 0); err == nil {
		err = file.Sync()
	}
	return nameLog(ctx, at, v, file, err)
}

// nameLog gives the unfinished file of a place its name, unless err says what is
// wrong with it, and opens it under that. A marker that is found was that of the
// file it replaces.
func nameLog(ctx context.Context, at LogCopy, v volume.ID, file vfs.File, err error) (vfs.File, error) {
	if err = errors.Join(err, file.Close(), ctx.Err()); err != nil {
		return nil, err
	}
	fsys, name := at.Home.FS, at.path(v)
	if err := fsys.Rename(name+tmpExt, name); err != nil {
		return nil, err
	}
	if err := fsys.SyncDir(filepath.Dir(name)); err != nil {
		return nil, err
	}
	if err := volume.RemoveDeleteLogMarker(fsys, at.Home.Dir, v); err != nil {
		return nil, err
	}
	return fsys.OpenWrite(name)
}

const tmpExt = ".tmp"

// good counts answers that are no errors.
func good[T any](all []answer[T]) (n int) {
	for _, a := range all {
		if a.err == nil {
			n++
		}
	}
	return n
}
