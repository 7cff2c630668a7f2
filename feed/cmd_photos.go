package feed

import (
	"time"

	"hayloft/internal/id"
)

type tagsValue struct{ V []string }

func (r *tagsValue) fields(c *codec) { c.strs(1, &r.V) }

type idsValue struct{ V []id.ID }

func (r *idsValue) fields(c *codec) { c.ids(1, &r.V) }

type locationValue struct{ V *Location }

func (r *locationValue) fields(c *codec) { opt(c, 1, &r.V) }

type visibilityValue struct{ V Visibility }

func (r *visibilityValue) fields(c *codec) { num(c, 1, &r.V) }

type cmdUpdatePhoto struct {
	Owner, Photo        id.ID
	Title, Caption, Alt *textValue
	Tags                *tagsValue
	People              *idsValue
	Location            *locationValue
	Visibility          *visibilityValue
}

func (r *cmdUpdatePhoto) fields(c *codec) {
	c.id(1, &r.Owner)
	c.id(2, &r.Photo)
	opt(c, 3, &r.Title)
	opt(c, 4, &r.Caption)
	opt(c, 5, &r.Alt)
	opt(c, 6, &r.Tags)
	opt(c, 7, &r.People)
	opt(c, 8, &r.Location)
	opt(c, 9, &r.Visibility)
}

func (r *cmdUpdatePhoto) apply(t *tx) (outcome, error) {
	if _, err := t.active(r.Owner); err != nil {
		return outcome{}, err
	}
	p, err := t.photo(r.Photo)
	if err != nil {
		return outcome{}, err
	}
	if p == nil || p.Author != r.Owner || p.Status < Pending || p.Status == Deleted {
		return outcome{}, ErrNotFound
	}
	d := &p.Details
	named, err := t.namedWith(d)
	if err != nil {
		return outcome{}, err
	}
	for _, f := range []struct {
		to   *string
		from *textValue
	}{{&d.Title, r.Title}, {&d.Caption, r.Caption}, {&d.Alt, r.Alt}} {
		if f.from != nil {
			*f.to = f.from.V
		}
	}
	if r.Tags != nil {
		d.Tags = r.Tags.V
	}
	if r.People != nil {
		d.People = r.People.V
	}
	if r.Location != nil {
		d.Location = r.Location.V
	}
	if r.Visibility != nil && r.Visibility.V != d.Visibility {
		if r.Visibility.V > d.Visibility { // narrower: URLs that were given out must die
			p.Epoch++
		}
		if p.Status == Ready {
			author, err := t.mustAccount(p.Author)
			if err != nil {
				return outcome{}, err
			}
			author.count(d.Visibility, oneLess)
			author.count(r.Visibility.V, 1)
			t.putAccount(author)
		}
		d.Visibility = r.Visibility.V
		if err := t.purgePhotoBlobs(p); err != nil {
			return outcome{}, err
		}
	}
	t.putPhoto(p)
	t.changedPhoto(p)
	if p.Status == Ready {
		err = t.tellNamed(p, named)
	}
	return outcome{ID: p.ID}, err
}

// purgePhotoBlobs makes caches forget what they think of a ready photo's blobs.
// Blobs of other photos were never served.
func (t *tx) purgePhotoBlobs(p *photoRow) error {
	if p.Rendition.Blob == 0 {
		return nil
	}
	if err := t.purge(p.Master.Blob); err != nil {
		return err
	}
	return t.purge(p.Rendition.Blob)
}

type cmdDeletePhoto struct {
	Owner, Photo, Mark id.ID
	Due                time.Time // the end of the grace
	Purge              bool
}

func (r *cmdDeletePhoto) fields(c *codec) {
	c.id(1, &r.Owner)
	c.id(2, &r.Photo)
	c.id(3, &r.Mark)
	c.time(4, &r.Due)
	c.bool(5, &r.Purge)
}

func (r *cmdDeletePhoto) apply(t *tx) (outcome, error) {
	p, err := t.photo(r.Photo)
	if err != nil {
		return outcome{}, err
	}
	if p == nil || p.Author != r.Owner || p.Status < Pending || p.Purging {
		return outcome{}, ErrNotFound
	}
	if p.Status != Deleted {
		if err := t.hide(p, r.Mark, r.Due); err != nil {
			return outcome{}, err
		}
	}
	if r.Purge {
		return outcome{}, t.giveUp(p)
	}
	return outcome{}, nil
}

// hide deletes a photo so that it can still be restored.
func (t *tx) hide(p *photoRow, mark id.ID, due time.Time) error {
	switch p.Status {
	case Ready:
		if err := t.withdraw(p); err != nil {
			return err
		}
	case Pending:
		if err := t.settle(p.Effect); err != nil {
			return err
		}
		p.Effect = 0
		t.woken.settled = append(t.woken.settled, p.ID)
	}
	p.Before, p.Status = p.Status, Deleted
	p.DeletedAt = t.now
	p.Mark = mark
	t.setID(keyDesc(tabDeleted, p.Author, mark), p.ID)
	t.setPhotoDue(p, due)
	t.putPhoto(p)
	return nil
}

// withdraw undoes publish. The outbox is not told: timelines leave it to
// visibility.
func (t *tx) withdraw(p *photoRow) error {
	author, err := t.mustAccount(p.Author)
	if err != nil {
		return err
	}
	if author.Photos == 0 {
		return corrupt("photo counter of %v is below its list", author.ID)
	}
	author.count(p.Details.Visibility, oneLess)
	t.putAccount(author)
	t.del(keyDesc(tabPosts, p.Author, p.Pos))
	t.changedPhoto(p)
	return t.purgePhotoBlobs(p)
}

// giveUp ends a deleted photo for good: its bytes are owed to the reclaimer, a
// chore removes likes, comments and the row.
func (t *tx) giveUp(p *photoRow) error {
	t.del(keyDesc(tabDeleted, p.Author, p.Mark))
	p.Mark = 0
	p.Purging = true
	t.setPhotoDue(p, time.Time{})
	for _, blob := range []id.ID{p.Master.Blob, p.Rendition.Blob} {
		if err := t.release(p.ID, blob); err != nil {
			return err
		}
	}
	t.putPhoto(p)
	return t.chore(choreRow{Kind: chorePhoto, Subject: p.ID})
}

type cmdRestorePhoto struct{ Owner, Photo id.ID }

func (r *cmdRestorePhoto) fields(c *codec) {
	c.id(1, &r.Owner)
	c.id(2, &r.Photo)
}

func (r *cmdRestorePhoto) apply(t *tx) (outcome, error) {
	if _, err := t.active(r.Owner); err != nil {
		return outcome{}, err
	}
	p, err := t.photo(r.Photo)
	if err != nil {
		return outcome{}, err
	}
	switch {
	case p == nil || p.Author != r.Owner || p.Status < Pending:
		return outcome{}, ErrNotFound
	case p.Status != Deleted:
		return outcome{ID: p.ID}, nil
	case p.Purging || !p.Due.After(t.now):
		return outcome{}, ErrConflict
	}
	t.del(keyDesc(tabDeleted, p.Author, p.Mark))
	t.setPhotoDue(p, time.Time{})
	p.Status, p.Before = p.Before, 0
	p.Mark = 0
	p.DeletedAt = time.Time{}
	t.putPhoto(p)
	switch p.Status {
	case Pending:
		return outcome{ID: p.ID}, t.oweTranscode(p)
	case Ready:
		if err := t.publish(p, true); err != nil {
			return outcome{}, err
		}
		return outcome{ID: p.ID}, t.purgePhotoBlobs(p) // caches may have kept "gone"
	}
	return outcome{ID: p.ID}, nil
}
