package feed

import (
	"context"

	"hayloft/internal/id"
)

// photoView dresses a photo that viewer may see.
func (v *view) photoView(viewer id.ID, p *photoRow) (PhotoView, error) {
	author, err := v.account(p.Author)
	if err != nil || author == nil {
		return PhotoView{}, firstErr(err, corrupt("photo %v has no author", p.ID))
	}
	out := PhotoView{
		Photo: p.Photo, AuthorHandle: author.Handle, AuthorName: author.Name, AuthorEpoch: mediaEpoch(author, p),
		Signed: signed(author, p),
	}
	if out.Avatar, err = v.avatar(author); err != nil {
		return PhotoView{}, err
	}
	if out.Details.People, err = v.named(viewer, p.Details.People); err != nil {
		return PhotoView{}, err
	}
	if viewer != 0 && p.Likes > 0 {
		out.Liked, err = v.has(key2(tabLike, p.ID, viewer))
	}
	return out, err
}

// named leaves out whom viewer is not to meet of those a photo names.
func (v *view) named(viewer id.ID, people []id.ID) ([]id.ID, error) {
	var out []id.ID
	for _, p := range people {
		ok, err := heard(v, viewer, p)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, p)
		}
	}
	return out, nil
}

// Photo returns a photo that viewer may see; the author sees it from Pending on.
func (f *Feed) Photo(ctx context.Context, viewer, photo id.ID) (PhotoView, error) {
	var out PhotoView
	err := f.readSure(ctx, func(v *view) error {
		p, err := v.mustSee(viewer, photo)
		if err == nil {
			out, err = v.photoView(viewer, p)
		}
		return err
	})
	return out, err
}

// PhotoRow returns a photo as it is stored, whoever may see it: for operators. The
// error is ErrNotFound when there is none.
func (f *Feed) PhotoRow(ctx context.Context, photo id.ID) (Photo, error) {
	var out Photo
	err := f.serve(ctx, func(v *view) error {
		p, err := v.photo(photo)
		if err != nil || p == nil {
			return firstErr(err, ErrNotFound)
		}
		out = p.Photo
		return nil
	})
	return out, err
}

// mustSee returns the photo if viewer may see it on its page.
func (v *view) mustSee(viewer, photo id.ID) (*photoRow, error) {
	p, err := v.photo(photo)
	if err != nil {
		return nil, err
	}
	ok, err := visible(v, viewer, p, permalink)
	if err != nil || !ok {
		return nil, firstErr(err, ErrNotFound)
	}
	return p, nil
}

// WaitReady returns the photo when it is no longer Pending, or ctx's error.
func (f *Feed) WaitReady(ctx context.Context, viewer, photo id.ID) (PhotoView, error) {
	for {
		p, err := f.Photo(ctx, viewer, photo)
		if err != nil || p.Status != Pending {
			return p, err
		}
		settled, done := f.machine.watch.onPhoto(photo)
		// Once more, now that a change cannot be missed.
		p, err = f.Photo(ctx, viewer, photo)
		if err != nil || p.Status != Pending {
			done()
			return p, err
		}
		select {
		case <-settled:
			done()
		case <-ctx.Done():
			done()
			return p, ctx.Err()
		}
	}
}

// UpdatePhoto changes what is not nil.
func (f *Feed) UpdatePhoto(ctx context.Context, owner, photo id.ID, c PhotoChange) (PhotoView, error) {
	cmd := &cmdUpdatePhoto{
		Owner: owner, Photo: photo,
		Title: textPtr(c.Title), Caption: textPtr(c.Caption), Alt: textPtr(c.Alt),
	}
	var d Details // only to have the changed parts checked
	for _, t := range []struct{ to, from *string }{{&d.Title, c.Title}, {&d.Caption, c.Caption}, {&d.Alt, c.Alt}} {
		if t.from != nil {
			*t.to = *t.from
		}
	}
	if c.Tags != nil {
		d.Tags = *c.Tags
	}
	if c.People != nil {
		d.People = *c.People
	}
	if c.Location != nil {
		d.Location = *c.Location
	}
	if c.Visibility != nil {
		d.Visibility = *c.Visibility
		cmd.Visibility = &visibilityValue{d.Visibility}
	}
	d, err := f.checkDetails(ctx, d)
	if err != nil {
		return PhotoView{}, err
	}
	if c.Tags != nil {
		cmd.Tags = &tagsValue{d.Tags}
	}
	if c.People != nil {
		cmd.People = &idsValue{d.People}
	}
	if c.Location != nil {
		cmd.Location = &locationValue{d.Location}
	}
	if _, err := f.propose(ctx, cmd); err != nil {
		return PhotoView{}, err
	}
	return f.Photo(ctx, owner, photo)
}

// DeletePhoto hides a photo at once. Its owner may restore it within the grace
// unless purge is set. Deleting again is nothing; a purged photo is ErrNotFound.
func (f *Feed) DeletePhoto(ctx context.Context, owner, photo id.ID, purge bool) error {
	mark, err := f.newID(ctx)
	if err != nil {
		return err
	}
	cmd := &cmdDeletePhoto{Owner: owner, Photo: photo, Mark: mark, Due: f.due(f.policy.DeleteGrace), Purge: purge}
	_, err = f.propose(ctx, cmd)
	return err
}

// RestorePhoto undoes DeletePhoto; ErrConflict when the grace is over.
func (f *Feed) RestorePhoto(ctx context.Context, owner, photo id.ID) (PhotoView, error) {
	if _, err := f.propose(ctx, &cmdRestorePhoto{Owner: owner, Photo: photo}); err != nil {
		return PhotoView{}, err
	}
	return f.Photo(ctx, owner, photo)
}

// DeletedPhotos lists what owner may restore, latest delete first.
func (f *Feed) DeletedPhotos(ctx context.Context, owner id.ID, p Page) (rows []PhotoView, next id.ID, err error) {
	now := f.now()
	err = f.serve(ctx, func(v *view) error {
		next, err = v.pager(tabDeleted, owner, p, func(_ id.ID, value []byte) (bool, error) {
			if len(value) != 8 {
				return false, corrupt("deleted list: value of %d bytes", len(value))
			}
			row, err := v.photo(id.ID(parseBE(value)))
			if err != nil || row == nil || row.Status != Deleted || row.Purging || !row.Due.After(now) {
				return false, err
			}
			pv, err := v.photoView(owner, row)
			if err == nil {
				rows = append(rows, pv)
			}
			return true, err
		})
		return err
	})
	return rows, next, err
}

// PhotosBy lists an author's photos that viewer may see, by position descending.
func (f *Feed) PhotosBy(ctx context.Context, viewer, author id.ID, p Page) (rows []PhotoView, next id.ID, err error) {
	err = f.serve(ctx, func(v *view) error {
		a, err := v.mustAccount(author)
		if err != nil {
			return err
		}
		if _, err := v.userView(viewer, a); err != nil { // blocked by the author
			return err
		}
		next, err = v.pager(tabPosts, author, p, func(_ id.ID, value []byte) (bool, error) {
			photo, _, err := parsePostValue(value)
			if err != nil {
				return false, err
			}
			row, err := v.photo(photo)
			if err != nil {
				return false, err
			}
			ok, err := visible(v, viewer, row, listing)
			if err != nil || !ok {
				return false, err
			}
			pv, err := v.photoView(viewer, row)
			if err == nil {
				rows = append(rows, pv)
			}
			return true, err
		})
		return err
	})
	return rows, next, err
}
