package feed

import (
	"context"
	"errors"
	"testing"
)

// An operator finds a photo's blobs whoever may see it, until it is purged.
func TestPhotoRow(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	photo := h.post(anna, Details{Visibility: OnlyMe})
	row, err := h.feed.PhotoRow(ctx, photo)
	if err != nil || row.ID != photo || row.Status != Ready || row.Master.Blob == 0 || row.Rendition.Blob == 0 {
		t.Errorf("%+v, %v", row, err)
	}
	h.must(h.feed.DeletePhoto(ctx, anna, photo, false))
	if row, err := h.feed.PhotoRow(ctx, photo); err != nil || row.Status != Deleted || row.DeletedAt.IsZero() || row.Master.Blob == 0 {
		t.Errorf("in the grace: %+v, %v", row, err)
	}
	if _, err := h.feed.PhotoRow(ctx, anna); !errors.Is(err, ErrNotFound) {
		t.Errorf("no photo: %v", err)
	}
}
