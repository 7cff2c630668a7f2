package server_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/server"
)

const (
	variants  = volume.ClassVariants
	originals = volume.ClassOriginals
)

func TestRoad(t *testing.T) {
	h := newHouse(t, server.Options{})
	a, b := h.mustPut(variants, 5000, 4), h.mustPut(originals, 300_000, 1)
	h.check(a)
	h.check(b)
	if a.blob.Slot() < 64 || a.blob.Slot() >= 544 || b.blob.Slot() < 544 {
		t.Errorf("slots %d and %d", a.blob.Slot(), b.blob.Slot())
	}
	st := h.s.Stats()
	if len(st.Volumes) != 2 || st.Writes != 2 || st.BytesAppended < 320_000 || st.Reads != 5 {
		t.Errorf("stats %+v", st)
	}
	h.stop()
	h.start()
	h.check(a)
	h.check(b)
	// A new process goes on with the volumes of the former one.
	c := h.mustPut(variants, 5000, 4)
	h.check(c)
	if st := h.s.Stats(); len(st.Volumes) != 2 {
		t.Errorf("%d volumes after a restart", len(st.Volumes))
	}
}

func TestMasterInfoComesBack(t *testing.T) {
	h := newHouse(t, server.Options{})
	blob, cookie, err := h.s.Reserve(t.Context(), originals)
	if err != nil {
		t.Fatal(err)
	}
	info := &volume.MasterInfo{Photo: 5, Owner: 6, ContentType: "image/jpeg", Time: h.clock.Now()}
	n := volume.Needle{Key: blob, Cookie: cookie, Master: info, Data: []byte("abc")}
	if err := h.s.Write(t.Context(), blob, []volume.Needle{n}); err != nil {
		t.Fatal(err)
	}
	got, err := h.s.Read(t.Context(), blob, 0, cookie)
	if err != nil || got.Master == nil || got.Master.Photo != 5 || got.Master.Owner != 6 || got.Master.ContentType != "image/jpeg" {
		t.Errorf("%+v, %v", got.Master, err)
	}
	got.Release()
}

func TestNotFound(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 100, 1)
	reserved, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		blob   id.ID
		alt    uint8
		cookie id.Cookie
	}{
		"wrong cookie":   {a.blob, 0, a.cookie + 1},
		"no cookie":      {a.blob, 0, 0},
		"other alt":      {a.blob, 1, a.cookie},
		"never written":  {reserved, 0, cookie},
		"before tiles":   {id.Make(1, a.blob.Slot(), 0), 0, a.cookie},
		"slot unused":    {id.Make(a.blob.Millis(), 543, 0), 0, a.cookie},
		"slot for users": {id.Make(a.blob.Millis(), 3, 0), 0, a.cookie},
	} {
		if b, err := h.s.Read(t.Context(), c.blob, c.alt, c.cookie); !errors.Is(err, volume.ErrNotFound) || b.Data != nil {
			t.Errorf("%s: %d bytes, %v", name, len(b.Data), err)
		}
	}
}

// With the directory away, what is there is served and nothing is denied.
func TestDirectoryAway(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 100, 1)
	reserved, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	h.stop()
	h.opts.DirectoryTimeout = 100 * time.Millisecond // one call below waits it out
	h.start()
	h.wire.cut(errAway)
	h.check(a)
	if _, err := h.s.Read(t.Context(), a.blob, 0, a.cookie+1); !errors.Is(err, volume.ErrNotFound) {
		t.Errorf("wrong cookie, the volume itself knows: %v", err)
	}
	for name, blob := range map[string]id.ID{"never written": reserved, "no tile": id.Make(1, 543, 0)} {
		if _, err := h.s.Read(t.Context(), blob, 0, cookie); !errors.Is(err, server.ErrUnavailable) || errors.Is(err, volume.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := h.s.Delete(t.Context(), id.Make(1, 543, 0)); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("delete: %v", err)
	}
	if _, _, err := h.s.Reserve(t.Context(), originals); !errors.Is(err, server.ErrUnavailable) {
		t.Errorf("reserve: %v", err)
	}
	h.wire.cut(nil)
	for { // the keeper tries again after a pause
		h.clock.Advance(time.Second)
		b, err := h.put(originals, 100, 1)
		if err == nil {
			h.check(b)
			return
		}
		if !errors.Is(err, server.ErrUnavailable) {
			t.Fatal(err)
		}
	}
}

func TestDelete(t *testing.T) {
	h := newHouse(t, server.Options{})
	a, b := h.mustPut(variants, 1000, 4), h.mustPut(variants, 1000, 4)
	for range 2 {
		if err := h.s.Delete(t.Context(), a.blob); err != nil {
			t.Fatal(err)
		}
	}
	gone := func() {
		t.Helper()
		for alt := range uint8(4) {
			if _, err := h.s.Read(t.Context(), a.blob, alt, a.cookie); !errors.Is(err, volume.ErrNotFound) {
				t.Errorf("alt %d: %v", alt, err)
			}
		}
		h.check(b)
	}
	gone()
	if err := h.s.Write(t.Context(), a.blob, group(a.blob, a.cookie, 1000, 4)); !errors.Is(err, volume.ErrTombstoned) {
		t.Errorf("written again: %v", err)
	}
	// A blob that was reserved and given up can never be written after.
	late, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.s.Delete(t.Context(), late); err != nil {
		t.Fatal(err)
	}
	if err := h.s.Write(t.Context(), late, group(late, cookie, 10, 1)); !errors.Is(err, volume.ErrTombstoned) {
		t.Errorf("written after its delete: %v", err)
	}
	if err := h.s.Delete(t.Context(), id.Make(1, 543, 0)); err != nil {
		t.Errorf("an id in no tile: %v", err)
	}
	h.crash(7)
	gone()
}

func TestBadInputAppendsNothing(t *testing.T) {
	h := newHouse(t, server.Options{VolumeBytes: 1 << 20})
	h.mustPut(variants, 100, 1)
	blob, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	other := id.Make(blob.Millis()-1000, blob.Slot(), 0)
	before := h.s.Stats()
	for name, c := range map[string]struct {
		blob  id.ID
		group []volume.Needle
		want  error
	}{
		"empty group":    {blob, nil, volume.ErrInvalid},
		"other key":      {blob, group(other, cookie, 10, 1), volume.ErrInvalid},
		"mixed keys":     {blob, append(group(blob, cookie, 10, 1), group(other, cookie, 10, 1)...), volume.ErrInvalid},
		"no cookie":      {blob, group(blob, 0, 10, 1), volume.ErrInvalid},
		"alt twice":      {blob, append(group(blob, cookie, 10, 1), group(blob, cookie, 20, 1)...), volume.ErrInvalid},
		"outside tile":   {other, group(other, cookie, 10, 1), server.ErrMoved},
		"foreign slot":   {id.Make(blob.Millis(), 540, 1), group(id.Make(blob.Millis(), 540, 1), cookie, 10, 1), server.ErrMoved},
		"a user's id":    {id.Make(blob.Millis(), 3, 1), group(id.Make(blob.Millis(), 3, 1), cookie, 10, 1), server.ErrMoved},
		"zero id":        {0, group(0, cookie, 10, 1), server.ErrMoved},
		"larger than it": {blob, group(blob, cookie, 2<<20, 1), volume.ErrTooLarge},
	} {
		if err := h.s.Write(t.Context(), c.blob, c.group); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if _, _, err := h.s.Reserve(t.Context(), 77); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("class 77: %v", err)
	}
	if after := h.s.Stats(); after.BytesAppended != before.BytesAppended {
		t.Errorf("%d bytes appended", after.BytesAppended-before.BytesAppended)
	}
}

// A group that fits into no volume is refused and does not roll for ever.
func TestLargerThanAVolume(t *testing.T) {
	h := newHouse(t, server.Options{VolumeBytes: 64 << 10})
	h.mustPut(variants, 100, 1)
	for size, volumes := range map[int]int{100_000: 2, 60_000: 2} { // the second only shows in an empty volume
		if _, err := h.put(variants, size, 1); !errors.Is(err, volume.ErrTooLarge) {
			t.Errorf("%d bytes: %v", size, err)
		}
		if n := len(h.s.Stats().Volumes); n > volumes {
			t.Errorf("%d bytes: %d volumes", size, n)
		}
	}
	h.check(h.mustPut(variants, 100, 1))
}

func TestFullVolumesRoll(t *testing.T) {
	h := newHouse(t, server.Options{VolumeBytes: 64 << 10})
	var all []stored
	for range 60 {
		all = append(all, h.mustPut(variants, 2000, 4))
	}
	look := func() {
		t.Helper()
		for _, b := range all {
			h.check(b)
		}
	}
	look()
	st := h.s.Stats()
	if len(st.Volumes) < 8 || st.Rolled < 7 {
		t.Errorf("%d volumes, rolled %d times", len(st.Volumes), st.Rolled)
	}
	for _, v := range st.Volumes {
		if v.FileBytes > 64<<10 {
			t.Errorf("volume %d holds %d bytes", v.Volume, v.FileBytes)
		}
	}
	// An id that was reserved before its tile ended goes nowhere.
	early, cookie, err := h.s.Reserve(t.Context(), variants)
	if err != nil {
		t.Fatal(err)
	}
	for n := h.s.Stats().Rolled; h.s.Stats().Rolled == n; {
		all = append(all, h.mustPut(variants, 2000, 4))
	}
	if err := h.s.Write(t.Context(), early, group(early, cookie, 10, 1)); !errors.Is(err, server.ErrMoved) {
		t.Errorf("after its fence: %v", err)
	}
	h.stop()
	h.start()
	look()
	all = append(all, h.mustPut(variants, 2000, 4))
	look()
}

var seedFlag = flag.Uint64("seed", 0, "repeat a random test with this seed")

// Power cuts at random moments of a stream of puts and deletes: what was
// acknowledged is there, byte for byte, and what was deleted is not.
func TestPowerCuts(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./volume/server -run TestPowerCuts -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 2))
	h := newHouse(t, server.Options{VolumeBytes: 128 << 10, Dirs: []string{"/a", "/b"}})
	var kept, deleted []stored
	for round := range 12 {
		for range r.IntN(40) {
			if len(kept) > 0 && r.IntN(5) == 0 {
				i := r.IntN(len(kept))
				if err := h.s.Delete(context.Background(), kept[i].blob); err != nil {
					t.Fatal(err)
				}
				deleted = append(deleted, kept[i])
				kept = append(kept[:i], kept[i+1:]...)
				continue
			}
			class := []volume.Class{variants, originals}[r.IntN(2)]
			kept = append(kept, h.mustPut(class, 1+r.IntN(5000), 1+r.IntN(4)))
		}
		if round%3 == 2 {
			h.stop()
			h.clock.Advance(time.Duration(r.IntN(90)) * time.Second)
			h.start()
		} else {
			h.crash(r.Uint64())
		}
		for _, b := range kept {
			h.check(b)
		}
		for _, b := range deleted {
			if _, err := h.s.Read(context.Background(), b.blob, 0, b.cookie); !errors.Is(err, volume.ErrNotFound) {
				t.Errorf("deleted %v: %v", b.blob, err)
			}
		}
		if t.Failed() {
			t.Fatalf("round %d", round)
		}
	}
}

func TestConcurrentWriters(t *testing.T) {
	h := newHouse(t, server.Options{VolumeBytes: 96 << 10, Dirs: []string{"/a", "/b"}, MaxWriteBytes: 20_000})
	var mu sync.Mutex
	var all []stored
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 9))
			for range 25 {
				b, err := h.put([]volume.Class{variants, originals}[g%2], 1+r.IntN(3000), 1+r.IntN(4))
				if err != nil {
					t.Error(err)
					return
				}
				h.check(b)
				mu.Lock()
				all = append(all, b)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	seen := make(map[id.ID]bool)
	for _, b := range all {
		if seen[b.blob] {
			t.Errorf("%v was given out twice", b.blob)
		}
		seen[b.blob] = true
	}
	h.stop()
	h.start()
	for _, b := range all {
		h.check(b)
	}
	if n := len(h.s.Stats().Volumes); n < 8 {
		t.Errorf("%d volumes", n)
	}
}

func TestClose(t *testing.T) {
	h := newHouse(t, server.Options{})
	a := h.mustPut(variants, 100, 1)
	s := h.s
	h.stop()
	for name, err := range map[string]error{
		"close":   s.Close(t.Context()),
		"delete":  s.Delete(t.Context(), a.blob),
		"write":   s.Write(t.Context(), a.blob, group(a.blob, a.cookie, 10, 1)),
		"reserve": func() error { _, _, err := s.Reserve(t.Context(), variants); return err }(),
		"read":    func() error { _, err := s.Read(t.Context(), a.blob, 0, a.cookie); return err }(),
	} {
		if !errors.Is(err, server.ErrClosed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A call that does not end holds Close up no longer than it is told to, and the
// slots are given back.
func TestCloseLate(t *testing.T) {
	h := newHouse(t, server.Options{})
	h.mustPut(variants, 100, 1)
	s := h.s
	at := h.info(func(i server.VolumeInfo) bool { return i.Class == variants })
	inside, leave, left := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		left <- s.Use(at.Volume, at.Disk, func(*volume.Volume) error { close(inside); <-leave; return nil })
	}()
	<-inside
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, server.ErrLate) || errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(leave)
	if err := <-left; err != nil {
		t.Error(err)
	}
	h.s = nil // closed
}

func TestOptionsValidate(t *testing.T) {
	err := server.Options{Dirs: []string{"a", "a", ""}, KeepFree: -1, VolumeBytes: 5}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	if n := len(err.(interface{ Unwrap() []error }).Unwrap()); n != 5 {
		t.Errorf("%d faults, want 5 at once:\n%v", n, err)
	}
	if _, err := server.Open(t.Context(), server.Options{}); err == nil || !strings.Contains(fmt.Sprint(err), "Directory") {
		t.Errorf("%v", err)
	}
}
