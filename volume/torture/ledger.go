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
	acked bool  // the put was acknowledged
	told  []int // rounds in which it was told: put, then delete, if there were
	// absent are the needles of an unacknowledged group that were not found;
	// bit i stands for the i-th of the group.
	absent uint8
}

// history is the entry for a person who looks for a bug.
func (e *entry) history() string {
	s := "put"
	switch {
	case e.acked:
		s += " acknowledged"
	case e.put == putStored:
		s += " not acknowledged, found after the crash"
	case e.put == putAbsent:
		s += " refused, or not found after the crash"
	}
	s += fmt.Sprintf(" in round %d", e.told[0])
	if len(e.told) > 1 {
		how := map[delState]string{delNone: "tried, found undone after the crash", delTried: "tried", delDone: "done"}[e.del]
		s += fmt.Sprintf("; delete %s in round %v", how, e.told[1:])
	}
	return s
}

// book is the ledger of one volume.
type book struct {
	created  bool // acknowledged, or found after a crash
	poisoned bool // its marker was seen: it must stay read-only
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

// note takes a line of the writer. dying tells that the writer was killed or
// its file system cut off before the line was read: what fails now fails rightly.
//
// An acknowledgement that is read after the cut began proves nothing: the
// process outlives its disk here, which no power cut lets it do, and Linux
// answers 0 to an fdatasync that the shutdown overtakes between the end of the
// write and the journal's record of it. Those are counted and left open.
func (l *ledger) note(n line, dying, faults bool) error {
	b := l.book(n.v)
	if late := dying && l.result.How == "power"; late && (n.what == sayCreated || n.what == sayStored || n.what == sayDeleted) {
		l.result.Late++
		return nil
	}
	switch n.what {
	case sayReady:
		delete(l.books, 0)
		return nil
	case sayCreating:
		return nil
	case saySealed:
		l.result.Sealed++
		return nil
	case sayCompacted:
		l.result.Compacted++
		return nil
	case sayCreated:
		b.created = true
		l.result.Volumes++
		return nil
	case sayPoisoned:
		l.result.Poisoned++
		return l.excused(n, dying || faults)
	case sayMarked:
		b.poisoned = b.poisoned || !dying
		return nil
	case sayUnmarked:
		return l.excused(n, dying || faults)
	case sayWrong:
		return l.excused(n, dying)
	case sayFailed:
		l.result.Failed++
		return l.excused(n, dying || faults)
	}
	e := b.keys[n.key]
	if e == nil {
		if n.what != sayPutting {
			return fmt.Errorf("the writer said %q of volume %d, key %d without a put", n.what, n.v, uint64(n.key))
		}
		b.keys[n.key] = &entry{told: []int{l.result.Rounds}}
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
		e.told = append(e.told, l.result.Rounds)
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
		l.result.unexpected("the writer says: volume %d key %v: %s: %s", n.v, n.key, n.what, n.text)
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
