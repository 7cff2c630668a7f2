package feed

import (
	"context"
	"time"
)

// Every replica derives timelines of its own and says in a command how far it has
// come for good: its watermark. Events are kept until the watermarks of all members
// have passed them, so that a replica which was away goes on where it was.

const (
	publishPause = 5 * time.Second // between looks at whether the own watermark has moved
	// watermarkWait is how long events wait for a member that is behind and does not
	// move. One that comes back later builds its timelines anew.
	watermarkWait = 30 * time.Minute
)

// cmdWatermark says how far a member's timelines are, or that it is a member no
// more.
type cmdWatermark struct {
	Member string
	Seq    uint64
	Gone   bool
}

func (r *cmdWatermark) fields(c *codec) {
	c.str(1, &r.Member)
	num(c, 2, &r.Seq)
	c.bool(3, &r.Gone)
}

func (r *cmdWatermark) apply(t *tx) (outcome, error) {
	if r.Member == "" || len(r.Member) > maxMember {
		return outcome{}, ErrInvalid
	}
	key := watermarkKey(r.Member)
	if r.Gone {
		t.del(key)
		return outcome{}, nil
	}
	last, err := t.meta(metaEvent)
	if err != nil {
		return outcome{}, err
	}
	t.setRow(key, &watermarkRow{Seq: min(r.Seq, last)})
	return outcome{}, nil
}

const maxMember = 64 // bytes of a member's name

func watermarkKey(member string) []byte { return append([]byte{tabWatermark}, member...) }

// watermarkRow is how far a member's timelines are.
type watermarkRow struct{ Seq uint64 }

func (r *watermarkRow) fields(c *codec) { num(c, 1, &r.Seq) }

// laggard is a member that is behind: where it stands, and since when by the
// running time of this process, on which no wall clock has a say.
type laggard struct {
	seq   uint64
	since time.Duration
}

// awaited says whether events wait for a member that stands at seq, while this
// replica is at own. It is called by trim's goroutine alone.
func (f *Feed) awaited(member string, seq, own uint64) bool {
	if seq >= own {
		delete(f.laggards, member)
		return false
	}
	now := f.clock.Elapsed()
	l, known := f.laggards[member]
	if !known || l.seq != seq {
		l = laggard{seq, now}
		f.laggards[member] = l
	}
	return now-l.since < watermarkWait
}

// publish says how far the timelines of this replica are, when that has changed,
// until ctx ends. A group of one has nobody to tell.
func (f *Feed) publish(ctx context.Context) error {
	var told uint64
	for {
		select {
		case <-f.clock.After(publishPause):
		case <-ctx.Done():
			return ctx.Err()
		}
		members, err := f.group.Members()
		seq := f.timeline.DurableCursor()
		if err != nil || len(members) < 2 || seq == told {
			continue
		}
		if _, err := f.propose(ctx, &cmdWatermark{Member: f.member, Seq: seq}); err != nil {
			continue // without a leader nothing is trimmed either
		}
		told = seq
	}
}

// processed is up to which event nobody needs any more: what this replica, which is
// at own, and every other member for which events wait have behind them. It drops the
// watermarks of those that are members no more.
func (f *Feed) processed(ctx context.Context, own uint64) (uint64, error) {
	members, err := f.group.Members()
	if err != nil {
		return 0, unavailable(err)
	}
	is := make(map[string]bool, len(members))
	for _, m := range members {
		is[m.ID] = true
	}
	through := own
	var gone []string
	err = f.read(ctx, func(v *view) error {
		return v.scan([]byte{tabWatermark}, []byte{tabWatermark + 1}, func(k, value []byte) error {
			var row watermarkRow
			if err := decodeRow(value, &row); err != nil {
				return err
			}
			member := string(k[1:])
			switch {
			case !is[member]:
				gone = append(gone, member)
			case member != f.member && f.awaited(member, row.Seq, own):
				through = min(through, row.Seq)
			}
			return nil
		})
	})
	if err != nil {
		return 0, err
	}
	for _, m := range gone {
		if _, err := f.propose(ctx, &cmdWatermark{Member: m, Gone: true}); err != nil {
			return 0, err
		}
	}
	return through, nil
}

// Watermarks returns how far the timelines of each member are, by its name: the
// number of the last event that it has processed for good.
func (f *Feed) Watermarks(ctx context.Context) (map[string]uint64, error) {
	out := map[string]uint64{f.member: f.timeline.DurableCursor()}
	err := f.read(ctx, func(v *view) error {
		return v.scan([]byte{tabWatermark}, []byte{tabWatermark + 1}, func(k, value []byte) error {
			var row watermarkRow
			if err := decodeRow(value, &row); err != nil {
				return err
			}
			if member := string(k[1:]); member != f.member {
				out[member] = row.Seq
			}
			return nil
		})
	})
	return out, err
}
