package feed

import "time"

type cmdEffectDone struct{ Seq uint64 }

func (r *cmdEffectDone) fields(c *codec) { num(c, 1, &r.Seq) }

// apply completes an effect. A photo that still waits for its variants keeps
// its transcode effect: only ready, failed and delete end that.
func (r *cmdEffectDone) apply(t *tx) (outcome, error) {
	e, err := t.effect(r.Seq)
	if err != nil || e == nil { // completed meanwhile
		return outcome{}, err
	}
	if e.Kind == EffectTranscode {
		p, err := t.photo(e.Photo)
		if err != nil {
			return outcome{}, err
		}
		if p != nil && p.Effect == r.Seq {
			return outcome{}, ErrConflict
		}
	}
	t.unqueue(r.Seq, e)
	return outcome{}, nil
}

type cmdEffectFailed struct {
	Seq       uint64
	Attempt   int // the number of failures, this one included
	NotBefore time.Time
	Park      bool
	Reason    string
}

func (r *cmdEffectFailed) fields(c *codec) {
	num(c, 1, &r.Seq)
	num(c, 2, &r.Attempt)
	c.time(3, &r.NotBefore)
	c.bool(4, &r.Park)
	c.str(5, &r.Reason)
}

func (r *cmdEffectFailed) apply(t *tx) (outcome, error) {
	e, err := t.effect(r.Seq)
	if err != nil || e == nil { // completed meanwhile
		return outcome{}, err
	}
	t.unqueue(r.Seq, e)
	e.Attempts, e.NotBefore, e.Reason = r.Attempt, r.NotBefore, r.Reason
	if r.Park {
		t.setRow(key1(tabParked, r.Seq), e)
	} else {
		t.requeue(r.Seq, e)
	}
	return outcome{}, nil
}

type cmdEffectUnpark struct{ Seq uint64 }

func (r *cmdEffectUnpark) fields(c *codec) { num(c, 1, &r.Seq) }

func (r *cmdEffectUnpark) apply(t *tx) (outcome, error) {
	e, err := load[effectRow](t.store, key1(tabParked, r.Seq))
	if err != nil || e == nil {
		return outcome{}, firstErr(err, ErrNotFound)
	}
	t.del(key1(tabParked, r.Seq))
	e.Attempts, e.NotBefore = 0, time.Time{}
	t.requeue(r.Seq, e)
	return outcome{}, nil
}

type cmdTrimEvents struct{ Through uint64 }

func (r *cmdTrimEvents) fields(c *codec) { num(c, 1, &r.Through) }

func (r *cmdTrimEvents) apply(t *tx) (outcome, error) {
	last, err := t.meta(metaEvent)
	if err != nil {
		return outcome{}, err
	}
	return outcome{}, t.trimTable(tabEvent, metaFirstEvent, min(r.Through, last)+1)
}

// trimTable removes the rows of a numbered table below first.
func (t *tx) trimTable(table, firstName byte, first uint64) error {
	kept, err := t.meta(firstName)
	if err != nil || first <= max(kept, 1) {
		return err
	}
	t.delRange(key1(table, kept), key1(table, first))
	t.setMeta(firstName, first)
	return nil
}

type cmdTrimPurges struct{ Before time.Time }

func (r *cmdTrimPurges) fields(c *codec) { c.time(1, &r.Before) }

// trimPurgesStep bounds the entries one command looks at.
const trimPurgesStep = 4096

func (r *cmdTrimPurges) apply(t *tx) (outcome, error) {
	first := uint64(0)
	seen := 0
	err := t.scan(key1(tabPurge, uint64(0)), key1(tabPurge+1, uint64(0)), func(k, v []byte) error {
		var row purgeRow
		if err := decodeRow(v, &row); err != nil {
			return err
		}
		if !row.At.Before(r.Before) || seen == trimPurgesStep {
			return errStop
		}
		seen++
		first = parseBE(k[1:]) + 1
		return nil
	})
	if err != nil || first == 0 {
		return outcome{}, err
	}
	return outcome{Count: seen}, t.trimTable(tabPurge, metaFirstPurge, first)
}
