package api

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"testing"

	"hayloft/internal/id"
)

// fetchMaster gets a master as far as it comes.
func (w *world) fetchMaster(token string, photo id.ID) (status int, body []byte, err error) {
	w.t.Helper()
	req, err := http.NewRequest("GET", w.url+"/api/v1/photos/"+photo.String()+"/master", nil)
	must(w.t, err)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := w.http.Do(req)
	must(w.t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// largePicture is a picture with n bytes behind it, which a master keeps.
func largePicture(n int) []byte {
	data := picture(64, 48, 1)
	for i := range n {
		data = append(data, byte(i*7+i>>9))
	}
	return data
}

// A master leaves in pieces, of which one is in memory at a time.
func TestMasterLeavesInPieces(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	data := largePicture(3<<20 + 5)
	photo := w.post(ada, data, nil)
	var most int64
	var pieces int
	look := func(_, n int64) error {
		held, _ := w.api.masters.held()
		most = max(most, held, n)
		pieces++
		return nil
	}
	w.blobs.onRead.Store(&look)
	status, body, err := w.fetchMaster(ada, photo)
	if status != 200 || err != nil || !bytes.Equal(body, data) {
		t.Fatalf("%d, %d bytes, %v", status, len(body), err)
	}
	if pieces != 4 || most != pieceBytes {
		t.Errorf("%d pieces, %d bytes at a time", pieces, most)
	}
	eventually(t, "the room is given back", func() bool { n, _ := w.api.masters.held(); return n == 0 })
}

// What is not the upload, or cannot be read, never arrives as a whole.
func TestMasterIsCutOff(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("ada")
	small, large := w.post(ada, picture(64, 48, 1), nil), w.post(ada, largePicture(2<<20), nil)
	errDisk := errors.New("test: a bad sector")
	fail := func(from int64) {
		look := func(off, n int64) error {
			if off >= from {
				return errDisk
			}
			return nil
		}
		w.blobs.onRead.Store(&look)
	}
	fail(0)
	for _, photo := range []id.ID{small, large} {
		if status, _, err := w.fetchMaster(ada, photo); status != 500 || err != nil {
			t.Errorf("nothing can be read: %d, %v", status, err)
		}
	}
	before := len(w.eventsOf(EventFault))
	fail(pieceBytes)
	if status, body, err := w.fetchMaster(ada, large); status != 200 || err == nil || len(body) > pieceBytes {
		t.Errorf("the second piece cannot be read: %d, %d bytes, %v", status, len(body), err)
	}
	eventually(t, "the fault is reported", func() bool {
		all := w.eventsOf(EventFault)
		return len(all) == before+1 && errors.Is(all[before].Err, errDisk) && all[before].Account == adaID
	})
	w.blobs.onRead.Store(nil)

	row, err := w.feed.Photo(t.Context(), adaID, large)
	must(t, err)
	other := row.Master
	other.Digest = sha256.Sum256([]byte("another upload"))
	b := &pieceBody{a: w.api, fill: piecesOf(other.Size, w.api.masterPieces(other)), room: w.api.masters.hold(t, adaID, pieceBytes)}
	var got bytes.Buffer
	if n, err := b.WriteTo(&got); err == nil || n >= other.Size || int64(got.Len()) != n {
		t.Errorf("another upload: %d of %d bytes, %v", n, other.Size, err)
	}
	must(t, b.Close())
	b = &pieceBody{a: w.api, fill: piecesOf(row.Master.Size, w.api.masterPieces(row.Master)), room: w.api.masters.hold(t, adaID, pieceBytes)}
	if all, err := io.ReadAll(struct{ io.Reader }{b}); err != nil || !bytes.Equal(all, largePicture(2<<20)) {
		t.Errorf("%d bytes, %v", len(all), err)
	}
	must(t, b.Close())
	eventually(t, "the room is given back", func() bool { n, _ := w.api.masters.held(); return n == 0 })
}
