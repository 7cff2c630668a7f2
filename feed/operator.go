package feed

import (
	"context"

	"hayloft/internal/id"
)

// Account is an account as operators see it.
type Account struct {
	User
	Suspended bool
}

// Accounts lists the accounts that are not deleted, by handle, from the first handle
// above after on: at most limit. next is where to go on, "" at the end. It is for
// operators.
func (f *Feed) Accounts(ctx context.Context, after string, limit int) (rows []Account, next string, err error) {
	err = f.serve(ctx, func(v *view) error {
		from := append(handleKey(after), 0)
		if after == "" {
			from = []byte{tabHandle}
		}
		return v.scan(from, []byte{tabHandle + 1}, func(k, value []byte) error {
			if len(rows) >= max(limit, 1) {
				next = rows[len(rows)-1].Handle
				return errStop
			}
			if len(value) != 8 {
				return corrupt("handle %x: value of %d bytes", k, len(value))
			}
			a, err := v.account(id.ID(parseBE(value)))
			if err == nil && a != nil && !a.Gone {
				rows = append(rows, Account{a.User, a.Suspended})
			}
			return err
		})
	})
	return rows, next, err
}

// Account returns the account with a handle, suspended or not. ErrNotFound when there
// is none, or it is deleted. It is for operators.
func (f *Feed) Account(ctx context.Context, handle string) (Account, error) {
	var out Account
	err := f.readSure(ctx, func(v *view) error {
		user, err := v.idAt(handleKey(handle))
		if err != nil || user == 0 {
			return firstErr(err, ErrNotFound)
		}
		a, err := v.account(user)
		if err != nil || a == nil || a.Gone {
			return firstErr(err, ErrNotFound)
		}
		out = Account{a.User, a.Suspended}
		return nil
	})
	return out, err
}
