package torture

import (
	"fmt"

	"hayloft/internal/id"
	"hayloft/volume"
)

// putState is what is known of a put.
type putState uint8

const (
	putTried  putState = iota // it was under way when the writer died, or failed
	putStored                 // acknowledged, or found after a crash
	putAbsent                 // refused, or not found after a crash
)

// delState is what is known of a delete.
type delState uint8

const (
	delNone delState = iota
	delTried
	delDone
)

// entry is the ledger's line for one key.
type entry struct {
	put   putState
	del   delState
	acked bool // the put was acknowledged
	// absent are the needles of an unacknowledged group that were not found;
	// bit i stands for the i-th of the group.
	absent uint8
}

// book is the ledger of one volume.
type book struct {
	created  bool // acknowledged, or found after a crash
	poisoned bool // it said so and the marker is there: it must stay read-only
	marking  bool // it said so, and the marker is not known to be there yet
	keys     map[id.ID]*entry
}

// ledger is what the parent knows.
type ledger struct {
	books  map[volume.ID]*book
	result *Result
}

func newLedger(r *Result) *ledger { return &ledger{books: map[volume.ID]*book{}, result: r} }

func (l *ledger) book(v volume.ID) *book {
	b := l.books[v]
	if b == nil {
		b = &book{keys: map[id.ID]*entry{}}
		l.books[v] = b
	}
	return b
}

// note takes a line of the writer. dying tells that it was killed or its file
// system cut off before the line was read: what fails now fails rightly.
func (l *ledger) note(n line, dying, faults bool) error {
	b := l.book(n.v)
	switch n.what {
	case sayReady:
		delete(l.books, 0)
		for _, b := range l.books { // those that an opening poisoned
			b.poisoned, b.marking = b.poisoned || b.marking, false
		}
		return nil
	case sayCreating:
		return nil
	case sayCreated:
		b.created = true
		l.result.Volumes++
		return nil
	case sayPoisoned:
		b.marking = !dying
		l.result.Poisoned++
		return l.excused(n, dying || faults)
	case sayUnmarked:
		b.marking = false
		return l.excused(n, dying || faults)
	case sayWrong:
		return l.excused(n, dying)
	case sayFailed:
		// The engine leaves the marker before it answers the caller.
		b.poisoned, b.marking = b.poisoned || b.marking && !dying, false
		l.result.Failed++
		return l.excused(n, dying || faults)
	}
	e := b.keys[n.key]
	if e == nil {
		if n.what != sayPutting {
			return fmt.Errorf("the writer said %q of volume %d, key %d without a put", n.what, n.v, uint64(n.key))
		}
		b.keys[n.key] = &entry{}
		return nil
	}
	switch n.what {
	case sayStored:
		e.put, e.acked = putStored, true
		l.result.Puts++
		for _, needle := range group(l.result.Seed, n.v, n.key) {
			l.result.Needles++
			l.result.Bytes += int64(len(needle.Data))
		}
	case sayRefused:
		e.put = putAbsent
		l.result.Refused++
	case sayDeleting:
		e.del = delTried
	case sayDeleted:
		e.del = delDone
		l.result.Deletes++
	default:
		return fmt.Errorf("the writer said %q", n.what)
	}
	return nil
}

// excused counts what should not have happened, unless there is a reason.
func (l *ledger) excused(n line, reason bool) error {
	if !reason {
		l.result.unexpected("the writer says: volume %d key %d: %s: %s", n.v, uint64(n.key), n.what, n.text)
	}
	return nil
}

// deletable returns up to n stored keys.
func (l *ledger) deletable(n int) []Ref {
	var out []Ref
	for v, b := range l.books {
		if b.poisoned {
			continue
		}
		for key, e := range b.keys {
			if len(out) == n {
				return out
			}
			if e.put == putStored && e.del == delNone && e.absent == 0 {
				out = append(out, Ref{v, key})
			}
		}
	}
	return out
}
