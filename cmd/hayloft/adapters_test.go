package main

import (
	"bytes"
	"errors"
	"image"
	"image/jpeg"
	"testing"

	"hayloft/api"
	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/media"
	"hayloft/media/transcode"
)

func testPicture(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := jpeg.Encode(&b, image.NewGray(image.Rect(0, 0, 200, 100)), nil); err != nil {
		t.Fatal(err)
	}
	return append(b.Bytes(), make([]byte, 300<<10)...) // more than one block
}

// TestReadersGiveTheirMemoryBack: whatever way a blob is read for the rooms
// that want it, and however that ends, nothing of the read budget stays booked.
func TestReadersGiveTheirMemoryBack(t *testing.T) {
	n := openNode(t)
	ctx := t.Context()
	held := func(what string) {
		t.Helper()
		if got := n.blobs.Stats().Disks[0].Reading; got != 0 {
			t.Errorf("%s: %d bytes are held", what, got)
		}
	}
	data := testPicture(t)
	master, mcookie, err := masters{n.blobs}.Reserve(ctx)
	if err == nil {
		err = masters{n.blobs}.WriteMaster(ctx, master, mcookie, api.MasterNeedle{Photo: 1, Owner: 2, ContentType: media.TypeJPEG, Data: data})
	}
	if err != nil {
		t.Fatal(err)
	}
	group, gcookie, err := groups{n.blobs}.ReserveVariants(ctx)
	if err == nil {
		err = groups{n.blobs}.WriteVariants(ctx, group, gcookie, []transcode.VariantBytes{{Alt: uint8(media.Large), Data: data}})
	}
	if err != nil {
		t.Fatal(err)
	}

	piece := make([]byte, 100<<10)
	if got, err := (masters{n.blobs}).ReadMaster(ctx, master, mcookie, 50, piece); err != nil || !bytes.Equal(piece[:got], data[50:50+len(piece)]) {
		t.Errorf("a piece of the master: %d bytes, %v", got, err)
	}
	held("a piece of the master")
	if got, err := (masters{n.blobs}).ReadMaster(ctx, master, mcookie+1, 0, piece); err == nil || got != 0 {
		t.Errorf("wrong cookie: %d bytes, %v", got, err)
	}
	held("a piece with a wrong cookie")
	taken, err := groups{n.blobs}.ReadMaster(ctx, master, mcookie)
	if err != nil || !bytes.Equal(taken, data) {
		t.Errorf("the master: %d bytes, %v", len(taken), err)
	}
	held("the master")
	if taken, err = (groups{n.blobs}).ReadMaster(ctx, master, mcookie+1); err == nil || taken != nil {
		t.Errorf("wrong cookie: %d bytes, %v", len(taken), err)
	}
	held("the master with a wrong cookie")

	o := origin{n.blobs}
	for _, c := range []struct {
		name    string
		variant media.Variant
		blob    id.ID
		cookie  id.Cookie
		ext     string
		err     error
	}{
		{"variant", media.Large, group, gcookie, "jpg", nil},
		{"original", media.Original, master, mcookie, "jpg", nil},
		{"original of another type", media.Original, master, mcookie, "webp", cache.ErrNotFound},
		{"variant that is not there", media.Small, group, gcookie, "jpg", cache.ErrNotFound},
		{"wrong cookie", media.Large, group, gcookie + 1, "jpg", cache.ErrNotFound},
	} {
		obj, err := o.Fetch(ctx, cache.Key{Variant: c.variant.String(), Blob: c.blob, Cookie: c.cookie, Ext: c.ext})
		if !errors.Is(err, c.err) {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.name == "variant" && (!bytes.Equal(obj.Data, data) || n.blobs.Stats().Disks[0].Reading == 0) {
			t.Errorf("%s: %d bytes, which nobody counts", c.name, len(obj.Data))
		}
		if obj.Release != nil {
			obj.Release()
		}
		held(c.name)
	}
}

// A key of scope blob does not open what a photo was uploaded as, whose id and cookie
// are in the URL of the public original: what is stripped for others would be read with
// it, and the photo deleted.
func TestBlobKeysDoNotOpenMasters(t *testing.T) {
	n := openNode(t)
	ctx := t.Context()
	blob, cookie, err := masters{n.blobs}.Reserve(ctx)
	if err == nil {
		err = masters{n.blobs}.WriteMaster(ctx, blob, cookie, api.MasterNeedle{Photo: 1, Owner: 2, ContentType: media.TypeJPEG, Data: testPicture(t)})
	}
	if err != nil {
		t.Fatal(err)
	}
	store := blobStore{n.blobs}
	for _, n := range []int64{0, 100} {
		if _, err := store.ReadBlob(ctx, blob, cookie, uint8(media.Original), 0, n); !errors.Is(err, api.ErrNoBlob) {
			t.Errorf("a master, %d bytes of it: %v", n, err)
		}
	}
	if got := n.blobs.Stats().Disks[0].Reading; got != 0 {
		t.Errorf("%d bytes are held", got)
	}
	own, cookie, err := store.ReserveBlob(ctx, api.BlobOriginals)
	if err == nil {
		err = store.WriteBlob(ctx, own, cookie, []api.BlobVariant{{Variant: uint8(media.Original), Data: []byte("mine"), Owner: 7, ContentType: media.TypeJPEG}})
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := store.ReadBlob(ctx, own, cookie, uint8(media.Original), 0, 100)
	if err != nil || string(p.Data) != "mine" || p.ContentType != media.TypeJPEG {
		t.Fatalf("%q %v", p.Data, err)
	}
	p.Release()
}
