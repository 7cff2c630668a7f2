package feed

import (
	"time"

	"hayloft/internal/id"
)

// queueRow checks the tables of work and of logs.
func (c *checker) queueRow(k, v []byte) error {
	switch k[0] {
	case tabEvent:
		c.consecutive(&c.events, k)
		return decodeRow(v, new(eventRow))
	case tabPurge:
		c.consecutive(&c.purges, k)
		return decodeRow(v, new(purgeRow))
	case tabEffect:
		var e effectRow
		if err := decodeRow(v, &e); err != nil {
			return err
		}
		return c.pair(effectTimeKey(e.Kind, millis(e.NotBefore), uint64(first(k))))
	case tabEffectByTime:
		return c.pair(key1(tabEffect, parseBE(k[10:])))
	case tabParked:
		return decodeRow(v, new(effectRow))
	case tabChore:
		return decodeRow(v, new(choreRow))
	case tabDue:
		return c.due(k)
	case tabRetired:
		var row retiredRow
		if err := decodeRow(v, &row); err != nil {
			return err
		}
		return c.dueAt(dueHandle, k[1:], row.Due)
	case tabIdempotency:
		var row idempotencyRow
		if err := decodeRow(v, &row); err != nil {
			return err
		}
		return c.dueAt(dueIdempotency, k[1:], row.Due)
	case tabWatermark:
		return decodeRow(v, new(watermarkRow))
	case tabChange:
		var s subject
		if err := decodeRow(v, &s); err != nil {
			return err
		}
		return c.same(changeOfKey(s.Kind, s.ID), first(k))
	case tabChangeOf:
		return c.pair(key1(tabChange, parseBE8(v)))
	}
	return nil
}

// seqRange is the first and the last number of a log; zero: it is empty.
type seqRange struct{ first, last uint64 }

func (c *checker) consecutive(r *seqRange, k []byte) {
	seq := uint64(first(k))
	if r.last == 0 {
		r.first = seq
	} else {
		c.want(seq == r.last+1, "a gap after %d", r.last)
	}
	r.last = seq
}

// due wants the row of a due key to name that time.
func (c *checker) due(k []byte) error {
	if len(k) < 11 {
		return corrupt("due key")
	}
	at, subject := timeOf(parseBE(k[1:9])), k[10:]
	var is time.Time
	switch k[9] {
	case dueIntent:
		b, err := c.blob(id.ID(parseBE8(subject)))
		if err != nil {
			return err
		}
		if b != nil {
			is = b.Due
		}
	case duePhoto:
		p, err := c.photo(id.ID(parseBE8(subject)))
		if err != nil {
			return err
		}
		if p != nil {
			is = p.Due
		}
	case dueSession:
		s, err := load[sessionRow](c.store, append([]byte{tabSession}, subject...))
		if err != nil {
			return err
		}
		if s != nil {
			is = s.ExpiresAt
		}
	case dueHandle:
		row, err := load[retiredRow](c.store, retiredKey(string(subject)))
		if err != nil {
			return err
		}
		if row != nil {
			is = row.Due
		}
	case dueIdempotency:
		row, err := load[idempotencyRow](c.store, append([]byte{tabIdempotency}, subject...))
		if err != nil {
			return err
		}
		if row != nil {
			is = row.Due
		}
	}
	c.want(is.Equal(at), "its row ends at %v", is)
	return nil
}
