package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// replicas are the copies of one volume, each on a disk of its own, and what their
// users were told.
type replicas struct {
	mem  [3]*vfs.Mem
	vols [3]*Volume
	rng  *rand.Rand

	puts    map[pair]Needle // acknowledged: every copy has them
	deleted map[id.ID]bool  // the same
	tried   map[pair]Needle // begun
	dying   map[id.ID]bool  // begun
	next    id.ID
}

func newReplicas(seed uint64) (*replicas, error) {
	r := &replicas{rng: rand.New(rand.NewPCG(seed, 6)), puts: map[pair]Needle{}, deleted: map[id.ID]bool{},
		tried: map[pair]Needle{}, dying: map[id.ID]bool{}, next: 1}
	for i := range r.mem {
		r.mem[i] = vfs.NewMem(seed + uint64(i))
		if err := r.mem[i].MkdirAll("/d"); err != nil {
			return nil, err
		}
		var err error
		if r.vols[i], err = Create("/d", testIdent, r.options(i)); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (r *replicas) options(i int) Options { return Options{FS: r.mem[i], AllocChunk: 4096} }

// some draws replicas that a call reaches: all, most of the time.
func (r *replicas) some() (reached []int, all bool) {
	order := r.rng.Perm(len(r.vols))
	n := len(order)
	if r.rng.IntN(4) == 0 {
		n = r.rng.IntN(len(order))
	}
	return order[:n], n == len(order)
}

// write puts or deletes something on some of the replicas. What did not reach all of
// them was not acknowledged.
func (r *replicas) write() error {
	reached, all := r.some()
	if r.rng.IntN(5) == 0 && r.next > 1 {
		key := 1 + id.ID(r.rng.Uint64N(uint64(r.next-1)))
		r.dying[key] = true
		for _, i := range reached {
			if err := r.vols[i].Entomb(bg, key); err != nil {
				return err
			}
		}
		if all {
			r.deleted[key] = true
		}
		return nil
	}
	key := r.next
	r.next++
	var group []Needle
	for alt := range 1 + r.rng.IntN(3) {
		group = append(group, testNeedle(key, uint8(alt*2), r.rng.IntN(700)))
	}
	for _, n := range group {
		r.tried[pair{n.Key, n.Alt}] = n
	}
	for _, i := range reached {
		if err := r.vols[i].Append(bg, group); err != nil {
			return err
		}
		if r.rng.IntN(3) == 0 { // a needle or two of its own
			key := r.next
			r.next++
			n := testNeedle(key, 1, r.rng.IntN(300))
			r.tried[pair{key, 1}] = n
			if err := r.vols[i].Append(bg, []Needle{n}); err != nil {
				return err
			}
		}
	}
	for _, n := range group {
		if all {
			r.puts[pair{n.Key, n.Alt}] = n
		}
	}
	return nil
}

// crash ends one replica as a power cut does, after which nothing that was
// acknowledged is missing.
func (r *replicas) crash(i int) error {
	image := r.mem[i].Crash(r.rng.Uint64())
	if err := r.vols[i].Close(); err != nil {
		return err
	}
	r.mem[i] = image
	var err error
	r.vols[i], err = Open("/d", 7, r.options(i))
	return err
}

// damage flips a bit in the data of a needle that other replicas have.
func (r *replicas) damage(i int) error {
	keys := slices.Collect(maps.Keys(r.puts))
	if len(keys) == 0 {
		return nil
	}
	slices.SortFunc(keys, func(a, b pair) int { return int(a.key) - int(b.key) })
	n := keys[r.rng.IntN(len(keys))]
	p, found, _ := r.vols[i].idx.Load().get(n.key, n.alt)
	if size := len(r.puts[n].Data); !found || size == 0 {
		return nil
	}
	return r.mem[i].Flip("/d/"+FileName(7, 1), p.off+p.size-int64(len(r.puts[n].Data)+7)&^7, 1)
}

// unite does what the coordinator of a volume does before the seal: it reads what
// each replica holds, and gives the others what they lack.
func (r *replicas) unite() error {
	holds := make([]map[pair]Holding, len(r.vols))
	all := map[pair][]int{}
	for i, v := range r.vols {
		holds[i] = map[pair]Holding{}
		last := pair{}
		err := v.Holdings(bg, nil, func(h Holding) error {
			p := pair{h.Key, h.Alt}
			if h.Tombstone {
				p.alt = altTombstone
			}
			if h.Key < last.key || h.Key == last.key && last.alt != altTombstone && p.alt <= last.alt {
				return fmt.Errorf("%v behind %v", p, last)
			}
			last, holds[i][p] = p, h
			all[p] = append(all[p], i)
			return nil
		})
		if err != nil {
			return err
		}
	}
	missing := slices.Collect(maps.Keys(all))
	r.rng.Shuffle(len(missing), func(i, j int) { missing[i], missing[j] = missing[j], missing[i] })
	for _, p := range missing {
		from := all[p]
		for i, v := range r.vols {
			if slices.Contains(from, i) {
				continue
			}
			if p.alt == altTombstone {
				if err := v.Bury(bg, []id.ID{p.key}); err != nil {
					return err
				}
				continue
			}
			err := r.vols[from[r.rng.IntN(len(from))]].Fetch(bg, []id.ID{p.key}, func(n Needle) error { return v.Fill(bg, []Needle{n}) })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// seal fences, unites and seals, with deletes of users and a crash in between, and
// compares digests.
func (r *replicas) seal() error {
	for i, v := range r.vols {
		if r.rng.IntN(3) > 0 {
			continue
		}
		if err := errors.Join(v.Fence(bg), r.crash(i)); err != nil {
			return err
		}
	}
	for _, v := range r.vols {
		if err := v.Fence(bg); err != nil {
			return err
		}
	}
	primary := r.vols[0]
	for range r.rng.IntN(5) { // users go on
		key := 1 + id.ID(r.rng.Uint64N(uint64(r.next-1)))
		r.dying[key] = true
		numbers, err := primary.AppendDeletes(bg, []id.ID{key})
		if err != nil {
			return err
		}
		for _, v := range r.vols[1:] {
			if n, err := v.LogDeletes(bg, numbers[0]-1, []id.ID{key}); err != nil || n < numbers[0] {
				return fmt.Errorf("%d, %w", n, err)
			}
		}
		r.deleted[key] = true
		if err := r.unite(); err != nil {
			return err
		}
	}
	if err := r.unite(); err != nil {
		return err
	}
	if i := r.rng.IntN(6); i < len(r.vols) {
		if err := r.crash(i); err != nil {
			return err
		}
	}
	info := testSeal
	info.United = true
	var first SealRecord
	for i, v := range r.vols {
		rec, err := v.Seal(bg, info)
		if err != nil {
			return err
		}
		if i == 0 {
			first = rec
		}
		if rec.Digest != first.Digest || rec.Needles != first.Needles || rec.DataBytes != first.DataBytes {
			return fmt.Errorf("replica %d: %+v, replica 0: %+v", i, rec, first)
		}
	}
	return nil
}

// check compares a replica with what was acknowledged.
func (r *replicas) check(v *Volume) error {
	for p, n := range r.puts {
		err := readErr(v, n)
		switch {
		case r.deleted[p.key] && !errors.Is(err, ErrNotFound):
			return fmt.Errorf("%v %w: %w", p, errBack, err)
		case !r.dying[p.key] && err != nil:
			return fmt.Errorf("%v %w: %w", p, errLost, err)
		}
	}
	for p, n := range r.tried {
		if err := readErr(v, n); err == nil && r.deleted[p.key] || err != nil && !errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%v, which was not acknowledged: %w", p, err)
		}
	}
	return nil
}

func (r *replicas) close() (err error) {
	for _, v := range r.vols {
		err = errors.Join(err, v.Close())
	}
	return err
}

// live is a whole life of three replicas, up to their second generation.
func (r *replicas) live() error {
	damaged := r.rng.IntN(len(r.vols)) // the others are sound
	for range 3 + r.rng.IntN(40) {
		err := r.write()
		if err == nil && r.rng.IntN(20) == 0 {
			err = r.crash(r.rng.IntN(len(r.vols)))
		}
		if err == nil && r.rng.IntN(20) == 0 {
			err = r.damage(damaged)
		}
		if err != nil {
			return err
		}
	}
	if err := r.seal(); err != nil {
		return err
	}
	for i, v := range r.vols {
		if err := r.check(v); err != nil {
			return fmt.Errorf("replica %d: %w", i, err)
		}
	}
	return r.compact()
}

// compact makes the next generation on each replica, and compares the bytes.
func (r *replicas) compact() error {
	n, err := r.vols[0].NewestDelete()
	if err != nil {
		return err
	}
	if n > 0 {
		n = uint32(r.rng.IntN(int(n) + 1))
	}
	var first, firstIndex []byte
	for i, v := range r.vols {
		next, err := v.Compact(bg, CompactOptions{Generation: 2, Deletes: n, Secret: [32]byte{1, 2}, Time: id.Epoch,
			Repair: func(_ context.Context, d Damaged) (out Needle, err error) {
				err = r.vols[(i+1)%len(r.vols)].Fetch(bg, []id.ID{d.Key}, func(n Needle) error {
					if n.Alt == d.Alt {
						out = n
						out.Data = bytes.Clone(n.Data)
					}
					return nil
				})
				return out, err
			}})
		if err != nil {
			return fmt.Errorf("compact replica %d: %w", i, err)
		}
		err = r.check(next)
		if err = errors.Join(err, next.Close()); err != nil {
			return fmt.Errorf("compacted replica %d: %w", i, err)
		}
		b, err := vfs.ReadFile(r.mem[i], "/d/"+FileName(7, 2), 1<<30)
		x, errIndex := vfs.ReadFile(r.mem[i], "/d/"+IndexName(7, 2), 1<<30)
		if err = errors.Join(err, errIndex); err != nil {
			return err
		}
		if i == 0 {
			first, firstIndex = b, x
		}
		if !bytes.Equal(b, first) || !bytes.Equal(x, firstIndex) {
			return fmt.Errorf("generation 2 of replica %d has other bytes than that of replica 0", i)
		}
	}
	return nil
}

// TestReplicasBecomeEqual writes and deletes on three replicas, of which any part
// misses what is not acknowledged, crashes them and damages one; then fences them,
// lets users go on deleting, unites what they hold, seals and compacts. Their digests
// are equal, and the bytes of their second generations; all that was acknowledged is
// there, or gone.
func TestReplicasBecomeEqual(t *testing.T) {
	t.Parallel()
	exploreAll(t, 2, func(seed uint64, points *atomic.Int64) error {
		points.Add(1)
		r, err := newReplicas(seed)
		if err != nil {
			return err
		}
		return errors.Join(r.live(), r.close())
	})
}

// TestThreeReplicasCompactToTheSameBytes: whatever order, batches, voids, tombstones
// and fills a set came with.
func TestThreeReplicasCompactToTheSameBytes(t *testing.T) {
	t.Parallel()
	a, b, big := testNeedle(9, 0, 300), testNeedle(3, 2, 0), testNeedle(5, 1, blocksAbove+10)
	c, gone := testNeedle(3, 0, 100), testNeedle(4, 0, 80)
	var files [][]byte
	for i := range 3 {
		mem := newMem(t, uint64(i))
		v := create(t, mem)
		switch i {
		case 0: // in order, in one group
			mustAppend(t, v, b, c, big, a)
		case 1: // each alone, backwards, with garbage and a restart
			mustAppend(t, v, a)
			mustAppend(t, v, gone)
			mustAppend(t, v, big)
			if err := v.Delete(bg, gone.Key); err != nil {
				t.Fatal(err)
			}
			mem = mem.Crash(7)
			closeVolume(t, v)
			v = reopen(t, mem)
			mustAppend(t, v, b, c)
		case 2: // nearly nothing of its own
			mustAppend(t, v, gone, c)
			err := errors.Join(v.Fence(bg), v.Fill(bg, []Needle{big, b}), v.Bury(bg, []id.ID{gone.Key}), v.Fill(bg, []Needle{a}))
			if err != nil {
				t.Fatal(err)
			}
		}
		mustSeal(t, v)
		for _, key := range []id.ID{9, 77} {
			if _, err := v.AppendDeletes(bg, []id.ID{key}); err != nil {
				t.Fatal(err)
			}
		}
		next := mustCompact(t, v, CompactOptions{Generation: 2, Deletes: 1 + 1, Secret: [32]byte{1, 2}, Time: id.Epoch})
		third := mustCompact(t, next, CompactOptions{Generation: 3, Deletes: 2, Secret: [32]byte{3}, Time: id.Epoch})
		for _, n := range []Needle{b, c, big} {
			mustRead(t, third, n)
		}
		wantErr(t, readErr(third, a), ErrNotFound)
		for _, v := range []*Volume{v, next, third} {
			closeVolume(t, v)
		}
		for _, g := range []uint32{2, 3} {
			files = append(files, fileOf(t, mem, "/d/"+FileName(7, g)), fileOf(t, mem, "/d/"+IndexName(7, g)))
		}
	}
	for i := 4; i < len(files); i++ {
		if !bytes.Equal(files[i], files[i%4]) {
			t.Errorf("file %d of replica %d differs", i%4, i/4)
		}
	}
}
