package feed

import (
	"time"

	"hayloft/internal/id"
)

// cmdSweep handles what has ended by itself, and chores.
type cmdSweep struct {
	Limit   int       // rows
	Through time.Time // what ends up to then, ends
}

func (r *cmdSweep) fields(c *codec) {
	num(c, 1, &r.Limit)
	c.time(2, &r.Through)
}

func (r *cmdSweep) apply(t *tx) (outcome, error) {
	left := r.Limit
	type due struct {
		kind    byte
		subject []byte
	}
	var list []due
	t.setMeta(metaSwept, millis(r.Through))
	end := be([]byte{tabDue}, millis(r.Through)+1)
	err := t.scan([]byte{tabDue}, end, func(k, _ []byte) error {
		if left == 0 {
			return errStop
		}
		if len(k) < 11 {
			return corrupt("due key %x", k)
		}
		left--
		list = append(list, due{k[9], append([]byte(nil), k[10:]...)})
		return nil
	})
	if err != nil {
		return outcome{}, err
	}
	for _, d := range list {
		if err := t.endDue(d.kind, d.subject); err != nil {
			return outcome{}, err
		}
	}
	if left, err = t.doChores(left); err != nil {
		return outcome{}, err
	}
	return outcome{Count: r.Limit - left}, nil
}

// endDue ends one subject of the due index whose time has come.
func (t *tx) endDue(kind byte, subject []byte) error {
	switch {
	case kind == dueIntent && len(subject) == 8:
		return t.endIntent(id.ID(parseBE(subject)))
	case kind == duePhoto && len(subject) == 8:
		return t.endPhoto(id.ID(parseBE(subject)))
	case kind == dueSession && len(subject) == 32:
		return t.dropSession([32]byte(subject))
	case kind == dueIdempotency && len(subject) == 40:
		return t.endIdempotency(append([]byte{tabIdempotency}, subject...))
	case kind == dueHandle && len(subject) > 0:
		return t.endRetired(string(subject))
	default:
		return corrupt("due kind %d with a subject of %d bytes", kind, len(subject))
	}
}

func (t *tx) endIntent(blob id.ID) error {
	b, err := t.blob(blob)
	if err != nil {
		return err
	}
	if b == nil || b.Role != roleIntent {
		return corrupt("due intent %v is none", blob)
	}
	t.setDue(dueIntent, be(nil, uint64(blob)), b.Due, time.Time{})
	return t.release(b.Photo, blob)
}

func (t *tx) endPhoto(photo id.ID) error {
	p, err := t.photo(photo)
	if err != nil {
		return err
	}
	if p == nil {
		return corrupt("due photo %v is missing", photo)
	}
	switch p.Status {
	case Deleted:
		return t.giveUp(p)
	case Reserved, Stored:
		t.setPhotoDue(p, time.Time{})
		t.dropPhoto(p)
		return t.release(photo, p.Master.Blob)
	default:
		return corrupt("due photo %v has status %d", photo, p.Status)
	}
}

// endRetired lets anybody have a handle.
func (t *tx) endRetired(handle string) error {
	row, err := load[retiredRow](t.store, retiredKey(handle))
	if err != nil || row == nil {
		return firstErr(err, corrupt("due handle %q is not retired", handle))
	}
	t.del(retiredKey(handle))
	t.setDue(dueHandle, []byte(handle), row.Due, time.Time{})
	return nil
}

func (t *tx) endIdempotency(key []byte) error {
	row, err := load[idempotencyRow](t.store, key)
	if err != nil || row == nil {
		return firstErr(err, corrupt("due idempotency record %x is missing", key))
	}
	t.del(key)
	t.setDue(dueIdempotency, key[1:], row.Due, time.Time{})
	return nil
}
