package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"testing"

	"hayloft/client"
	"hayloft/testdata/photos"
)

// TestBadInputAppendsNothing sends what nobody should send. Each answer is
// problem+json with the right status, and no volume grows by a byte.
func TestBadInputAppendsNothing(t *testing.T) {
	ctx := context.Background()
	s := start(t, t.TempDir())
	c := s.account(t, "somebody")
	photo := photos.ByName("nuthatch.jpg").Data
	good, err := put(ctx, c, photo, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WaitReady(ctx, good); err != nil {
		t.Fatal(err)
	}
	before := s.metric(t, "hayloft_volume_appended_bytes_total")
	if before < float64(len(photo)) {
		t.Fatalf("a photo of %d bytes was stored, the volumes grew by %v", len(photo), before)
	}

	used := uploadURL(t, c, len(photo))
	if status, typ := putTo(t, used, photo); status != http.StatusCreated {
		t.Fatalf("a good PUT answers %d %s", status, typ)
	}
	stored := s.metric(t, "hayloft_volume_appended_bytes_total")

	for _, bad := range []struct {
		name   string
		status int
		send   func() (int, string)
	}{
		{"no image", 415, func() (int, string) { return putNew(t, c, []byte("a text, not a photo, of some length"), 0) }},
		{"50,000 × 50,000 pixels", 422, func() (int, string) { return putNew(t, c, hugePNG(), 0) }},
		{"truncated JPEG", 422, func() (int, string) { return putNew(t, c, photo[:len(photo)/2], 0) }},
		{"another length than announced", 422, func() (int, string) { return putNew(t, c, photo, +1) }},
		{"wrong signature", 403, func() (int, string) { return putTo(t, tamper(uploadURL(t, c, len(photo))), photo) }},
		{"used upload URL", 409, func() (int, string) { return putTo(t, used, photo) }},
		{"no image, multipart", 415, func() (int, string) { return multipart(ctx, c, []byte("<svg xmlns='http://www.w3.org/2000/svg'/>")) }},
		{"truncated, multipart", 422, func() (int, string) { return multipart(ctx, c, photo[:len(photo)/2]) }},
		{"taken handle", 409, func() (int, string) {
			return post(t, s, "", "/accounts", `{"handle": "somebody", "password": "correct horse"}`)
		}},
		{"malformed JSON", 400, func() (int, string) { return post(t, s, c.Token(), "/photos/upload-url", `{"file_size": 12,`) }},
		{"an id that is none", 400, func() (int, string) { return post(t, s, c.Token(), "/photos", `{"photo_id": "not an id"}`) }},
		{"an id that is none, in the path", 404, func() (int, string) { return problemAt(t, s.url+"/api/v1/photos/not-an-id") }},
	} {
		t.Run(bad.name, func(t *testing.T) {
			if status, typ := bad.send(); status != bad.status || typ == "" {
				t.Errorf("answered %d with type %q, want %d and problem+json", status, typ, bad.status)
			}
			if now := s.metric(t, "hayloft_volume_appended_bytes_total"); now != stored {
				t.Errorf("the volumes grew by %v bytes", now-stored)
			}
		})
	}
	s.stop(t)
}

func uploadURL(t *testing.T, c *client.Client, size int) string {
	t.Helper()
	u, err := c.UploadURL(context.Background(), client.UploadRequest{FileSize: int64(size), ContentType: "image/jpeg"})
	if err != nil {
		t.Fatal(err)
	}
	return u.URL
}

// tamper changes the last character of a signed URL.
func tamper(u string) string {
	last := byte('A')
	if u[len(u)-1] == last {
		last = 'Q'
	}
	return u[:len(u)-1] + string(last)
}

// putNew puts data to a fresh URL that announces off bytes more.
func putNew(t *testing.T, c *client.Client, data []byte, off int) (int, string) {
	t.Helper()
	return putTo(t, uploadURL(t, c, len(data)+off), data)
}

func putTo(t *testing.T, url string, data []byte) (int, string) {
	t.Helper()
	r := mustRequest(t, http.MethodPut, url, bytes.NewReader(data))
	r.Header.Set("Content-Type", "image/jpeg")
	return problem(t, r)
}

func post(t *testing.T, s *server, token, path, body string) (int, string) {
	t.Helper()
	r := mustRequest(t, http.MethodPost, s.url+"/api/v1"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return problem(t, r)
}

func problemAt(t *testing.T, url string) (int, string) {
	t.Helper()
	return problem(t, mustRequest(t, http.MethodGet, url, nil))
}

func multipart(ctx context.Context, c *client.Client, data []byte) (int, string) {
	_, err := put(ctx, c, data, false)
	p, ok := err.(*client.Problem)
	if !ok {
		return 0, fmt.Sprint(err)
	}
	return p.Status, p.Type
}

// problem sends r and returns the status and, of problem+json only, the type.
func problem(t *testing.T, r *http.Request) (int, string) {
	t.Helper()
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var p struct {
		Type   string
		Status int
	}
	if res.Header.Get("Content-Type") == "application/problem+json" {
		if err := json.Unmarshal(body, &p); err != nil || p.Status != res.StatusCode {
			t.Errorf("problem %s does not fit status %d: %v", body, res.StatusCode, err)
		}
	}
	return res.StatusCode, p.Type
}

// hugePNG is a well-formed PNG of 50,000 × 50,000 pixels in less than 2 KB.
func hugePNG() []byte {
	var b bytes.Buffer
	b.WriteString("\x89PNG\r\n\x1a\n")
	chunk := func(typ string, data []byte) {
		body := append([]byte(typ), data...)
		binary.Write(&b, binary.BigEndian, uint32(len(data)))
		b.Write(body)
		binary.Write(&b, binary.BigEndian, crc32.ChecksumIEEE(body))
	}
	head := binary.BigEndian.AppendUint32(nil, 50_000)
	head = binary.BigEndian.AppendUint32(head, 50_000)
	chunk("IHDR", append(head, 8, 2, 0, 0, 0))
	chunk("IDAT", make([]byte, 1024))
	chunk("IEND", nil)
	return b.Bytes()
}
