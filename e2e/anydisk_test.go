package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hayloft/client"
	"hayloft/testdata/photos"
)

// TestAnyTwoDirectoriesLost: a server of four directories whose coding survives
// two losses keeps all metadata when any two are emptied, the first included, and
// needs no command. It works on the same directories from one pair to the next.
func TestAnyTwoDirectoriesLost(t *testing.T) {
	ctx := context.Background()
	root := t.TempDir()
	var dirs []string
	for i := range 4 {
		dirs = append(dirs, filepath.Join(root, fmt.Sprintf("disk%d", i+1)))
	}
	flags := []string{"--data", strings.Join(dirs[1:], ","), "--ec", "2+2"}
	s := start(t, dirs[0], flags...)
	author, reader := s.account(t, "author"), s.account(t, "reader")
	if _, err := reader.Follow(ctx, "@author"); err != nil {
		t.Fatal(err)
	}
	p := photos.All()[0]
	posted, err := author.PostPhoto(ctx, client.File{At: bytes.NewReader(p.Data), Size: int64(len(p.Data)), ContentType: "image/jpeg", Name: p.Name},
		client.Details{Title: p.Title}, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := author.WaitReady(ctx, posted.PhotoID); err != nil {
		t.Fatal(err)
	}
	if err := reader.Like(ctx, posted.PhotoID); err != nil {
		t.Fatal(err)
	}
	comments := 0
	for i, first := range dirs {
		for _, second := range dirs[i+1:] {
			if _, err := s.as(t, reader).Comment(ctx, posted.PhotoID, client.NewComment{Text: fmt.Sprint("before ", first, second)}); err != nil {
				t.Fatal(err)
			}
			comments++
			s.stop(t)
			for _, dir := range []string{first, second} {
				if err := os.RemoveAll(dir); err != nil {
					t.Fatal(err)
				}
			}
			s = start(t, dirs[0], flags...)
			c, r := s.as(t, author), s.as(t, reader)
			got, err := c.Photo(ctx, posted.PhotoID)
			if err != nil || got.LikeCount != 1 || got.CommentCount != uint64(comments) || got.Title != p.Title {
				t.Errorf("without %s and %s: %+v, %v", first, second, got, err)
			}
			if page, err := r.Feed(ctx, client.PageOptions{}); err != nil || len(page.Items) != 1 {
				t.Errorf("the feed without %s and %s: %v, %v", first, second, page.Items, err)
			}
			if _, err := c.Login(ctx, "reader", "correct horse reader"); err != nil {
				t.Errorf("login without %s and %s: %v", first, second, err)
			}
			if n := s.metric(t, "hayloft_metadata_mirrors"); n != 3 {
				t.Errorf("%v mirrors without %s and %s\n%s", n, first, second, s.log)
			}
		}
	}
	s.stop(t)
	out, log, code := run(t, "server", "--data", dirs[3], "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0")
	if code == 0 || !strings.Contains(log, "name all data directories") || !slices.ContainsFunc(dirs[:3], func(d string) bool { return strings.Contains(log, d) }) {
		t.Errorf("one directory alone: %d %s %s", code, out, log)
	}
}
