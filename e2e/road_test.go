package e2e

import (
	"bytes"
	"context"
	"image"
	_ "image/jpeg"
	"net/http"
	"net/url"
	"testing"

	"hayloft/client"
	"hayloft/testdata/photos"
)

// variantURLs are the media URLs of a ready photo by variant.
func variantURLs(p client.Photo) map[string]string {
	out := map[string]string{}
	for name, u := range map[string]string{
		"thumbnail": p.URLs.Thumbnail, "small": p.URLs.Small, "medium": p.URLs.Medium,
		"large": p.URLs.Large, "original": p.URLs.Original,
	} {
		if u != "" {
			out[name] = u
		}
	}
	return out
}

// rebase moves a URL to another run of the server, which has another port.
func rebase(rawURL, server string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		panic(err)
	}
	return server + u.RequestURI()
}

// TestWholeRoad takes photos both ways from upload to a follower's feed, to
// likes and comments, and to the delete after which every variant is 404.
func TestWholeRoad(t *testing.T) {
	ctx := context.Background()
	s := start(t, t.TempDir())
	author, reader := s.account(t, "author"), s.account(t, "reader")
	if _, err := reader.Follow(ctx, "@author"); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"bridge.jpg", "friends.jpg"} {
		data := photos.ByName(name).Data
		photo, err := put(ctx, author, data, i == 0)
		if err != nil {
			t.Fatal(err)
		}
		p, err := author.WaitReady(ctx, photo)
		if err != nil || p.Status != client.StatusReady {
			t.Fatalf("%s: status %q, %v", name, p.Status, err)
		}
		feed, err := reader.Feed(ctx, client.PageOptions{})
		if err != nil || len(feed.Items) != i+1 || feed.Items[0].ID != photo {
			t.Fatalf("%s: the follower's feed is %v, %v", name, feed.Items, err)
		}
		checkVariants(t, feed.Items[0])
		checkMaster(t, author, reader, photo, data)
	}
	feed, err := reader.Feed(ctx, client.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkConversation(t, author, reader, feed.Items[0].ID)
	for _, p := range feed.Items {
		checkDelete(t, author, reader, p)
	}
	s.stop(t)
}

// checkVariants fetches and decodes each variant and compares its size with
// what the photo object says.
func checkVariants(t *testing.T, p client.Photo) {
	t.Helper()
	urls := variantURLs(p)
	if len(urls) != 5 || len(p.Media) != 1 || p.Media[0].Placeholder == "" {
		t.Fatalf("a ready photo has five URLs, one media and a placeholder, got %+v", p)
	}
	for name, u := range urls {
		status, body := get(t, u)
		if status != http.StatusOK {
			t.Fatalf("%s: %s answers %d: %s", name, u, status, body)
		}
		cfg, _, err := image.DecodeConfig(bytes.NewReader(body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, ok := p.Media[0].URLs[name]
		if ok && name != "original" && (cfg.Width != want.Width || cfg.Height != want.Height) {
			t.Errorf("%s is %d × %d, the photo object says %d × %d", name, cfg.Width, cfg.Height, want.Width, want.Height)
		}
	}
}

// checkMaster: verbatim for its owner, not there for anybody else.
func checkMaster(t *testing.T, author, reader *client.Client, photo string, data []byte) {
	t.Helper()
	o, err := author.Master(context.Background(), photo)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Body.Close()
	var got bytes.Buffer
	if _, err := got.ReadFrom(o.Body); err != nil || !bytes.Equal(got.Bytes(), data) {
		t.Errorf("the master differs from what was sent (%d and %d bytes), %v", got.Len(), len(data), err)
	}
	if _, err := reader.Master(context.Background(), photo); !client.IsStatus(err, http.StatusNotFound) {
		t.Errorf("a stranger asks for the master and gets %v", err)
	}
}

func checkConversation(t *testing.T, author, reader *client.Client, photo string) {
	t.Helper()
	ctx := context.Background()
	for range 2 { // a like is idempotent
		if err := reader.Like(ctx, photo); err != nil {
			t.Fatal(err)
		}
	}
	c, err := reader.Comment(ctx, photo, client.NewComment{Text: "Lovely <b>light</b> & shade"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := author.Comment(ctx, photo, client.NewComment{Text: "Thank you", ParentID: c.ID}); err != nil {
		t.Fatal(err)
	}
	p, err := reader.Photo(ctx, photo)
	if err != nil || p.LikeCount != 1 || !p.Liked || p.CommentCount != 2 {
		t.Errorf("likes %d, liked %v, comments %d, %v; want 1, true, 2", p.LikeCount, p.Liked, p.CommentCount, err)
	}
	comments, err := author.Comments(ctx, photo, client.PageOptions{})
	if err != nil || len(comments.Items) != 1 || comments.Items[0].Text != "Lovely <b>light</b> & shade" || comments.Items[0].ReplyCount != 1 {
		t.Errorf("comments: %+v, %v", comments.Items, err)
	}
}

// checkDelete: gone from the feed and, for every variant, from the media URLs.
func checkDelete(t *testing.T, author, reader *client.Client, p client.Photo) {
	t.Helper()
	ctx := context.Background()
	if err := reader.Delete(ctx, p.ID); !client.IsStatus(err, http.StatusNotFound) {
		t.Errorf("a stranger deletes and gets %v", err)
	}
	if err := author.Delete(ctx, p.ID); err != nil {
		t.Fatal(err)
	}
	for name, u := range variantURLs(p) {
		waitStatus(t, u, http.StatusNotFound, name)
	}
	if _, err := reader.Photo(ctx, p.ID); !client.IsStatus(err, http.StatusNotFound) {
		t.Errorf("a deleted photo answers %v", err)
	}
	feed, err := reader.Feed(ctx, client.PageOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range feed.Items {
		if other.ID == p.ID {
			t.Error("a deleted photo is in the feed")
		}
	}
}
