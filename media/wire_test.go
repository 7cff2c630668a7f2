package media

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"testing"
)

func TestWireRoundTrips(t *testing.T) {
	g := greeting{"test 1.0", []string{TypeJPEG, TypePNG}}
	if got, err := decodeGreeting(g.encode()); err != nil || !reflect.DeepEqual(got, g) {
		t.Errorf("%+v, %v", got, err)
	}
	j := Job{TypeWebP, 6, 123_456_789_012, []byte("image")}
	if got, err := decodeJob(j.encode()); err != nil || !reflect.DeepEqual(got, j) {
		t.Errorf("%+v, %v", got, err)
	}
	r := Result{Width: 1, Height: 2, Placeholder: "hash", Colour: "#010203", Variants: []Rendition{
		{Thumbnail, 3, 4, TypeJPEG, []byte("a")}, {Large, 5, 6, TypeWebP, []byte{}},
	}}
	if got, err := decodeResult(r.encode()); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	v := Rejected{RejectTruncated, "The image is cut short."}
	if got, err := decodeRejected(v.encode()); err != nil || got != v {
		t.Errorf("%+v, %v", got, err)
	}
	// Fields can be added: what follows the known ones is ignored.
	if _, err := decodeResult(append(r.encode(), "later"...)); err != nil {
		t.Error(err)
	}
}

// A body cut anywhere is found out.
func TestWireBodiesCutShort(t *testing.T) {
	r := Result{Placeholder: "hash", Colour: "#010203", Variants: []Rendition{{Small, 3, 4, TypeJPEG, []byte("abc")}}}.encode()
	for n := range r {
		if _, err := decodeResult(r[:n]); !errors.Is(err, errWire) {
			t.Errorf("%d of %d bytes of an answer: %v", n, len(r), err)
		}
	}
	j := Job{TypeJPEG, 1, 1, []byte("abc")}.encode()
	for n := range j {
		if _, err := decodeJob(j[:n]); !errors.Is(err, errWire) {
			t.Errorf("%d of %d bytes of a job: %v", n, len(j), err)
		}
	}
}

func TestWireFrames(t *testing.T) {
	var b bytes.Buffer
	if err := writeFrame(&b, kindJob, []byte("body")); err != nil {
		t.Fatal(err)
	}
	whole := b.Bytes()
	if kind, body, err := readFrame(bytes.NewReader(whole), 4); err != nil || kind != kindJob || string(body) != "body" {
		t.Errorf("%d %q %v", kind, body, err)
	}
	if _, _, err := readFrame(bytes.NewReader(whole), 3); !errors.Is(err, errWire) {
		t.Errorf("over the limit: %v", err)
	}
	for n := range whole {
		_, _, err := readFrame(bytes.NewReader(whole[:n]), 100)
		if n == 0 && err != io.EOF || n > 0 && err != io.ErrUnexpectedEOF {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x10
		kind, body, err := readFrame(bytes.NewReader(bad), 100)
		free := i >= 4 && i < 8 // the kind is judged by the caller, the rest is reserved
		if err == nil && (!free || string(body) != "body" || i > 4 && kind != kindJob) {
			t.Errorf("a flipped bit in byte %d was not found", i)
		}
	}
	huge := bytes.Clone(whole)
	binary.LittleEndian.PutUint32(huge[8:], 1<<31)
	if _, _, err := readFrame(bytes.NewReader(huge), maxAnswer); !errors.Is(err, errWire) {
		t.Errorf("2 GiB announced: %v", err)
	}
}

func FuzzWire(f *testing.F) {
	f.Add(greeting{"x", []string{"y"}}.encode())
	f.Add(Job{TypeJPEG, 1, 1, []byte("abc")}.encode())
	f.Add(Result{Placeholder: "hash", Variants: []Rendition{{Small, 3, 4, TypeJPEG, []byte("abc")}}}.encode())
	f.Fuzz(func(_ *testing.T, body []byte) {
		// None may panic or take more memory than the body holds.
		_, _ = decodeGreeting(body)
		_, _ = decodeJob(body)
		_, _ = decodeRejected(body)
		if r, err := decodeResult(body); err == nil {
			_ = r.check(Info{Width: 4, Height: 4})
		}
		_, _, _ = readFrame(bytes.NewReader(body), 1<<20)
	})
}
