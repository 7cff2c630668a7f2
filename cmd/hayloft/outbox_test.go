package main

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

// TestOutboxCommands parks an effect, sees it with its reason, and takes it up again.
func TestOutboxCommands(t *testing.T) {
	n := openNode(t)
	o := operate(t, n)
	if out := o.must("outbox", "ls"); !strings.HasPrefix(out, "0 parked; 0 to transcode and 0 to reclaim") {
		t.Errorf("%q", out)
	}
	o.must("user", "create", "ada")
	ada, err := n.feed.Account(t.Context(), "ada")
	must(t, err)
	photo, err := n.feed.BeginUpload(t.Context(), ada.ID, feed.UploadSpec{Size: 9, ContentType: "image/jpeg", ExpiresAt: n.clock.Now().Add(time.Hour)})
	must(t, err)
	blob := id.ID(1 << 40)
	must(t, n.feed.Intend(t.Context(), photo, blob))
	must(t, n.feed.Stored(t.Context(), photo, feed.Master{Blob: blob, Cookie: 7, Size: 9, ContentType: "image/jpeg", Digest: [32]byte{1}, Width: 3, Height: 3}, &feed.Details{}))
	ask := func(args ...string) (l outboxList) {
		t.Helper()
		must(t, json.Unmarshal([]byte(o.must(append([]string{"outbox", "ls", "--json"}, args...)...)), &l))
		return l
	}
	l := ask("--all")
	if l.Transcode != 1 || len(l.Effects) != 1 || l.Effects[0].State != "waiting" || l.Effects[0].Photo != photo.String() {
		t.Fatalf("%+v", l)
	}
	seq := strconv.FormatUint(l.Effects[0].Seq, 10)
	if _, stderr, err := o.run("outbox", "retry", seq); err == nil {
		t.Errorf("retried what is not parked: %s", stderr)
	}
	ctx, cancel := context.WithCancel(t.Context())
	parked := make(chan error, 1)
	go func() {
		parked <- n.feed.RunEffects(ctx, feed.EffectTranscode, 1, func(context.Context, feed.Effect) error {
			return feed.Poison(errors.New("the decoder dies of it"))
		})
	}()
	for l = ask(); l.Parked == 0; l = ask() { // until it has been handled
	}
	cancel()
	if err := <-parked; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if len(l.Effects) != 1 || l.Effects[0].State != "parked" || l.Effects[0].Reason != "the decoder dies of it" || l.Effects[0].Attempts != 1 {
		t.Errorf("%+v", l)
	}
	if out := o.must("outbox", "ls"); !strings.HasPrefix(out, seq+"  parked  transcode  "+photo.String()) || !strings.Contains(out, ": the decoder dies of it\n1 parked; 0 to transcode") {
		t.Errorf("%q", out)
	}
	if out := o.must("outbox", "retry", "--all"); out != seq+"\n" {
		t.Errorf("%q", out)
	}
	if l = ask(); l.Parked != 0 || l.Transcode != 1 {
		t.Errorf("after the retry: %+v", l)
	}
	for _, wrong := range [][]string{{"outbox", "retry"}, {"outbox", "retry", "x"}, {"outbox", "retry", "--all", seq}} {
		if _, _, err := o.run(wrong...); err == nil {
			t.Errorf("%v was done", wrong)
		}
	}
}
