package api

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

const (
	archiveFormat = "hayloft-export/1"
	archiveMemory = 3 * pieceBytes // a piece of a master, and up to two on their way
	archiveRows   = 100            // read at once
	gatherTime    = time.Second    // so long steps are gathered for a piece
)

// archive makes the zip file of docs/export-format.md a step at a time, whatever its size.
// One goroutine uses it.
type archive struct {
	a     *API
	me    feed.UserView
	now   time.Time
	out   bytes.Buffer // what the steps have written since it was emptied
	zip   *zip.Writer  // into out
	steps []step       // the first is under way

	listed  []missingPhoto // in photos.json and not come to yet, by id
	missing []missingPhoto
}

// step writes a part of the archive; done says that it has no more.
type step func(ctx context.Context) (done bool, err error)

func newArchive(a *API, me feed.UserView, now time.Time) *archive {
	x := &archive{a: a, me: me, now: now}
	x.zip = zip.NewWriter(&x.out)
	f, self := a.opt.Feed, me.ID
	people := func(list func(ctx context.Context, p Page) ([]feed.UserView, id.ID, error)) pageOf {
		return rowsOf(list, func(u feed.UserView) any { return archivedPerson{u.ID, u.Handle, u.Name} })
	}
	x.steps = []step{
		x.account,
		x.list("photos.json", rowsOf(func(ctx context.Context, p Page) ([]feed.PhotoView, id.ID, error) { return f.Owned(ctx, self, p) }, x.photo)),
		x.list("comments.json", rowsOf(func(ctx context.Context, p Page) ([]feed.Remark, id.ID, error) { return f.Said(ctx, self, p) }, archiveRemark)),
		x.list("likes.json", rowsOf(func(ctx context.Context, p Page) ([]feed.Liking, id.ID, error) { return f.Liked(ctx, self, p) }, archiveLiking)),
		x.list("following.json", people(func(ctx context.Context, p Page) ([]feed.UserView, id.ID, error) {
			return f.Following(ctx, self, self, p)
		})),
		x.list("followers.json", people(func(ctx context.Context, p Page) ([]feed.UserView, id.ID, error) {
			return f.Followers(ctx, self, self, p)
		})),
		x.list("follow_requests.json", people(func(ctx context.Context, p Page) ([]feed.UserView, id.ID, error) {
			return f.FollowRequests(ctx, self, p)
		})),
		x.list("blocked.json", people(func(ctx context.Context, p Page) ([]feed.UserView, id.ID, error) { return f.Blocks(ctx, self, p) })),
		x.list("muted.json", people(func(ctx context.Context, p Page) ([]feed.UserView, id.ID, error) { return f.Mutes(ctx, self, p) })),
		x.list("listening.json", people(func(ctx context.Context, p Page) ([]feed.UserView, id.ID, error) { return f.Listening(ctx, self, p) })),
		(&originals{x: x}).step,
		x.lost,
		func(context.Context) (bool, error) { return true, x.zip.Close() },
	}
	return x
}

// next returns the bytes that follow, a piece of them if there are so many, valid until it is
// called again; io.EOF at the end.
func (x *archive) next(context.Context) ([]byte, error) {
	x.out.Reset()
	for begun := x.a.opt.Clock.Now(); len(x.steps) > 0; {
		if err := x.step(); err != nil {
			return nil, err
		}
		if n := x.out.Len(); n >= pieceBytes || n > 0 && x.a.opt.Clock.Now().Sub(begun) > gatherTime {
			break
		}
	}
	if x.out.Len() == 0 {
		return nil, io.EOF
	}
	return x.out.Bytes(), nil
}

// step does the next step. It has a call's time, however many it takes to make a piece.
func (x *archive) step() error {
	ctx, cancel := context.WithTimeout(x.a.base, x.a.opt.Limits.CallTimeout)
	defer cancel()
	done, err := x.steps[0](ctx)
	if err != nil {
		return err
	}
	if done {
		x.steps = x.steps[1:]
	}
	if len(x.steps) == 0 {
		return nil // the last one has closed it
	}
	return x.zip.Flush()
}

// file begins a file of text.
func (x *archive) file(name string) (io.Writer, error) {
	return x.zip.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: x.now})
}

// account writes whose archive it is.
func (x *archive) account(ctx context.Context) (bool, error) {
	wanted, err := x.a.opt.Feed.NotificationsWanted(ctx, x.me.ID)
	if err != nil {
		return false, err
	}
	u := x.me.User
	return true, x.document("account.json", archivedAccount{
		Format: archiveFormat, MadeAt: utc(x.now), Server: x.a.opt.PublicURL,
		ID: u.ID, Handle: u.Handle, Name: u.Name, Bio: u.Bio, IsPrivate: u.IsPrivate, CreatedAt: utc(u.CreatedAt), Notifications: byKind(wanted),
	})
}

// document writes a file with one value.
func (x *archive) document(name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	w, err := x.file(name)
	if err == nil {
		_, err = w.Write(append(b, '\n'))
	}
	return err
}

// pageOf reads some rows after a place, as they are written; next is as that of the feed.
type pageOf func(ctx context.Context, after id.ID) (rows []any, next id.ID, err error)

func rowsOf[T any](list func(context.Context, Page) ([]T, id.ID, error), show func(T) any) pageOf {
	return func(ctx context.Context, after id.ID) ([]any, id.ID, error) {
		rows, next, err := list(ctx, Page{After: after, Limit: archiveRows})
		shown := make([]any, len(rows))
		for i, row := range rows {
			shown[i] = show(row)
		}
		return shown, next, err
	}
}

// list is a step that writes a list, a page at a time.
func (x *archive) list(name string, page pageOf) step {
	var w io.Writer
	var after id.ID
	between := "[\n"
	return func(ctx context.Context) (bool, error) {
		rows, next, err := page(ctx, after)
		if err != nil {
			return false, err
		}
		if w == nil {
			if w, err = x.file(name); err != nil {
				return false, err
			}
		}
		var b bytes.Buffer
		for _, row := range rows {
			line, err := json.Marshal(row)
			if err != nil {
				return false, err
			}
			b.WriteString(between)
			b.Write(line)
			between = ",\n"
		}
		after = next
		if next == 0 {
			if between == "[\n" {
				b.WriteString("[")
			}
			b.WriteString("\n]\n")
		}
		_, err = w.Write(b.Bytes())
		return next == 0, err
	}
}

// photo is the row of a photo, whose original is to follow.
func (x *archive) photo(p feed.PhotoView) any {
	x.listed = append(x.listed, missingPhoto{p.ID, originalName(p), deletedMeanwhile})
	return archivePhoto(p)
}

// passed notes that the original of photo is what comes next: photos before it which were
// listed are gone.
func (x *archive) passed(photo id.ID) {
	for len(x.listed) > 0 && x.listed[0].ID < photo {
		x.missing = append(x.missing, x.listed[0])
		x.listed = x.listed[1:]
	}
	if len(x.listed) > 0 && x.listed[0].ID == photo {
		x.listed = x.listed[1:]
	}
}

// lost writes which originals are not in it, if any.
func (x *archive) lost(context.Context) (bool, error) {
	if len(x.missing) == 0 {
		return true, nil
	}
	return true, x.document("missing.json", x.missing)
}
