package media_test

import (
	"os"
	"testing"

	"hayloft/media"
	"hayloft/media/mediatest"
	"hayloft/testdata/photos"
)

func BenchmarkPhoto(b *testing.B) { mediatest.Bench(b, []string{os.Args[0], "media-worker"}) }

func BenchmarkInspect(b *testing.B) {
	data := photos.ByName("sunset.jpg").Data
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := media.Inspect(data, media.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStrip(b *testing.B) {
	data := photos.ByName("friends.jpg").Data
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := media.Strip(media.TypeJPEG, data); err != nil {
			b.Fatal(err)
		}
	}
}
