package feed

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"hayloft/internal/id"
)

// benchPhoto is a row with a caption of ordinary length.
func benchPhoto() *photoRow {
	return &photoRow{Photo: Photo{
		ID: 1 << 50, Author: 1 << 49, Status: Ready, Pos: 1 << 51, CreatedAt: testStart, PublishedAt: testStart,
		Likes: 12345, Comments: 321, Master: master(1 << 48), Rendition: rendition(1 << 47),
		Details: Details{
			Title: "The harbour in the morning", Caption: strings.Repeat("caption ", 27), Tags: []string{"harbour", "morning", "boats"},
			Location: &Location{53.5, 9.9, "Hamburg"},
		},
	}}
}

func BenchmarkPhotoRowDecode(b *testing.B) {
	row := encodeRow(benchPhoto())
	b.ReportAllocs()
	for b.Loop() {
		var p photoRow
		if err := decodeRow(row, &p); err != nil {
			b.Fatal(err)
		}
	}
	asJSON, err := json.Marshal(benchPhoto())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(row)), "row-bytes")
	b.ReportMetric(float64(len(asJSON)), "json-bytes")
}

func BenchmarkPhotoRowEncode(b *testing.B) {
	p := benchPhoto()
	b.ReportAllocs()
	for b.Loop() {
		encodeRow(p)
	}
}

// Likes by different users on one photo, applied one command to a batch: the
// worst case of the group's batching.
func BenchmarkApplyLikesOnOnePhoto(b *testing.B) {
	h := newHouse(b, nil)
	anna := h.user("anna")
	photo := h.post(anna, Details{Caption: strings.Repeat("caption ", 27)})
	var users []id.ID
	for i := range 1000 {
		users = append(users, h.user(fmt.Sprintf("user%d", i)))
	}
	ctx := context.Background()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		u := users[n%len(users)]
		if (n/len(users))%2 == 0 {
			h.must(h.feed.Like(ctx, u, photo))
		} else {
			h.must(h.feed.Unlike(ctx, u, photo))
		}
		n++
	}
}

// Pages of 20 photos, with authors, audience and liked, in process.
func BenchmarkFeedPage(b *testing.B) {
	h := newHouse(b, nil)
	ctx := context.Background()
	reader := h.user("reader")
	for i := range 30 {
		author := h.user(fmt.Sprintf("author%d", i))
		h.must(h.feed.Follow(ctx, reader, author))
		for range 5 {
			h.post(author, Details{Caption: "a caption of a photo"})
		}
	}
	h.run()
	for h.feed.TimelineStats().Readers == 0 || h.feed.TimelineStats().Queued > 0 {
		if _, _, err := h.feed.FeedPage(ctx, reader, Page{Limit: 20}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		rows, _, err := h.feed.FeedPage(ctx, reader, Page{Limit: 20})
		if err != nil || len(rows) != 20 {
			b.Fatal(len(rows), err)
		}
	}
}
