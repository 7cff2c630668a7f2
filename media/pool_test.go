package media

import (
	"bytes"
	"context"
	"fmt"
	"image/jpeg"
	"os"
	"testing"

	"hayloft/testdata/photos"
)

// TestMain makes the test binary its own decoding child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "media-worker" {
		if err := RunWorker(os.Stdin, os.Stdout, Limits{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func newPool(t *testing.T, o PoolOptions) *Pool {
	t.Helper()
	if o.Command == nil {
		o.Command = []string{os.Args[0], "media-worker"}
	}
	if o.Events == nil {
		o.Events = func(e Event) { t.Logf("event %+v", e) }
	}
	p, err := NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestPoolMakesRealPhotos(t *testing.T) {
	p := newPool(t, PoolOptions{})
	for _, ph := range photos.All()[:4] {
		r, err := p.Make(context.Background(), ph.Data)
		if err != nil {
			t.Fatal(ph.Name, err)
		}
		for _, v := range r.Variants {
			if _, err := jpeg.Decode(bytes.NewReader(v.Data)); err != nil {
				t.Fatal(err)
			}
			if os.Getenv("OUT") != "" {
				os.WriteFile(os.Getenv("OUT")+"/"+ph.Name+"-"+v.Variant.String()+".jpg", v.Data, 0o644)
			}
		}
		t.Log(ph.Name, r.Width, r.Height, r.Placeholder, r.Colour)
	}
	t.Logf("%+v", p.Stats())
}
