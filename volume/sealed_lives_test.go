package volume

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// TestSealedLives cuts the power, and kills the process, at random moments of
// lives of any shape: puts, deletes, sealing, compactions with deletes in the
// middle. What was begun is then finished, and cut once more.
func TestSealedLives(t *testing.T) {
	t.Parallel()
	exploreAll(t, 20, exploreLife)
}

// lifePicture is a moment of a life at which the power fails.
type lifePicture struct {
	mem  *vfs.Mem
	m    *lifeModel
	what string
}

// watcher takes pictures of a life at drawn moments.
type watcher struct {
	mem *vfs.Mem
	m   *lifeModel

	mu     sync.Mutex // guards all below
	rng    *rand.Rand
	at     map[int]bool
	moment int
	taken  []lifePicture
}

func watch(mem *vfs.Mem, m *lifeModel, rng *rand.Rand, pictures, moments int) *watcher {
	w := &watcher{mem: mem, m: m, rng: rand.New(rand.NewPCG(rng.Uint64(), 4)), at: map[int]bool{}}
	for range pictures {
		w.at[1+rng.IntN(moments)] = true
	}
	return w
}

func (w *watcher) before(op vfs.Op) vfs.Outcome {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !mutates(op.Kind) {
		return vfs.Outcome{}
	}
	if w.moment++; !w.at[w.moment] {
		return vfs.Outcome{}
	}
	p := lifePicture{m: w.m.clone(), what: fmt.Sprintf("call %d (%v of %s)", op.N, op.Kind, op.Name)}
	if w.rng.IntN(4) == 0 {
		p.mem, p.what = w.mem.Kill(), "kill at "+p.what
	} else {
		p.mem, p.what = w.mem.Crash(w.rng.Uint64()), "power cut at "+p.what
	}
	w.taken = append(w.taken, p)
	return vfs.Outcome{}
}

// exploreLife lives one life, and finishes it from each picture of it.
func exploreLife(seed uint64, points *atomic.Int64) error {
	rng := rand.New(rand.NewPCG(seed, 5))
	mem := vfs.NewMem(seed)
	if err := mem.MkdirAll("/d"); err != nil {
		return err
	}
	m := newLifeModel()
	w := watch(mem, m, rng, 20, 200)
	l := &life{fs: &vfs.Fault{FS: mem, Before: w.before}, m: m}
	if err := l.any(rng); err != nil {
		return fmt.Errorf("the life itself: %w", err)
	}
	for _, p := range w.taken {
		points.Add(1)
		again := watch(p.mem, p.m, rng, 1, 100)
		if err := goOn(&vfs.Fault{FS: p.mem, Before: again.before}, p.m); err != nil {
			return fmt.Errorf("%s: %w\n%v", p.what, err, p.mem)
		}
		for _, q := range again.taken {
			points.Add(1)
			if err := goOn(q.mem, q.m); err != nil {
				return fmt.Errorf("%s, then %s: %w\n%v", p.what, q.what, err, q.mem)
			}
		}
	}
	return nil
}

// any is a life of any shape. It ends with the first error.
func (l *life) any(rng *rand.Rand) (err error) {
	v, err := Create("/d", testIdent, Options{FS: l.fs, AllocChunk: 4096})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	var keys []id.ID
	del := func(share int) error {
		for _, key := range keys {
			if rng.IntN(share) == 0 {
				if err := l.del(v, key); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for range rng.IntN(10) {
		key := id.ID(300 + rng.IntN(1000))
		if _, there := l.m.puts[pair{key, 0}]; there {
			continue
		}
		keys = append(keys, key)
		group := make([]Needle, 1+rng.IntN(4))
		for i := range group {
			group[i] = testNeedle(key, uint8(i), rng.IntN(900))
		}
		if err := l.put(v, group...); err != nil {
			return err
		}
	}
	if err := del(4); err != nil {
		return err
	}
	if rng.IntN(2) == 0 {
		if err := l.fence(v); err != nil {
			return err
		}
	}
	for range rng.IntN(3) { // sealing again changes nothing
		if err := l.seal(v); err != nil {
			return err
		}
	}
	if err := del(6); err != nil {
		return err
	}
	for _, sealed := v.Sealed(); sealed && rng.IntN(3) > 0; {
		if v, err = l.renew(v, keys, rng); err != nil {
			return err
		}
		if err := del(8); err != nil {
			return err
		}
	}
	return nil
}

// renew compacts v, with deletes in the middle, and removes the old generation.
func (l *life) renew(v *Volume, keys []id.ID, rng *rand.Rand) (*Volume, error) {
	var during []id.ID
	for range rng.IntN(3) {
		if len(keys) > 0 {
			during = append(during, keys[rng.IntN(len(keys))])
		}
	}
	next, err := l.compact(v, during)
	if err != nil {
		return v, err
	}
	if err := v.Close(); err != nil {
		return next, err
	}
	return next, RemoveSuperseded(bg, "/d", 7, next.Identity().Generation, Options{FS: l.fs}, nil)
}
