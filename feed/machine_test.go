package feed

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"hayloft/internal/raftgroup"
)

// What this program does not know stops it; it is never skipped.
func TestUnknownCommandStopsTheMachine(t *testing.T) {
	h := newHouse(t, nil)
	like := encodeCommand(testStart, nil, &cmdLike{User: 1, Photo: 2, Like: 3})
	newer := encodeCommand(testStart, nil, &cmdLike{User: 1, Photo: 2, Like: 3})
	newer[0] = commandVersion + 1
	extra := appendRecord([]byte{commandVersion, 30}, &envelope{Now: testStart, Body: append(appendRecord(nil, &cmdLike{User: 1}), 9<<2, 1)})
	for what, cmd := range map[string][]byte{
		"kind": {commandVersion, 99}, "version": newer, "field": extra, "empty": {}, "cut": like[:len(like)-1],
	} {
		b := h.group.db.NewIndexedBatch()
		if _, err := h.group.machine.Apply(b, cmd); !errors.Is(err, raftgroup.ErrUnsupported) || refusal(err) || b.Count() != 0 {
			t.Errorf("%s: %v", what, err)
		}
		b.Close()
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	h := newHouse(t, nil)
	h.user("anna")
	h.must(h.group.machine.Restored(h.group.db))
	h.must(h.group.db.Set(metaKey(metaFormat), be(nil, formatVersion+1), pebble.Sync))
	h.wants(NewMachine().Restored(h.group.db), ErrUnsupported)
}

// A state that came from elsewhere wakes all who follow it, those of search too: a replica that
// was given a snapshot would answer no search until somebody publishes.
func TestRestoredWakesEverybody(t *testing.T) {
	h := newHouse(t, nil)
	w := &h.group.machine.watch
	waits := make(map[int]<-chan struct{})
	for i, topic := range w.topics() {
		waits[i] = w.on(topic)
	}
	h.must(h.group.machine.Restored(h.group.db))
	for i, woken := range waits {
		select {
		case <-woken:
		default:
			t.Errorf("topic %d is not woken", i)
		}
	}
}

// A row that does not decode is not a missing row: it stops commands, fails
// reads, and is found by Check.
func TestDamagedRowIsNotAMissingRow(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna := h.user("anna")
	photo := h.post(anna, Details{})
	key := key1(tabPhoto, photo)
	row, err := store{h.group.db}.get(key)
	h.must(err)
	row[3] ^= 0xff
	h.must(h.group.db.Set(key, row, pebble.Sync))
	if _, err := h.feed.Photo(ctx, anna, photo); !isDamage(err) || errors.Is(err, ErrNotFound) {
		t.Errorf("Photo: %v", err)
	}
	err = h.feed.Like(ctx, anna, photo)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, raftgroup.ErrUnsupported) {
		t.Errorf("Like: %v", err)
	}
	found := 0
	h.must(h.feed.Check(ctx, func(f Finding) {
		if string(f.Key) == string(key) {
			found++
		}
	}))
	if found == 0 {
		t.Error("Check has not found it")
	}
}

// Check sees a counter that has drifted and an index that disagrees.
func TestCheckFindsDrift(t *testing.T) {
	h := newHouse(t, nil)
	ctx := context.Background()
	anna, bert := h.user("anna"), h.user("bert")
	photo := h.post(anna, Details{})
	h.must(h.feed.Like(ctx, bert, photo))
	h.must(h.feed.Follow(ctx, bert, anna))
	h.check()
	db := h.group.db
	for what, spoil := range map[string]func(*pebble.Batch) error{
		"like":     func(b *pebble.Batch) error { return b.Delete(key2(tabLike, photo, bert), nil) },
		"follow":   func(b *pebble.Batch) error { return b.Delete(key2(tabFollowedBy, anna, bert), nil) },
		"post":     func(b *pebble.Batch) error { return b.DeleteRange([]byte{tabPosts}, []byte{tabPosts + 1}, nil) },
		"blob":     func(b *pebble.Batch) error { return b.DeleteRange([]byte{tabBlob}, []byte{tabBlob + 1}, nil) },
		"event":    func(b *pebble.Batch) error { return b.Delete(key1(tabEvent, uint64(1)), nil) },
		"due":      func(b *pebble.Batch) error { return b.DeleteRange([]byte{tabDue}, []byte{tabDue + 1}, nil) },
		"handle":   func(b *pebble.Batch) error { return b.Delete(handleKey("anna"), nil) },
		"stranger": func(b *pebble.Batch) error { return b.Set([]byte{0x7f, 1}, nil, nil) },
	} {
		b := db.NewIndexedBatch()
		h.must(spoil(b))
		found := 0
		c := checker{store: store{b}, ctx: ctx, found: func(Finding) { found++ }}
		if err := c.all(); err != nil || found == 0 {
			t.Errorf("%s: %d findings, %v", what, found, err)
		}
		b.Close()
	}
}

func TestOptionsAreValidated(t *testing.T) {
	_, err := Open(Options{Policy: Policy{PurgeLogLife: 1, DeleteGrace: -1}})
	for _, part := range []string{"Group", "Machine", "Mint", "TimelineDirs", "PurgeLogLife", "negative"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s is not in %v", part, err)
		}
	}
}

// On a group that has stopped everything is unavailable, nothing is not found.
func TestStoppedGroup(t *testing.T) {
	r := &roof{t: t, dir: t.TempDir(), fs: vfs.NewCrashableMem(), lines: vfs.NewCrashableMem()}
	r.open()
	h := &house{t: t, feed: r.feed}
	h.must(r.feed.Ready())
	r.stop()
	h.must(r.group.Close())
	ctx := context.Background()
	h.wants(r.feed.Ready(), ErrUnavailable)
	h.wants(r.feed.Like(ctx, 1, 2), ErrUnavailable)
	_, err := r.feed.Photo(ctx, 1, 2)
	h.wants(err, ErrUnavailable)
	_, _, err = r.feed.FeedPage(ctx, 1, Page{Limit: 1})
	h.wants(err, ErrUnavailable)
	h.wants(r.feed.Run(ctx), ErrUnavailable)
	h.wants(r.feed.RunEffects(ctx, EffectTranscode, 1, nil), ErrUnavailable)
	snap := source{r.feed}.Snapshot()
	_, err = snap.LastSeq()
	h.wants(err, ErrUnavailable)
	h.must(snap.Close())
	h.must(r.feed.Close())
}
