package cache

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"io"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sync/errgroup"

	"hayloft/bench/rig"
	"hayloft/client"
)

// weights are the sizes of bodies that hits are measured with.
var weights = []struct {
	name  string
	bytes int
}{{"10k", 10 << 10}, {"64k", 64 << 10}, {"200k", 200 << 10}}

// picture makes a JPEG of noise, of about so many bytes and the seed's own.
func picture(n int, seed uint64) ([]byte, error) {
	const width, quality = 256, 90
	// Noise at this quality takes so many bytes for each row; what is missing is
	// seen from a first try.
	rows := n / 200
	var out bytes.Buffer
	for range 3 {
		r := rand.New(rand.NewPCG(seed, 0))
		img := image.NewGray(image.Rect(0, 0, width, max(8, rows)))
		for i := range img.Pix {
			img.Pix[i] = byte(r.Uint32())
		}
		out.Reset()
		if err := jpeg.Encode(&out, img, &jpeg.Options{Quality: quality}); err != nil {
			return nil, err
		}
		rows = max(8, rows*n/out.Len())
	}
	return out.Bytes(), nil
}

// fill posts the pictures as public photos, and returns for each of weights the
// paths of their originals, whose bytes it leaves below dir.
func (b *run) fill(ctx context.Context, node *rig.Node, dir string) ([][]string, error) {
	anyone, err := client.New(node.URL, client.Options{})
	if err != nil {
		return nil, err
	}
	login, err := anyone.CreateAccount(ctx, client.NewAccount{Handle: "bench", Password: "only-for-this-run"})
	if err != nil {
		return nil, err
	}
	c := anyone.WithToken(login.Token)
	defer c.CloseIdle()
	paths := make([][]string, len(weights))
	var mu sync.Mutex // guards paths
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for w := range weights {
		for i := range b.Photos {
			g.Go(func() error {
				data, err := picture(weights[w].bytes, uint64(w)<<32|uint64(i))
				if err != nil {
					return err
				}
				path, err := post(ctx, c, data, dir)
				if err == nil {
					mu.Lock()
					paths[w] = append(paths[w], path)
					mu.Unlock()
				}
				return err
			})
		}
	}
	return paths, g.Wait()
}

// post posts one photo, and returns the path of its original once it is in the
// cache, whose bytes it leaves below dir.
func post(ctx context.Context, c *client.Client, data []byte, dir string) (string, error) {
	p, err := c.PostPhoto(ctx, client.File{At: bytes.NewReader(data), Size: int64(len(data)), ContentType: "image/jpeg", Name: "noise.jpg"}, client.Details{}, 0, "")
	if err != nil {
		return "", err
	}
	photo, err := c.WaitReady(ctx, p.PhotoID)
	if err != nil {
		return "", err
	}
	at, err := url.Parse(photo.URLs.Original)
	if err != nil || at.RawQuery != "" {
		return "", fmt.Errorf("the original's URL is %q (%v)", photo.URLs.Original, err)
	}
	var body []byte
	for range 3 { // a photo that is asked for again stays
		o, err := c.Media(ctx, photo.URLs.Original)
		if err != nil {
			return "", err
		}
		body, err = io.ReadAll(o.Body)
		o.Body.Close()
		if err != nil {
			return "", err
		}
	}
	name := filepath.Join(dir, filepath.FromSlash(at.Path))
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return "", err
	}
	return at.Path, os.WriteFile(name, body, 0o644)
}
