package mediatest

import (
	"bytes"
	"context"
	"image"
	"image/jpeg"
	"syscall"
	"testing"
	"time"

	"golang.org/x/image/draw"

	"hayloft/media"
	"hayloft/testdata/photos"
)

// Bench measures what the four variants of one photo cost in a child that
// command starts: time on the clock, and CPU time of the child.
func Bench(b *testing.B, command []string) {
	for _, s := range []struct {
		name string
		w, h int
	}{{"2048x2048", 2048, 2048}, {"12MP", 4000, 3000}} {
		b.Run(s.name, func(b *testing.B) {
			files := Photographs(s.w, s.h)
			p, err := media.NewPool(media.PoolOptions{Command: command, Workers: 1, JobsPerChild: 1 << 20})
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			if _, _, err := p.Probe(b.Context()); err != nil {
				b.Fatal(err)
			}
			before := childCPU(b)
			n, out := 0, 0
			for b.Loop() {
				r, err := p.Make(context.Background(), files[n%len(files)])
				if err != nil {
					b.Fatal(err)
				}
				for _, v := range r.Variants {
					out += len(v.Data)
				}
				n++
			}
			p.Close() // a child's time is counted when it has been reaped
			b.ReportMetric((childCPU(b)-before).Seconds()*1000/float64(n), "CPU-ms/photo")
			b.ReportMetric(float64(out)/float64(n)/1000, "kB/photo")
		})
	}
}

func childCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_CHILDREN, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Photographs returns six real photographs as JPEGs of w × h: the middle of
// each, enlarged where it is too small.
func Photographs(w, h int) [][]byte {
	var files [][]byte
	for _, name := range []string{"bridge.jpg", "bird.jpg", "dandelion.jpg", "friends.jpg", "sunset.jpg", "wine.jpg"} {
		m, err := jpeg.Decode(bytes.NewReader(photos.ByName(name).Data))
		if err != nil {
			panic("mediatest: " + err.Error())
		}
		size := m.Bounds().Size()
		cw, ch := min(w, size.X), min(h, size.Y)
		if cw*h > ch*w { // the largest part of that shape, or the part of that size
			cw = ch * w / h
		} else {
			ch = cw * h / w
		}
		at := image.Pt((size.X-cw)/2, (size.Y-ch)/2)
		out := image.NewRGBA(image.Rect(0, 0, w, h))
		draw.ApproxBiLinear.Scale(out, out.Rect, m, image.Rectangle{at, at.Add(image.Pt(cw, ch))}, draw.Src, nil)
		files = append(files, JPEG(out, 85))
	}
	return files
}
