package feed

import (
	"context"
	"errors"
	"testing"

	"hayloft/internal/id"
)

// An operator sees every account that is there, by handle and page by page.
func TestAccounts(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	for _, handle := range []string{"carl", "anna", "bert", "dora", "b"} {
		h.user(handle)
	}
	bert, err := h.feed.Account(ctx, "bert")
	h.must(err)
	h.must(h.feed.Suspend(ctx, bert.ID, true))
	carl, err := h.feed.Account(ctx, "carl")
	h.must(err)
	h.must(h.feed.DeleteAccount(ctx, carl.ID))
	var got []string
	for after := ""; ; {
		rows, next, err := h.feed.Accounts(ctx, after, 2)
		h.must(err)
		for _, a := range rows {
			got = append(got, a.Handle)
			if a.Suspended != (a.Handle == "bert") {
				t.Errorf("%+v", a)
			}
		}
		if after = next; next == "" {
			break
		}
	}
	if want := []string{"anna", "b", "bert", "dora"}; len(got) != 4 || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] || got[3] != want[3] {
		t.Errorf("%v, want %v", got, want)
	}
	for handle, want := range map[string]error{"anna": nil, "bert": nil, "carl": ErrNotFound, "nobody": ErrNotFound} {
		if a, err := h.feed.Account(ctx, handle); !errors.Is(err, want) || err == nil && a.Handle != handle {
			t.Errorf("%s: %+v, %v", handle, a, err)
		}
	}
}

// A change that a suspended user asks for is refused, and not made and then denied.
func TestSuspendedChangesNothing(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	photo, after := h.post(anna, Details{Caption: "before"}), "after"
	deleted, stored, blob := h.post(anna, Details{}), h.reserve(anna), h.mint()
	h.must(h.feed.Intend(ctx, stored, blob))
	h.must(h.feed.Stored(ctx, stored, master(blob), nil))
	h.must(h.feed.DeletePhoto(ctx, anna, deleted, false))
	under, bytes := h.reserve(anna), h.mint()
	h.must(h.feed.Intend(ctx, under, bytes))
	h.must(h.feed.Suspend(ctx, anna, true))
	h.must(h.feed.Stored(ctx, under, master(bytes), &Details{}))
	for p, status := range map[id.ID]Status{deleted: Deleted, stored: Stored, under: Stored} {
		_, err := h.feed.RestorePhoto(ctx, anna, p)
		h.wants(err, ErrNotFound)
		_, err = h.feed.Finalize(ctx, anna, p, Details{})
		h.wants(err, ErrNotFound)
		if row, err := h.feed.PhotoRow(ctx, p); err != nil || row.Status != status {
			t.Errorf("%+v, want status %v; %v", row, status, err)
		}
	}
	_, err := h.feed.UpdatePhoto(ctx, anna, photo, PhotoChange{Caption: &after})
	h.wants(err, ErrNotFound)
	row, err := h.feed.PhotoRow(ctx, photo)
	if err != nil || row.Details.Caption != "before" {
		t.Errorf("%+v, %v", row.Details, err)
	}
}
