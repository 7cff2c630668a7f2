package feed

import (
	"context"
	"time"
)

// OwedEffect is an effect in the outbox, for operators.
type OwedEffect struct {
	Effect
	Reason    string    // of the last failure; empty: it has not failed
	Owed      time.Time // since when
	NotBefore time.Time // when it is tried again; zero: at once, or parked
}

// ParkedEffects lists effects that their handlers called poisonous, with Seq > after, in
// order.
func (f *Feed) ParkedEffects(ctx context.Context, after uint64, limit int) ([]OwedEffect, error) {
	return f.effectsIn(ctx, tabParked, after, limit)
}

// QueuedEffects lists effects that wait for a handler, or have one, with Seq > after, in
// order.
func (f *Feed) QueuedEffects(ctx context.Context, after uint64, limit int) ([]OwedEffect, error) {
	return f.effectsIn(ctx, tabEffect, after, limit)
}

func (f *Feed) effectsIn(ctx context.Context, table byte, after uint64, limit int) (list []OwedEffect, err error) {
	err = f.read(ctx, func(v *view) error {
		return v.scan(key1(table, after+1), []byte{table + 1}, func(k, value []byte) error {
			if len(list) >= limit {
				return errStop
			}
			var row effectRow
			if err := decodeRow(value, &row); err != nil {
				return err
			}
			list = append(list, OwedEffect{*effectOf(parseBE(k[1:]), &row), row.Reason, row.Owed, row.NotBefore})
			return nil
		})
	})
	return list, err
}
