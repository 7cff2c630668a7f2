package feed

import (
	"cmp"
	"context"
	"slices"
	"time"

	"hayloft/internal/id"
)

// The list of changes tells search what to look at again. Each photo and each account
// that search knows of has one entry in it, at the number of its latest change, so the
// list holds everything there is, whatever a reader of it has seen so far: nothing is
// trimmed, and no reader comes too late (docs/decisions/225).

// The kinds of what changes.
const (
	changedAccount = 1
	changedPhoto   = 2
)

// Names in tabChangeMeta.
const (
	changeLast   = 0x01 // number of the last change
	changeFilled = 0x02 // how far cmdListChanges has come; absent: not begun
)

// changesEnd is changeFilled when the list is whole: nothing lies beyond it.
const changesEnd = 0xff

// subject is what an entry is about. Pos is a photo's position.
type subject struct {
	Kind uint8
	ID   id.ID
	Pos  Pos
}

func (r *subject) fields(c *codec) {
	num(c, 1, &r.Kind)
	c.id(2, &r.ID)
	c.id(3, &r.Pos)
}

func changeOfKey(kind uint8, v id.ID) []byte { return be([]byte{tabChangeOf, kind}, uint64(v)) }

func changeMetaKey(name byte) []byte { return []byte{tabChangeMeta, name} }

// changedAccount notes that what search finds of a user may have changed.
func (t *tx) changedAccount(user id.ID) {
	t.subjects = append(t.subjects, subject{Kind: changedAccount, ID: user})
}

// changedPhoto notes that what search finds of a photo may have changed. One that was
// never ready is no business of search.
func (t *tx) changedPhoto(p *photoRow) {
	if p.Pos != 0 {
		t.subjects = append(t.subjects, subject{changedPhoto, p.ID, p.Pos})
	}
}

// flushChanges moves the subjects of this command to the end of the list.
func (t *tx) flushChanges() error {
	if len(t.subjects) == 0 {
		return nil
	}
	last, err := t.lastChange()
	if err != nil {
		return err
	}
	for i, s := range t.subjects {
		if slices.ContainsFunc(t.subjects[:i], func(o subject) bool { return o.Kind == s.Kind && o.ID == s.ID }) {
			continue
		}
		of := changeOfKey(s.Kind, s.ID)
		before, err := t.idAt(of)
		if err != nil {
			return err
		}
		if before != 0 {
			t.del(key1(tabChange, before))
		}
		last++
		t.setID(of, id.ID(last))
		t.setRow(key1(tabChange, last), &s)
	}
	t.setID(changeMetaKey(changeLast), id.ID(last))
	t.woken.changes = true
	return nil
}

func (s store) lastChange() (uint64, error) {
	v, err := s.idAt(changeMetaKey(changeLast))
	return uint64(v), err
}

// change is an entry of the list.
type change struct {
	Seq uint64
	subject
}

// changes returns up to limit entries after a number, in order.
func (s store) changes(seq uint64, limit int) (list []change, err error) {
	err = s.scan(key1(tabChange, seq+1), []byte{tabChange + 1}, func(k, v []byte) error {
		if len(list) == limit {
			return errStop
		}
		c := change{Seq: parseBE(k[1:])}
		list = append(list, c)
		return decodeRow(v, &list[len(list)-1].subject)
	})
	return list, err
}

// cmdListChanges enters into the list what was there before there was one: a number of
// accounts and photos in the order of their ids. It goes on where the last one ended.
type cmdListChanges struct{ Limit int }

func (r *cmdListChanges) fields(c *codec) { num(c, 1, &r.Limit) }

func (r *cmdListChanges) apply(t *tx) (outcome, error) {
	done, err := t.get(changeMetaKey(changeFilled))
	if err != nil {
		return outcome{}, err
	}
	from := []byte{tabAccount}
	if len(done) > 0 {
		from = append(slices.Clone(done), 0)
	}
	limit := min(max(r.Limit, 1), 1000)
	for _, table := range []byte{tabAccount, tabPhoto} {
		switch cmp.Compare(from[0], table) {
		case -1:
			from = []byte{table}
		case 1:
			continue // done before
		}
		err := t.scan(from, []byte{table + 1}, func(k, _ []byte) error {
			if limit == 0 {
				return errStop
			}
			limit--
			done = slices.Clone(k)
			return t.enter(k)
		})
		if err != nil {
			return outcome{}, err
		}
	}
	if limit > 0 {
		done = []byte{changesEnd}
	}
	t.set(changeMetaKey(changeFilled), done)
	return outcome{}, nil
}

// enter puts the row of a key into the list if it should be there and is not.
func (t *tx) enter(k []byte) error {
	if len(k) != 9 {
		return corrupt("key %x", k)
	}
	v, kind := id.ID(parseBE(k[1:])), uint8(changedAccount)
	if k[0] == tabPhoto {
		kind = changedPhoto
	}
	if has, err := t.has(changeOfKey(kind, v)); err != nil || has {
		return err
	}
	if kind == changedAccount {
		t.changedAccount(v)
		return nil
	}
	p, err := t.photo(v)
	if err == nil && p != nil {
		t.changedPhoto(p)
	}
	return err
}

// filled says whether the list holds everything.
func (s store) filled() (bool, error) {
	v, err := s.get(changeMetaKey(changeFilled))
	if err != nil || len(v) == 1 {
		return err == nil, err
	}
	format, err := s.meta(metaFormat)
	return format == 0, err // there is nothing yet
}

const (
	listRows  = 500
	listPause = time.Second // before it is tried again
)

// listChanges makes sure that the list of changes is whole, until ctx ends.
func (f *Feed) listChanges(ctx context.Context) error {
	for {
		var whole bool
		err := f.read(ctx, func(v *view) (err error) {
			whole, err = v.filled()
			return err
		})
		if err == nil && whole {
			<-ctx.Done()
			return ctx.Err()
		}
		if err == nil && f.group.Leading() == nil {
			if _, err = f.propose(ctx, &cmdListChanges{Limit: listRows}); err == nil {
				continue
			}
		}
		select {
		case <-f.clock.After(listPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
