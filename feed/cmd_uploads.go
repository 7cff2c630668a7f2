package feed

import (
	"time"

	"hayloft/feed/timeline"
	"hayloft/internal/id"
)

type cmdBeginUpload struct {
	Photo, Owner id.ID
	Upload       UploadSpec
	Due          time.Time // when the upload is given up
}

func (r *cmdBeginUpload) fields(c *codec) {
	c.id(1, &r.Photo)
	c.id(2, &r.Owner)
	c.sub(3, &r.Upload)
	c.time(4, &r.Due)
}

func (r *cmdBeginUpload) apply(t *tx) (outcome, error) {
	if _, err := t.active(r.Owner); err != nil {
		return outcome{}, err
	}
	if p, err := t.photo(r.Photo); err != nil || p != nil {
		return outcome{}, firstErr(err, ErrConflict)
	}
	p := &photoRow{
		Photo:  Photo{ID: r.Photo, Author: r.Owner, Status: Reserved, CreatedAt: t.now},
		Upload: &r.Upload,
	}
	t.setPhotoDue(p, r.Due)
	t.putPhoto(p)
	t.set(key2(tabOwned, r.Owner, r.Photo), nil)
	return outcome{ID: r.Photo}, nil
}

type cmdIntend struct {
	Photo, Blob id.ID
	Due         time.Time
}

func (r *cmdIntend) fields(c *codec) {
	c.id(1, &r.Photo)
	c.id(2, &r.Blob)
	c.time(3, &r.Due)
}

func (r *cmdIntend) apply(t *tx) (outcome, error) {
	p, err := t.photo(r.Photo)
	if err != nil {
		return outcome{}, err
	}
	switch {
	case p == nil || p.Status == Deleted:
		return outcome{}, ErrNotFound
	case p.Status == Reserved && t.now.After(p.Due):
		return outcome{}, ErrExpired
	case p.Status == Stored:
		return outcome{}, ErrStored
	case p.Status != Reserved && p.Status != Pending:
		return outcome{}, ErrConflict // ready or failed: nothing more is to be written
	}
	b, err := t.blob(r.Blob)
	if err != nil {
		return outcome{}, err
	}
	if b != nil {
		if b.Photo == r.Photo && b.Role == roleIntent {
			return outcome{}, nil
		}
		return outcome{}, ErrConflict
	}
	t.setRow(key1(tabBlob, r.Blob), &blobRow{Photo: r.Photo, Role: roleIntent, Due: r.Due})
	t.setDue(dueIntent, be(nil, uint64(r.Blob)), time.Time{}, r.Due)
	if p.Status == Reserved && r.Due.After(p.Due) {
		t.setPhotoDue(p, r.Due)
		t.putPhoto(p)
	}
	return outcome{}, nil
}

// attach turns photo's live intent for blob into a part of it.
func (t *tx) attach(photo, blob id.ID, as role) error {
	b, err := t.blob(blob)
	if err != nil {
		return err
	}
	if b == nil || b.Role != roleIntent || b.Photo != photo || !b.Due.After(t.now) {
		return ErrExpired
	}
	t.setDue(dueIntent, be(nil, uint64(blob)), b.Due, time.Time{})
	t.setRow(key1(tabBlob, blob), &blobRow{Photo: photo, Role: as})
	return nil
}

// release gives up an attached blob: nothing serves it any more and its bytes
// are owed to the reclaimer. blob 0 is nothing.
func (t *tx) release(photo, blob id.ID) error {
	if blob == 0 {
		return nil
	}
	t.del(key1(tabBlob, blob))
	_, err := t.owe(effectRow{Kind: EffectReclaim, Photo: photo, Blob: blob})
	return err
}

type cmdStored struct {
	Photo   id.ID
	Master  Master
	Details *Details  // finalizes in the same command
	Due     time.Time // when the photo is given up if nobody finalizes it
}

func (r *cmdStored) fields(c *codec) {
	c.id(1, &r.Photo)
	c.sub(2, &r.Master)
	opt(c, 3, &r.Details)
	c.time(4, &r.Due)
}

func (r *cmdStored) apply(t *tx) (outcome, error) {
	p, err := t.photo(r.Photo)
	if err != nil {
		return outcome{}, err
	}
	switch {
	case p == nil: // given up by the sweeper
		return outcome{}, ErrExpired
	case p.Master.Blob == r.Master.Blob: // the answer to the first call was lost
		return outcome{ID: p.ID}, nil
	case p.Status != Reserved:
		return outcome{}, ErrStored
	case p.Upload != nil && p.Upload.Size != r.Master.Size:
		return outcome{}, Invalid{"file_size", "not the size that was announced"}
	}
	if err := t.attach(r.Photo, r.Master.Blob, roleMaster); err != nil {
		return outcome{}, err
	}
	p.Master = r.Master
	if p.Upload != nil { // a repeated begin upload still asks until when its URL was good
		p.Upload = &UploadSpec{ExpiresAt: p.Upload.ExpiresAt}
	}
	p.Status = Stored
	t.setPhotoDue(p, r.Due)
	t.putPhoto(p)
	if r.Details == nil {
		return outcome{ID: p.ID}, nil
	}
	author, err := t.account(p.Author)
	if err != nil || author == nil || author.hidden() { // the bytes wait as those of other uploads do
		return outcome{ID: p.ID}, err
	}
	return outcome{ID: p.ID}, t.finalize(p, *r.Details)
}

// finalize makes a stored photo pending and owes its transcoding.
func (t *tx) finalize(p *photoRow, d Details) error {
	p.Details = d
	p.Status = Pending
	t.setPhotoDue(p, time.Time{})
	return t.oweTranscode(p)
}

func (t *tx) oweTranscode(p *photoRow) (err error) {
	p.Effect, err = t.owe(effectRow{Kind: EffectTranscode, Photo: p.ID, Blob: p.Master.Blob})
	t.putPhoto(p)
	return err
}

type cmdFinalize struct {
	Owner, Photo id.ID
	Details      Details
}

func (r *cmdFinalize) fields(c *codec) {
	c.id(1, &r.Owner)
	c.id(2, &r.Photo)
	c.sub(3, &r.Details)
}

func (r *cmdFinalize) apply(t *tx) (outcome, error) {
	if _, err := t.active(r.Owner); err != nil {
		return outcome{}, err
	}
	p, err := t.photo(r.Photo)
	if err != nil {
		return outcome{}, err
	}
	switch {
	case p == nil || p.Author != r.Owner || p.Status == Deleted:
		return outcome{}, ErrNotFound
	case p.Status == Reserved:
		return outcome{}, ErrBytesMissing
	case p.Status != Stored: // done before
		return outcome{ID: p.ID}, nil
	}
	return outcome{ID: p.ID}, t.finalize(p, r.Details)
}

type cmdReady struct {
	Photo     id.ID
	Rendition Rendition
	Pos       Pos // candidate
	Threshold uint64
}

func (r *cmdReady) fields(c *codec) {
	c.id(1, &r.Photo)
	c.sub(2, &r.Rendition)
	c.id(3, &r.Pos)
	num(c, 4, &r.Threshold)
}

func (r *cmdReady) apply(t *tx) (outcome, error) {
	p, err := t.photo(r.Photo)
	if err != nil {
		return outcome{}, err
	}
	switch {
	case p == nil || p.Status == Deleted: // the sweeper takes the blob
		return outcome{}, ErrNotFound
	case p.Status == Ready && p.Rendition.Blob == r.Rendition.Blob:
		return outcome{}, nil
	case p.Status != Pending:
		return outcome{}, ErrConflict
	}
	author, err := t.mustAccount(p.Author)
	if err != nil {
		return outcome{}, err
	}
	if err := t.attach(r.Photo, r.Rendition.Blob, roleRendition); err != nil {
		return outcome{}, err
	}
	last, err := t.meta(metaPos)
	if err != nil {
		return outcome{}, err
	}
	p.Pos = max(r.Pos, Pos(last)+1)
	t.setMeta(metaPos, uint64(p.Pos))
	author.weigh(r.Threshold)
	p.Pull = author.Celebrity
	author.PullPosts = author.PullPosts || p.Pull
	t.putAccount(author)
	p.Rendition = r.Rendition
	p.Status = Ready
	p.PublishedAt = p.Pos.Millis().Time()
	if err := t.settle(p.Effect); err != nil {
		return outcome{}, err
	}
	p.Effect = 0
	t.woken.settled = append(t.woken.settled, p.ID)
	t.putPhoto(p)
	if err := t.tellPublished(p); err != nil {
		return outcome{}, err
	}
	return outcome{ID: p.ID}, t.publish(p, false)
}

// publish puts a ready photo into its author's list and into the outbox; again says
// that it was there before.
func (t *tx) publish(p *photoRow, again bool) error {
	author, err := t.mustAccount(p.Author)
	if err != nil {
		return err
	}
	author.count(p.Details.Visibility, 1)
	t.putAccount(author)
	t.set(keyDesc(tabPosts, p.Author, p.Pos), postValue(p.ID, p.Pull))
	t.changedPhoto(p)
	return t.event(eventRow{
		Kind: uint8(timeline.Published), Pos: p.Pos, Photo: p.ID, Author: p.Author, Pull: p.Pull, Again: again,
	})
}

// postValue is the value in tabPosts.
func postValue(photo id.ID, pull bool) []byte {
	v := be(make([]byte, 0, 9), uint64(photo))
	if pull {
		return append(v, 1)
	}
	return append(v, 0)
}

func parsePostValue(v []byte) (photo id.ID, pull bool, err error) {
	if len(v) != 9 || v[8] > 1 {
		return 0, false, corrupt("post value %x", v)
	}
	return id.ID(parseBE(v)), v[8] == 1, nil
}

type cmdFailed struct {
	Photo   id.ID
	Failure Failure
}

func (r *cmdFailed) fields(c *codec) {
	c.id(1, &r.Photo)
	c.sub(2, &r.Failure)
}

func (r *cmdFailed) apply(t *tx) (outcome, error) {
	p, err := t.photo(r.Photo)
	if err != nil {
		return outcome{}, err
	}
	switch {
	case p == nil || p.Status == Deleted:
		return outcome{}, ErrNotFound
	case p.Status == Failed:
		return outcome{}, nil
	case p.Status != Pending:
		return outcome{}, ErrConflict
	}
	if err := t.settle(p.Effect); err != nil {
		return outcome{}, err
	}
	p.Effect = 0
	p.Status = Failed
	p.Failure = &r.Failure
	t.woken.settled = append(t.woken.settled, p.ID)
	t.putPhoto(p)
	return outcome{ID: p.ID}, nil
}
