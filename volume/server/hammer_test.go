package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"hayloft/internal/testenv"
	"hayloft/volume"
	"hayloft/volume/server"
)

// shared is the blobs that several goroutines read and delete.
type shared struct {
	mu   sync.Mutex // guards all
	live []stored
	dead []stored // acknowledged
}

func (s *shared) add(b stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.live = append(s.live, b)
}

// take removes a live blob, which somebody is about to delete.
func (s *shared) take(r *rand.Rand) (stored, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.live) < 20 {
		return stored{}, false
	}
	i := r.IntN(len(s.live))
	b := s.live[i]
	s.live[i] = s.live[len(s.live)-1]
	s.live = s.live[:len(s.live)-1]
	return b, true
}

func (s *shared) bury(b stored) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dead = append(s.dead, b)
}

// pick returns a blob, and whether it is dead for sure or was alive just now.
func (s *shared) pick(r *rand.Rand) (b stored, dead, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.live
	if dead = r.IntN(3) == 0; dead {
		from = s.dead
	}
	if len(from) == 0 {
		return b, dead, false
	}
	return from[r.IntN(len(from))], dead, true
}

// isLive reports whether nobody has begun to delete a blob.
func (s *shared) isLive(b stored) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.live {
		if x == b {
			return true
		}
	}
	return false
}

// Readers, writers and deleters at work while volumes are sealed and compacted
// under them, by hand and by themselves: nothing that was acknowledged is missed
// for a moment, and nothing deleted is seen again.
func TestLifeUnderLoad(t *testing.T) {
	h := newHouse(t, server.Options{VolumeBytes: 96 << 10, CompactBytes: 8 << 10, CompactShare: 0.1, OpenPerDisk: 2, Maintenance: 1 << 40})
	sh := &shared{}
	for range 40 {
		sh.add(h.mustPut(variants, 1000, 2))
	}
	var over atomic.Bool
	var reads, hits atomic.Int64
	var wg sync.WaitGroup
	worker := func(seed uint64, step func(*rand.Rand) error) {
		wg.Go(func() {
			for r := rand.New(rand.NewPCG(seed, 77)); !over.Load(); {
				if err := step(r); err != nil {
					t.Error(err)
					over.Store(true)
				}
			}
		})
	}
	for g := range uint64(3) {
		worker(g, func(r *rand.Rand) error { return h.readOne(sh, r, &reads, &hits) })
	}
	worker(10, func(r *rand.Rand) error {
		b, err := h.put(variants, 1+r.IntN(2000), 2)
		if err == nil {
			sh.add(b)
		}
		return err
	})
	for g := range uint64(2) {
		worker(20+g, func(r *rand.Rand) error {
			b, ok := sh.take(r)
			if !ok {
				return nil
			}
			err := h.s.Delete(context.Background(), b.blob)
			sh.bury(b)
			return err
		})
	}
	compactions := 0
	r := rand.New(rand.NewPCG(5, 5))
	for i := 0; i < testenv.Rounds(40) && !over.Load(); i++ {
		all := h.volumes()
		pick := all[r.IntN(len(all))]
		v := pick.Volume
		if err := h.s.Seal(context.Background(), v, nil); err != nil {
			t.Errorf("seal %d: %v", v, err)
		}
		// Two at once get the same result, or one after the other.
		var two sync.WaitGroup
		for range 2 {
			two.Go(func() {
				if _, err := h.s.Compact(context.Background(), v, nil); err != nil {
					t.Errorf("compact %d: %v", v, err)
				}
			})
		}
		two.Wait()
		compactions++
	}
	over.Store(true)
	wg.Wait()
	st := h.s.Stats()
	for _, b := range sh.live {
		h.check(b)
	}
	for _, b := range sh.dead {
		h.gone(b)
	}
	t.Logf("%d reads, %d of live blobs, %d dead blobs; %d volumes, %d seals, %d compactions",
		reads.Load(), hits.Load(), len(sh.dead), len(st.Volumes), st.Seals, st.Compactions)
	if hits.Load() == 0 || len(sh.dead) == 0 || st.Compactions < uint64(compactions) || st.UpkeepFailures != 0 {
		t.Errorf("%d hits, %d dead, %d failures", hits.Load(), len(sh.dead), st.UpkeepFailures)
	}
}

func (h *house) readOne(sh *shared, r *rand.Rand, reads, hits *atomic.Int64) error {
	b, dead, ok := sh.pick(r)
	if !ok {
		return nil
	}
	alt := uint8(r.IntN(2))
	got, err := h.s.Read(context.Background(), b.blob, alt, b.cookie)
	reads.Add(1)
	defer got.Release()
	switch {
	case err == nil && dead:
		return errors.New("a deleted blob was read")
	case err == nil && !bytes.Equal(got.Data, content(b.blob, alt, b.size)):
		return fmt.Errorf("wrong bytes of %v alt %d", b.blob, alt)
	case err == nil:
		hits.Add(1)
		return nil
	case errors.Is(err, volume.ErrNotFound) && (dead || !sh.isLive(b)):
		return nil
	}
	return err
}
