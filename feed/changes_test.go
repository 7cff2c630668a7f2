package feed

import (
	"context"
	"slices"
	"testing"

	"hayloft/internal/id"
)

// listed is who is in the list of changes, in order.
func (h *house) listed() (out []id.ID) {
	h.t.Helper()
	err := h.feed.read(context.Background(), func(v *view) error {
		list, err := v.changes(0, 1000)
		for _, c := range list {
			out = append(out, c.ID)
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

func TestEachSubjectHasItsLatestChangeAlone(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	a := h.user("anna")
	b := h.user("bert")
	p := h.post(a, Details{})
	if got, want := h.listed(), []id.ID{a, b, p}; !slices.Equal(got, want) {
		t.Fatalf("list %v, want %v", got, want)
	}
	name := "Anna"
	if _, err := h.feed.UpdateProfile(ctx, a, ProfileChange{Name: &name}); err != nil {
		t.Fatal(err)
	}
	bio := "not found by search"
	if _, err := h.feed.UpdateProfile(ctx, b, ProfileChange{Bio: &bio}); err != nil {
		t.Fatal(err)
	}
	if err := h.feed.Like(ctx, b, p); err != nil {
		t.Fatal(err)
	}
	if got, want := h.listed(), []id.ID{b, p, a}; !slices.Equal(got, want) {
		t.Fatalf("after a new name: list %v, want %v", got, want)
	}
	if err := h.feed.DeletePhoto(ctx, a, p, false); err != nil {
		t.Fatal(err)
	}
	if got, want := h.listed(), []id.ID{b, a, p}; !slices.Equal(got, want) {
		t.Fatalf("after a delete: list %v, want %v", got, want)
	}
	h.check()
}

// A feed that is older than the list has it filled, in portions and only once.
func TestOldRowsAreListed(t *testing.T) {
	h := newHouse(t, nil)
	a := h.user("anna")
	want := []id.ID{a, h.user("bert")}
	for range 3 {
		want = append(want, h.post(a, Details{}))
	}
	b := h.group.db.NewBatch()
	for _, table := range []byte{tabChange, tabChangeOf, tabChangeMeta} {
		if err := b.DeleteRange([]byte{table}, []byte{table + 1}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Commit(nil); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := h.feed.propose(context.Background(), &cmdListChanges{Limit: 1}); err != nil {
			t.Fatal(err)
		}
	}
	got := h.listed()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("list %v, want %v", got, want)
	}
	err := h.feed.read(context.Background(), func(v *view) error {
		whole, err := v.filled()
		if !whole {
			t.Error("the list does not say that it is whole")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	h.check()
}
