package feed

import (
	"context"
	"errors"
	"time"

	"hayloft/internal/id"
)

// verdictAge is how old the state may be by which blobs are served: what was deleted
// is gone within that time, and with it the time of a cache (design section 6).
const verdictAge = time.Second

// current returns how old the state here may be at the time of the call, which is
// verdictAge at most.
func (f *Feed) current(ctx context.Context) (age time.Duration, err error) {
	if age := f.group.Staleness(); age <= verdictAge {
		return age, nil
	}
	if err := f.group.Fresh(ctx); err != nil {
		return 0, unavailable(err)
	}
	return 0, nil
}

// Access says whether and how a blob may be served, as of verdictAge ago at most.
// A blob is said to be gone only as of now.
func (f *Feed) Access(ctx context.Context, blob id.ID) (Verdict, error) {
	age, err := f.current(ctx)
	if err != nil {
		return Verdict{}, err
	}
	var out Verdict
	err = f.readSure(ctx, func(v *view) error {
		b, err := v.blob(blob)
		if err == nil && (b == nil || b.Role == roleIntent) {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		p, err := v.photo(b.Photo)
		if err != nil {
			return err
		}
		out, err = verdict(v, p)
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return Verdict{}, nil // gone
	}
	out.Age = age
	return out, err
}

// purgeHeartbeat is how long Purges waits before it says that there is nothing.
const purgeHeartbeat = 500 * time.Millisecond

// Purges returns up to limit entries of the purge log with Seq > after, in
// order. It waits for one, and returns none after half a second as a sign of
// life: an answer without an error says that the caller has missed nothing that
// was older than age when it called. A negative age is a moment after the call. A
// *PurgeGap says that something was missed, or that the log is not the one that was
// followed.
func (f *Feed) Purges(ctx context.Context, after uint64, limit int) (list []Purge, age time.Duration, err error) {
	w := &f.machine.watch
	called := f.clock.Elapsed()
	var beat <-chan time.Time
	for over := false; ; {
		changed := w.on(&w.purges)
		now := f.clock.Elapsed()
		if age, err = f.current(ctx); err != nil { // that nothing was missed is not certain
			return nil, 0, err
		}
		age -= now - called
		list, err := f.purgesNow(ctx, after, max(limit, 1))
		if err != nil || len(list) > 0 || over {
			return list, age, err
		}
		if beat == nil {
			beat = f.clock.After(purgeHeartbeat)
		}
		select {
		case <-changed:
		case <-beat:
			over = true
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

func (f *Feed) purgesNow(ctx context.Context, after uint64, limit int) (list []Purge, err error) {
	err = f.read(ctx, func(v *view) error {
		last, err := v.meta(metaPurge)
		if err != nil {
			return err
		}
		first, err := v.meta(metaFirstPurge)
		if err != nil {
			return err
		}
		if after > last || after+1 < max(first, 1) {
			return &PurgeGap{Resume: last}
		}
		return v.scan(key1(tabPurge, after+1), []byte{tabPurge + 1}, func(k, value []byte) error {
			if len(list) == limit {
				return errStop
			}
			var row purgeRow
			if err := decodeRow(value, &row); err != nil {
				return err
			}
			list = append(list, Purge{Seq: parseBE(k[1:]), Blob: row.Blob})
			return nil
		})
	})
	return list, err
}

// PurgeHead is the Seq of the newest purge entry (0: none): where a cache that
// is empty begins to follow.
func (f *Feed) PurgeHead(ctx context.Context) (seq uint64, err error) {
	err = f.read(ctx, func(v *view) error {
		seq, err = v.meta(metaPurge)
		return err
	})
	return seq, err
}
