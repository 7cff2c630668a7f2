package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
)

// lifeModel is what was acknowledged in the life of a volume that is sealed
// and compacted.
type lifeModel struct {
	mu         sync.Mutex // guards all below
	puts       map[pair]Needle
	deleted    map[id.ID]bool
	dying      map[id.ID]bool // begun and not acknowledged
	tried      map[pair]bool
	sealed     *SealRecord
	generation uint32 // acknowledged
	trying     uint32 // begun
}

func newLifeModel() *lifeModel {
	return &lifeModel{puts: map[pair]Needle{}, deleted: map[id.ID]bool{}, dying: map[id.ID]bool{}, tried: map[pair]bool{}, generation: 1, trying: 1}
}

func (m *lifeModel) clone() *lifeModel {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &lifeModel{puts: maps.Clone(m.puts), deleted: maps.Clone(m.deleted), dying: maps.Clone(m.dying), tried: maps.Clone(m.tried),
		sealed: m.sealed, generation: m.generation, trying: m.trying}
}

// life drives a volume through puts, deletes, sealing, compaction with deletes
// in the middle, and the removal of the old generation.
type life struct {
	fs vfs.FS
	m  *lifeModel
}

func (l *life) put(v *Volume, group ...Needle) error { return l.store(v.Append, group) }

// fill is put of what another replica holds.
func (l *life) fill(v *Volume, group ...Needle) error { return l.store(v.Fill, group) }

func (l *life) store(put func(context.Context, []Needle) error, group []Needle) error {
	l.m.mu.Lock()
	for _, n := range group {
		l.m.puts[pair{n.Key, n.Alt}] = n
		l.m.tried[pair{n.Key, n.Alt}] = true
	}
	l.m.mu.Unlock()
	if err := put(bg, group); err != nil {
		return err
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	for _, n := range group {
		delete(l.m.tried, pair{n.Key, n.Alt})
	}
	return nil
}

func (l *life) del(v *Volume, key id.ID) error {
	return l.kill([]id.ID{key}, func() error { return v.Delete(bg, key) })
}

// bury deletes as another replica's file has.
func (l *life) bury(v *Volume, keys ...id.ID) error {
	return l.kill(keys, func() error { return v.Bury(bg, keys) })
}

// log deletes as a primary or its follower does.
func (l *life) log(v *Volume, follow bool, keys ...id.ID) error {
	return l.kill(keys, func() error {
		newest, err := v.NewestDelete()
		if err != nil {
			return err
		}
		if !follow {
			_, err = v.AppendDeletes(bg, keys)
			return err
		}
		if n, err := v.LogDeletes(bg, newest, keys); err != nil || n != newest+uint32(len(keys)) {
			return fmt.Errorf("newest delete %d after %d: %w", n, newest, err)
		}
		return nil
	})
}

func (l *life) kill(keys []id.ID, del func() error) error {
	l.m.mu.Lock()
	for _, key := range keys {
		l.m.dying[key] = true
	}
	l.m.mu.Unlock()
	if err := del(); err != nil {
		return err
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	for _, key := range keys {
		l.m.deleted[key] = true
	}
	return nil
}

// fence fences, and lives on until the seal: deletes go to the log, and the file is
// made equal to another replica's.
func (l *life) fence(v *Volume) error {
	if err := v.Fence(bg); err != nil {
		return err
	}
	end := v.synced.Load()
	err := errors.Join(l.del(v, 51), l.log(v, false, 44, 37, 93), l.log(v, true, 30, 23))
	if err == nil && v.synced.Load() != end {
		err = errors.New("a delete went to the file of a fenced volume")
	}
	if err == nil {
		err = l.fill(v, testNeedle(44, 9, 300), testNeedle(200, 0, 700), testNeedle(201, 3, 20))
	}
	if err == nil {
		err = l.bury(v, 16, 201)
	}
	return err
}

func (l *life) seal(v *Volume) error {
	rec, err := v.Seal(bg, testSeal)
	if err != nil {
		return err
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.m.sealed != nil && l.m.generation == 1 && rec.Digest != l.m.sealed.Digest {
		return fmt.Errorf("sealed again with another digest")
	}
	l.m.sealed = &rec
	return nil
}

func (l *life) compact(v *Volume, during []id.ID) (*Volume, error) {
	n, err := v.Deletes(bg, 0, func(Delete) error { return nil })
	if err != nil {
		return nil, err
	}
	g := v.Identity().Generation + 1
	l.m.mu.Lock()
	l.m.trying = g
	l.m.mu.Unlock()
	calls := 0
	next, err := v.Compact(bg, CompactOptions{Generation: g, Deletes: n, Secret: [32]byte{byte(g)}, Throttle: func(context.Context, int64) error {
		if calls++; calls%3 == 1 && len(during) > 0 {
			key := during[0]
			during = during[1:]
			return l.del(v, key)
		}
		return nil
	}})
	if err != nil {
		return nil, err
	}
	l.m.mu.Lock()
	l.m.generation = g
	l.m.mu.Unlock()
	return next, nil
}

// run is a whole life. It ends with the first error.
func (l *life) run() error {
	v, err := Create("/d", testIdent, Options{FS: l.fs, AllocChunk: 4096})
	if err != nil {
		return err
	}
	var key id.ID = 100
	for i := range 12 {
		key -= 7 // against the order of keys
		group := []Needle{testNeedle(key, 0, 100*i), testNeedle(key, 1, 400), testNeedle(key, 3, 33)}
		if err := l.put(v, group[:1+i%3]...); err != nil {
			return errors.Join(err, v.Close())
		}
	}
	err = l.del(v, 93)
	if err == nil {
		err = l.fence(v)
	}
	if err == nil {
		err = l.seal(v)
	}
	if err == nil {
		err = l.del(v, 86)
	}
	if err != nil {
		return errors.Join(err, v.Close())
	}
	next, err := l.compact(v, []id.ID{79, 72})
	if err = errors.Join(err, v.Close()); err != nil {
		if next != nil {
			err = errors.Join(err, next.Close())
		}
		return err
	}
	err = RemoveSuperseded(bg, "/d", 7, 2, Options{FS: l.fs}, nil)
	if err == nil {
		err = l.del(next, 65)
	}
	return errors.Join(err, next.Close())
}

// checkLife compares v with the model. What was open becomes certain.
func checkLife(v *Volume, m *lifeModel) error {
	g := v.Identity().Generation
	if g != m.generation && g != m.trying {
		return fmt.Errorf("generation %d, want %d or %d", g, m.generation, m.trying)
	}
	rec, sealed := v.Sealed()
	if m.sealed != nil && (!sealed || g == 1 && rec.Digest != m.sealed.Digest) {
		return fmt.Errorf("no longer sealed as acknowledged: %+v", rec)
	}
	gone := func(key id.ID) bool {
		if p := v.sealing.part.Load(); p != nil && p.log.deleted(key) {
			return true
		}
		_, _, inFile := v.idx.Load().get(key, 0)
		return inFile
	}
	for p, n := range m.puts {
		b, err := v.Read(bg, n.Key, n.Alt, n.Cookie)
		switch {
		case err == nil && !bytes.Equal(b.Data, n.Data):
			return fmt.Errorf("%v/%d %w", n.Key, n.Alt, errWrong)
		case err == nil && m.deleted[n.Key]:
			return fmt.Errorf("%v/%d %w", n.Key, n.Alt, errBack)
		case err == nil:
			delete(m.tried, p)
		case !errors.Is(err, ErrNotFound):
			return fmt.Errorf("%v/%d: %w", n.Key, n.Alt, err)
		case m.dying[n.Key]:
			m.deleted[n.Key] = true // found deleted: it stays so
		case m.tried[p]:
			delete(m.puts, p)
		case !m.deleted[n.Key]:
			return fmt.Errorf("%v/%d %w (deleted: %v)", n.Key, n.Alt, errLost, gone(n.Key))
		}
	}
	m.dying, m.tried = map[id.ID]bool{}, map[pair]bool{}
	m.generation, m.trying = g, g
	return nil
}

// goOn opens what a crash left and finishes what was begun: seal, compact,
// remove.
func goOn(fs vfs.FS, m *lifeModel) error {
	v, err := Open("/d", 7, Options{FS: fs, AllocChunk: 4096})
	if errors.Is(err, ErrNoVolume) && len(m.puts) == len(m.tried) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := checkLife(v, m); err != nil {
		return errors.Join(err, v.Close())
	}
	l := &life{fs: fs, m: m}
	err = l.seal(v)
	if err == nil {
		err = l.del(v, 58)
	}
	if err != nil {
		return errors.Join(err, v.Close())
	}
	next, err := l.compact(v, nil)
	if err = errors.Join(err, v.Close()); err != nil {
		return err
	}
	err = checkLife(next, m)
	if _, checkErr := next.Check(bg, func(f Finding) { err = errors.Join(err, fmt.Errorf("finding %v: %w", f.Kind, f.Err)) }); checkErr != nil {
		err = errors.Join(err, checkErr)
	}
	if err = errors.Join(err, next.Close()); err != nil {
		return err
	}
	if err := RemoveSuperseded(bg, "/d", 7, next.Identity().Generation, Options{FS: fs}, nil); err != nil {
		return err
	}
	names, err := fs.ReadDir("/d")
	if err != nil || len(names) != 3 {
		return fmt.Errorf("left: %v, %w", names, err)
	}
	return nil
}

func mutates(k vfs.OpKind) bool {
	switch k {
	case vfs.OpCreate, vfs.OpRemove, vfs.OpRename, vfs.OpSyncDir, vfs.OpWrite, vfs.OpSync, vfs.OpAllocate, vfs.OpTruncate:
		return true
	}
	return false
}

// TestSealedLifeCrashes cuts the power, and kills the process, before every
// call that changes the file system in the life of a sealed volume, several
// times each, and compares what is found with what was acknowledged. What was
// begun is then finished, and crashes once more at one call of that.
func TestSealedLifeCrashes(t *testing.T) {
	t.Parallel()
	tries := max(2, testenv.Rounds(5))
	type cut struct {
		mem  *vfs.Mem
		m    *lifeModel
		what string
	}
	var mu sync.Mutex
	capture := func(mem *vfs.Mem, m *lifeModel, seed uint64, list *[]cut) func(vfs.Op) vfs.Outcome {
		return func(op vfs.Op) vfs.Outcome {
			if !mutates(op.Kind) {
				return vfs.Outcome{}
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range uint64(tries) {
				c := cut{m: m.clone(), what: fmt.Sprintf("seed %d, call %d (%v of %s), try %d", seed, op.N, op.Kind, op.Name, i)}
				if i == 0 {
					c.mem = mem.Kill()
				} else {
					c.mem = mem.Crash(seed<<20 + uint64(op.N)<<4 + i)
				}
				*list = append(*list, c)
			}
			return vfs.Outcome{}
		}
	}
	points := 0
	for _, seed := range seeds(testenv.Rounds(2)) {
		mem := newMem(t, seed)
		m := newLifeModel()
		var cuts []cut
		l := &life{fs: &vfs.Fault{FS: mem, Before: capture(mem, m, seed, &cuts)}, m: m}
		if err := l.run(); err != nil {
			t.Fatal(err)
		}
		if len(cuts) < 50*tries {
			t.Fatalf("only %d cuts", len(cuts))
		}
		for i, c := range cuts {
			var again []cut
			fs := vfs.FS(c.mem)
			if i%61 == int(seed%61) {
				fs = &vfs.Fault{FS: c.mem, Before: capture(c.mem, c.m, seed, &again)}
			}
			if err := goOn(fs, c.m); err != nil {
				t.Fatalf("%s: %v\n%v\n%s", c.what, err, c.mem, repeatWith(t, seed))
			}
			for _, d := range again {
				if err := goOn(d.mem, d.m); err != nil {
					t.Fatalf("%s, then %s: %v\n%v\n%s", c.what, d.what, err, d.mem, repeatWith(t, seed))
				}
			}
			points += 1 + len(again)
		}
	}
	testenv.Tell(t, "%d crash points", points)
}

// TestSealedLifeFaults makes every call in the life fail once, with EIO and
// with ENOSPC, and lets the process be killed after that.
func TestSealedLifeFaults(t *testing.T) {
	t.Parallel()
	for _, errno := range []error{unix.EIO, unix.ENOSPC} {
		for n := int64(1); ; n++ {
			mem := newMem(t, uint64(n))
			hit := false
			m := newLifeModel()
			l := &life{m: m, fs: &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
				if op.N == n {
					hit = true
					return vfs.Outcome{Err: errno, Short: op.Len / 3}
				}
				return vfs.Outcome{}
			}}}
			_ = l.run() // wherever it ended: what was acknowledged holds
			for i, image := range []*vfs.Mem{mem.Kill(), mem.Crash(uint64(n))} {
				v, err := Open("/d", 7, Options{FS: image, AllocChunk: 4096})
				if errors.Is(err, ErrNoVolume) && len(m.puts) == len(m.tried) {
					continue
				}
				if err != nil {
					t.Fatalf("%v at call %d, image %d: %v\n%v", errno, n, i, err, image)
				}
				err = checkLife(v, m.clone())
				if errors.Is(err, ErrCorrupt) && v.poisoned() != nil {
					err = nil // a torn batch that must not be touched: explicit
				}
				if err = errors.Join(err, v.Close()); err != nil {
					t.Fatalf("%v at call %d, image %d: %v\n%v", errno, n, i, err, image)
				}
			}
			if !hit {
				break
			}
		}
	}
}

// TestDeletesDuringCompaction: deletes from many goroutines win over a
// compaction that copies meanwhile.
func TestDeletesDuringCompaction(t *testing.T) {
	t.Parallel()
	v := create(t, newMem(t, 1))
	const keys = 60
	for key := id.ID(1); key <= keys; key++ {
		mustAppend(t, v, testNeedle(key, 0, 500), testNeedle(key, 1, 50))
	}
	mustSeal(t, v)
	var wg sync.WaitGroup
	for key := id.ID(3); key <= keys; key += 3 {
		wg.Go(func() {
			if err := v.Delete(bg, key); err != nil {
				t.Error(err)
			}
			if err := readErr(v, testNeedle(key, 0, 500)); !errors.Is(err, ErrNotFound) {
				t.Errorf("deleted %v: %v", key, err)
			}
		})
	}
	next := mustCompact(t, v, CompactOptions{Generation: 2})
	wg.Wait()
	for _, w := range []*Volume{v, next} {
		for key := id.ID(1); key <= keys; key++ {
			if key%3 == 0 {
				wantErr(t, readErr(w, testNeedle(key, 0, 500)), ErrNotFound)
				continue
			}
			mustRead(t, w, testNeedle(key, 0, 500))
			mustRead(t, w, testNeedle(key, 1, 50))
		}
		if s := w.Stats(); s.Needles != keys*2*2/3 {
			t.Fatalf("%d needles", s.Needles)
		}
	}
	closeVolume(t, v)
	closeVolume(t, next)
}
