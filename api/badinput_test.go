package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"net/url"
	"strings"
	"testing"
	"time"

	"hayloft/internal/id"
)

// hugePNG is a well-formed PNG of some hundred bytes that claims w × h pixels.
func hugePNG(w, h uint32) []byte {
	chunk := func(kind string, data []byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(len(data)))
		body := append([]byte(kind), data...)
		return binary.BigEndian.AppendUint32(append(b, body...), crc32.ChecksumIEEE(body))
	}
	head := binary.BigEndian.AppendUint32(nil, w)
	head = append(binary.BigEndian.AppendUint32(head, h), 8, 2, 0, 0, 0)
	out := []byte("\x89PNG\r\n\x1a\n")
	out = append(out, chunk("IHDR", head)...)
	out = append(out, chunk("IDAT", bytes.Repeat([]byte{0}, 1900))...)
	return append(out, chunk("IEND", nil)...)
}

// badUpload is an upload that must be refused.
type badUpload struct {
	name    string
	data    []byte
	ctype   string              // announced; default image/jpeg
	size    int                 // announced; default len(data)
	mangle  func(string) string // of the upload URL
	headers []string
	want    *problemKind
}

// setParam returns a mangle that changes one parameter.
func setParam(name, value string) func(string) string {
	return func(raw string) string {
		path, query, _ := strings.Cut(raw, "?")
		q, err := url.ParseQuery(query)
		if err != nil {
			panic(err) // the URL is ours
		}
		q.Set(name, value)
		return path + "?" + q.Encode()
	}
}

func addParam(text string) func(string) string {
	return func(raw string) string { return raw + text }
}

// otherPhoto moves the signature to the upload of another photo.
func otherPhoto(raw string) string {
	i := strings.Index(raw, "/uploads/") + len("/uploads/")
	return raw[:i] + id.Make(9, 9, 9).String() + raw[i+13:]
}

func badUploads(good []byte, stranger id.ID) []badUpload {
	otherDigest := "sha-256=:" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + ":"
	return []badUpload{
		{name: "no image", data: []byte(strings.Repeat("this is no image. ", 20)), want: pMediaType},
		{name: "svg", data: []byte(`<svg xmlns="http://www.w3.org/2000/svg" width="10" height="10"></svg>`), want: pMediaType},
		{name: "html named jpeg", data: []byte("<html><script>alert(1)</script></html>"), want: pMediaType},
		{name: "pdf", data: []byte("%PDF-1.7\n%%EOF"), want: pMediaType},
		{name: "tiff", data: []byte("II*\x00\x08\x00\x00\x00\x00\x00"), want: pMediaType},
		{name: "50,000 × 50,000 pixels in 2 KB", data: hugePNG(50_000, 50_000), ctype: "image/png", want: pTooManyPixels},
		{name: "truncated JPEG", data: good[:len(good)/2], want: pTruncated},
		{name: "JPEG without its end", data: good[:len(good)-2], want: pTruncated},
		{name: "PNG announced as JPEG", data: hugePNG(10, 10), want: pTypeMismatch},
		{name: "longer than announced", data: good, size: len(good) - 1, want: pLengthOther},
		{name: "shorter than announced", data: good, size: len(good) + 1, want: pLengthOther},
		{name: "other digest", data: good, headers: []string{"Content-Digest", otherDigest}, want: pDigest},
		{name: "unreadable digest", data: good, headers: []string{"Content-Digest", "sha-256=:xx:"}, want: pMalformed},
		{name: "wrong signature", data: good, mangle: setParam("s", strings.Repeat("A", 43)), want: pBadSignature},
		{name: "short signature", data: good, mangle: setParam("s", "A"), want: pBadSignature},
		{name: "other size", data: good, mangle: setParam("n", "1"), want: pBadSignature},
		{name: "other owner", data: good, mangle: setParam("o", stranger.String()), want: pBadSignature},
		{name: "other type", data: good, mangle: setParam("t", "image/png"), want: pBadSignature},
		{name: "later expiry", data: good, mangle: setParam("e", "99999999999"), want: pBadSignature},
		{name: "unknown key version", data: good, mangle: setParam("v", "7"), want: pBadSignature},
		{name: "digest added", data: good, mangle: setParam("d", strings.Repeat("0", 64)), want: pBadSignature},
		{name: "empty digest added", data: good, mangle: addParam("&d="), want: pBadSignature},
		{name: "parameter twice", data: good, mangle: addParam("&n=" + itoa(len(good))), want: pBadSignature},
		{name: "unknown parameter", data: good, mangle: addParam("&x=1"), want: pBadSignature},
		{name: "no query", data: good, mangle: func(u string) string { return strings.Split(u, "?")[0] }, want: pBadSignature},
		{name: "other photo", data: good, mangle: otherPhoto, want: pBadSignature},
	}
}

// Every bad upload is refused with its own problem, and not a byte is appended.
func TestBadUploads(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	_, bob := w.account("bob")
	for _, c := range badUploads(picture(64, 48, 1), bob) {
		t.Run(c.name, func(t *testing.T) {
			body := m{"file_size": len(c.data), "content_type": "image/jpeg"}
			if c.size != 0 {
				body["file_size"] = c.size
			}
			if c.ctype != "" {
				body["content_type"] = c.ctype
			}
			u := into[uploadURLBody](w.call(ada, "POST", "/api/v1/photos/upload-url", body).is(201)).UploadURL
			if c.mangle != nil {
				u = c.mangle(u)
			}
			before := w.blobs.bytes()
			w.call("", "PUT", u, c.data, c.headers...).fails(c.want)
			if after := w.blobs.bytes(); after != before {
				t.Errorf("%d bytes were appended", after-before)
			}
		})
	}
}

// What makes an upload bad is when and how it comes.
func TestUploadsOutOfTurn(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	good := picture(64, 48, 1)
	t.Run("chunked, no length", func(t *testing.T) {
		before := w.blobs.bytes()
		w.call("", "PUT", w.uploadURL(ada, good).UploadURL, struct{ *bytes.Reader }{bytes.NewReader(good)}).fails(pLength)
		if w.blobs.bytes() != before {
			t.Error("bytes were appended")
		}
	})
	t.Run("used and expired", func(t *testing.T) {
		u := w.uploadURL(ada, good).UploadURL
		w.call("", "PUT", u, good[1:]).fails(pLengthOther) // a failed PUT uses nothing up
		w.call("", "PUT", u, good).is(201)
		before := w.blobs.bytes()
		w.call("", "PUT", u, good).fails(pUploadStored)
		late := w.uploadURL(ada, good).UploadURL
		w.clock.Advance(15 * time.Minute)
		w.call("", "PUT", late, good).fails(pUploadExpired)
		w.call("", "PUT", u, good).fails(pUploadExpired)
		if w.blobs.bytes() != before {
			t.Error("bytes were appended")
		}
	})
	t.Run("announced digest", func(t *testing.T) {
		body := m{"file_size": len(good), "content_type": "image/jpeg", "digest": digestName(sha256.Sum256([]byte("other")))}
		u := into[uploadURLBody](w.call(ada, "POST", "/api/v1/photos/upload-url", body).is(201)).UploadURL
		before := w.blobs.bytes()
		w.call("", "PUT", u, good).fails(pDigest)
		if w.blobs.bytes() != before {
			t.Error("bytes were appended")
		}
		body["digest"] = digestName(sha256.Sum256(good))
		u = into[uploadURLBody](w.call(ada, "POST", "/api/v1/photos/upload-url", body).is(201)).UploadURL
		w.call("", "PUT", u, good).is(201)
	})
}

func TestBadForms(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("ada")
	good := picture(64, 48, 1)
	long := strings.Repeat("x", 2201)
	for _, c := range []struct {
		name   string
		photo  []byte
		fields []string
		want   *problemKind
	}{
		{"no photo", nil, []string{"caption", "x"}, pMalformed},
		{"empty photo", []byte{}, nil, pMediaType},
		{"no image", []byte("no image"), nil, pMediaType},
		{"truncated", good[:len(good)-5], nil, pTruncated},
		{"too many pixels", hugePNG(50_000, 50_000), nil, pTooManyPixels},
		{"caption too long", good, []string{"caption", long}, pInvalid},
		{"field over its limit", good, []string{"caption", strings.Repeat("x", 17<<10)}, pMalformed},
		{"control character", good, []string{"title", "a\x00b"}, pInvalid},
		{"visibility", good, []string{"visibility", "friends"}, pInvalid},
		{"location is no JSON", good, []string{"location", "here"}, pMalformed},
		{"location out of range", good, []string{"location", `{"lat":91,"lng":0}`}, pInvalid},
		{"location of a wrong type", good, []string{"location", `{"lat":"1","lng":0}`}, pMalformed},
		{"tag", good, []string{"tags", "two words"}, pInvalid},
		{"person that is none", good, []string{"people", "nobody"}, pMalformedID},
		{"unknown person", good, []string{"people", (adaID + 1).String()}, pInvalid},
		{"field twice", good, []string{"title", "a", "title", "b"}, pMalformed},
		{"too many tags", good, strings.Fields(strings.Repeat("tags x ", 31)), pInvalid},
		{"too many parts", good, strings.Fields(strings.Repeat("f x ", 90)), pMalformed},
	} {
		for _, first := range []bool{true, false} {
			body, ct := form(t, c.photo, first, c.fields...)
			before := w.blobs.bytes()
			w.call(ada, "POST", "/api/v1/photos", body, "Content-Type", ct).fails(c.want)
			if after := w.blobs.bytes(); after != before {
				t.Errorf("%s: %d bytes were appended", c.name, after-before)
			}
		}
	}
	body, ct := form(t, good, true)
	before := w.blobs.bytes()
	w.call(ada, "POST", "/api/v1/photos", body[:len(body)-10], "Content-Type", ct).fails(pIncomplete)
	w.call(ada, "POST", "/api/v1/photos", body, "Content-Type", "multipart/form-data").fails(pMalformed)
	w.call(ada, "POST", "/api/v1/photos", body, "Content-Type", "multipart/form-data; boundary=other").fails(pMalformed)
	w.call(ada, "POST", "/api/v1/photos", append(body[:len(body):len(body)], bytes.Repeat([]byte("x"), 20<<10)...), "Content-Type", ct).fails(pMalformed)
	w.call("", "POST", "/api/v1/photos", body, "Content-Type", ct).fails(pUnauthorized)
	if w.blobs.bytes() != before {
		t.Error("bytes were appended")
	}
}

func TestBadJSON(t *testing.T) {
	w := newWorld(t)
	ada, _ := w.account("ada")
	bob, _ := w.account("bob")
	photo := w.post(bob, picture(64, 48, 1), nil)
	w.makeReady(photo)
	comments := "/api/v1/photos/" + photo.String() + "/comments"
	before := w.blobs.bytes()
	deep := `{"text":` + strings.Repeat("[", 30) + strings.Repeat("]", 30) + `}`
	for _, c := range []struct {
		method, path, body string
		want               *problemKind
	}{
		{"POST", comments, `{`, pMalformed},
		{"POST", comments, ``, pMalformed},
		{"POST", comments, `[]`, pMalformed},
		{"POST", comments, `"x"`, pMalformed},
		{"POST", comments, `{"text":"a"} {}`, pMalformed},
		{"POST", comments, `{"text":"a"}x`, pMalformed},
		{"POST", comments, `{"text":"a","text":"b"}`, pMalformed},
		{"POST", comments, `{"text":"a","t\u0065xt":"b"}`, pMalformed},
		{"POST", comments, `{"text":"a","x":{"y":1,"y":2}}`, pMalformed},
		{"POST", comments, `{"text":1}`, pMalformed},
		{"POST", comments, `{"text":["a"]}`, pMalformed},
		{"POST", comments, "{\"text\":\"\xff\"}", pMalformed},
		{"POST", comments, deep, pMalformed},
		{"POST", comments, `{"Text":"a"}`, pInvalid}, // names are exact
		{"POST", comments, `{"text":"  "}`, pInvalid},
		{"POST", comments, `{"text":null}`, pInvalid},
		{"POST", comments, `{}`, pInvalid},
		{"POST", comments, `{"text":"` + strings.Repeat("x", 2201) + `"}`, pInvalid},
		{"POST", comments, `{"text":"a\u0007"}`, pInvalid},
		{"POST", comments, `{"text":"a","parent_id":"nonsense"}`, pMalformedID},
		{"POST", comments, `{"text":"a","parent_id":7}`, pMalformed},
		{"POST", comments, `{"text":"` + strings.Repeat("x", 70<<10) + `"}`, pTooLarge},
		{"POST", "/api/v1/photos", `{"photo_id":"none"}`, pMalformedID},
		{"POST", "/api/v1/photos", `{"photo_id":"0000000000000"}`, pMalformedID},
		{"POST", "/api/v1/photos", `{"photo_id":"031GSQ4000806"}`, pMalformedID},
		{"POST", "/api/v1/photos", `{}`, pMalformed},
		{"POST", "/api/v1/photos", `{"photo_id":"` + id.Make(1, 1, 1).String() + `"}`, pNotFound},
		{"POST", "/api/v1/photos/upload-url", `{"file_size":"1","content_type":"image/jpeg"}`, pMalformed},
		{"POST", "/api/v1/photos/upload-url", `{"file_size":1.5,"content_type":"image/jpeg"}`, pMalformed},
		{"POST", "/api/v1/photos/upload-url", `{"file_size":1e400,"content_type":"image/jpeg"}`, pMalformed},
		{"POST", "/api/v1/photos/upload-url", `{"file_size":0,"content_type":"image/jpeg"}`, pInvalid},
		{"POST", "/api/v1/photos/upload-url", `{"file_size":-1,"content_type":"image/jpeg"}`, pInvalid},
		{"POST", "/api/v1/photos/upload-url", `{"file_size":99999999999,"content_type":"image/jpeg"}`, pFileTooLarge},
		{"POST", "/api/v1/photos/upload-url", `{"file_size":1}`, pMalformed},
		{"POST", "/api/v1/photos/upload-url", `{"file_size":1,"content_type":"image/svg+xml"}`, pMediaType},
		{"POST", "/api/v1/photos/upload-url", `{"file_size":1,"content_type":"image/avif"}`, pMediaType},
		{"POST", "/api/v1/photos/upload-url", `{"file_size":1,"content_type":"image/jpeg","digest":"md5:00"}`, pInvalid},
		{"PATCH", "/api/v1/users/me", `{"name":"` + strings.Repeat("x", 65) + `"}`, pInvalid},
		{"PATCH", "/api/v1/users/me", `{"name":"two\nlines"}`, pInvalid},
		{"PATCH", "/api/v1/users/me", `{"bio":"` + strings.Repeat("é", 151) + `"}`, pInvalid},
	} {
		w.call(ada, c.method, c.path, c.body, "Content-Type", typeJSON).fails(c.want)
	}
	w.call(ada, "POST", comments, `{"text":"a"}`).fails(pMediaType)
	w.call(ada, "POST", comments, `text=a`, "Content-Type", "application/x-www-form-urlencoded").fails(pMediaType)
	w.call(ada, "POST", comments, `{"text":"a"}`, "Content-Type", "text/plain").fails(pMediaType)
	w.call(ada, "POST", comments, `{"text":"a"}`, "Content-Type", "application/json; charset=utf-8").is(201)
	if w.blobs.bytes() != before {
		t.Error("bytes were appended")
	}
	p := into[problemBody](w.call(ada, "POST", "/api/v1/accounts", m{"handle": "B", "password": "x"}).fails(pInvalid))
	if len(p.Errors) != 2 || p.Errors[0].Pointer != "/handle" || p.Errors[1].Pointer != "/password" {
		t.Errorf("not every fault at once: %+v", p.Errors)
	}
}

func TestBadAccounts(t *testing.T) {
	w := newWorld(t)
	w.account("ada")
	w.call("", "POST", "/api/v1/accounts", m{"handle": "ada", "password": "long enough"}).fails(pHandleTaken)
	for _, h := range []string{"", "Ada", "a b", "me", "admin", ".a", "a.", "a..b", "a-b", strings.Repeat("a", 33), "é", "@ada", id.Make(5, 5, 5).String()} {
		w.call("", "POST", "/api/v1/accounts", m{"handle": h, "password": "long enough"}).fails(pInvalid)
	}
	for _, pw := range []string{"", "1234567", strings.Repeat("p", 1025)} {
		w.call("", "POST", "/api/v1/accounts", m{"handle": "carl", "password": pw}).fails(pInvalid)
	}
	w.call("", "POST", "/api/v1/accounts", m{"handle": "carl", "password": "pässwörd"}).is(201)
	w.call("", "POST", "/api/v1/accounts", m{"handle": "dora", "password": "long enough", "is_admin": true, "id": "x", "created_at": 1}).is(201)
	closed := newWorld(t, func(o *Options) { o.Signup = SignupClosed })
	closed.call("", "POST", "/api/v1/accounts", m{"handle": "carl", "password": "long enough"}).fails(pSignupClosed)
}

func TestFollowFaults(t *testing.T) {
	w := newWorld(t)
	ada, adaID := w.account("ada")
	w.call(ada, "POST", "/api/v1/follow/ada", nil).fails(pInvalid)
	w.call(ada, "POST", "/api/v1/follow/me", nil).fails(pInvalid)
	w.call(ada, "DELETE", "/api/v1/follow/me", nil).is(204)
	for _, u := range []string{"nobody", "@nobody", (adaID + 1).String(), "No.Body", "%40%40ada", "x" + adaID.String()} {
		w.call(ada, "POST", "/api/v1/follow/"+u, nil).is(404)
		w.call(ada, "GET", "/api/v1/users/"+u, nil).is(404)
	}
	w.call("", "GET", "/api/v1/users/me/photos", nil).fails(pUnauthorized)
	w.call(ada, "GET", "/api/v1/users/me/photos", nil).is(200)
}
