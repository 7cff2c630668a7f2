package ec

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"hayloft/bench"
	"hayloft/internal/vfs"
	"hayloft/volume/coding"
)

// scrubber looks at all shards and repairs what is wrong with them. It returns what
// it found.
type scrubber func(ctx context.Context, s *shards) ([]coding.Finding, error)

// scrub flips bits all over the shards, lets a scrubber at them, and counts.
func (b *run) scrub(ctx context.Context, s *shards) error { return b.scrubWith(ctx, s, checkAndRepair) }

func (b *run) scrubWith(ctx context.Context, s *shards, scrub scrubber) error {
	b.Progress(fmt.Sprintf("%d flipped bits, %s", b.Flips, s.c.Policy))
	flips, err := drawFlips(rand.New(rand.NewPCG(b.Seed, uint64(s.c.Shards()))), s.c.Plan, b.Flips)
	if err == nil {
		err = errors.Join(s.flip(flips), s.evict())
	}
	if err != nil {
		return err
	}
	begin := time.Now()
	findings, err := scrub(ctx, s)
	if err != nil {
		return fmt.Errorf("scrub: %w", err)
	}
	took := time.Since(begin).Seconds()
	found, repaired, err := s.count(flips, findings)
	if err != nil {
		return err
	}
	begin = time.Now()
	left, err := check(ctx, s) // nothing else came to harm
	if err != nil {
		return err
	}
	looked := time.Since(begin).Seconds()
	at, n, all := suffix(s.c.Policy), len(flips), float64(s.c.FileBytes()*int64(s.c.Shards()))
	b.add(bench.Result{Name: "scrub_found" + at, Unit: "1", Value: float64(found), N: n, Errors: n - found},
		bench.Result{Name: "scrub_repaired" + at, Unit: "1", Value: float64(repaired), N: n, Errors: n - repaired + len(left)},
		bench.Result{Name: "scrub_seconds" + at, Unit: "s", Value: took, N: 1},
		bench.Result{Name: "scrub_check_bytes_per_s" + at, Unit: "B/s", Value: all / looked, N: 1})
	b.report.Settings["scrub"] = fmt.Sprintf(
		"%d bits flipped at random places of all shard files, heads, index copies and tables included, so that no stripe lacks more than m shards; repaired is read from the device; another look at everything must find nothing", b.Flips)
	return nil
}

// check looks at every shard, whole.
func check(ctx context.Context, s *shards) (all []coding.Finding, err error) {
	for i, home := range s.homes(vfs.OS{}) {
		err := coding.Check(ctx, home, s.c.Plan, i, s.c.Digests[i], coding.Options{}, func(f coding.Finding) { all = append(all, f) })
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// checkAndRepair is a scrubber. As a server does, it writes damaged blocks again where
// that is all, and makes the other shards again in one pass.
func checkAndRepair(ctx context.Context, s *shards) ([]coding.Finding, error) {
	all, err := check(ctx, s)
	if err != nil {
		return all, err
	}
	files, err := s.files(vfs.OS{})
	if err != nil {
		return all, err
	}
	var whole []coding.Lost
	for i, home := range s.homes(vfs.OS{}) {
		var damage []coding.Finding
		for _, f := range all {
			if f.Shard == i {
				damage = append(damage, f)
			}
		}
		if len(damage) == 0 {
			continue
		}
		lost := coding.Lost{Shard: i, Home: home}
		switch e := coding.Repair(ctx, s.c, files, lost, damage, coding.Options{}); {
		case errors.Is(e, coding.ErrNotBlocks):
			whole = append(whole, lost)
		case e != nil:
			return all, errors.Join(e, closeFiles(files))
		}
	}
	if len(whole) > 0 {
		err = coding.Rebuild(ctx, s.c, files, whole, coding.Options{})
	}
	return all, errors.Join(err, closeFiles(files))
}

// flip is one bit of a shard's file.
type flip struct {
	shard int
	off   int64
	bit   uint8
	was   byte // the byte, before
}

// sumsPerPage is how many blocks a page of the table of sums covers
// (docs/shard-format.md).
const sumsPerPage = 1023

// drawFlips draws n bits, no byte twice, all of which can be repaired: what they hit
// leaves k shards of every stripe, and a copy of every head.
func drawFlips(rng *rand.Rand, p coding.Plan, n int) ([]flip, error) {
	body := bodyBytes(p)
	stripes := (body + coding.BlockSize - 1) / coding.BlockSize
	hurt := make([]map[int]bool, stripes) // shards, by stripe
	heads := make(map[int]int64)          // the copy that is hit, by shard
	taken := make(map[flip]bool)
	var out []flip
	for tries := 0; len(out) < n; tries++ {
		if tries > 50*n {
			return nil, fmt.Errorf("shards of %d bytes are too small for %d flipped bits", p.FileBytes(), n)
		}
		f := flip{shard: rng.IntN(p.Shards()), off: rng.Int64N(p.FileBytes())}
		if taken[f] {
			continue
		}
		from, to := int64(0), int64(0) // stripes that it hurts
		switch at := f.off - shardHead; {
		case at < 0 || f.off >= p.FileBytes()-shardHead:
			side := min(max(at, -1), 0) // one of the two copies
			if other, hit := heads[f.shard]; hit && other != side {
				continue
			}
			heads[f.shard] = side
		case at < body:
			from, to = at/coding.BlockSize, at/coding.BlockSize+1
		default:
			q := (at - body) / 4096
			from, to = q*sumsPerPage, min(stripes, (q+1)*sumsPerPage)
		}
		if !repairable(hurt[from:to], f.shard, p.Parity) {
			continue
		}
		for i := from; i < to; i++ {
			if hurt[i] == nil {
				hurt[i] = make(map[int]bool)
			}
			hurt[i][f.shard] = true
		}
		taken[f] = true
		f.bit = uint8(rng.IntN(8))
		out = append(out, f)
	}
	return out, nil
}

// bodyBytes is how long the part of a shard is that the table of sums covers.
func bodyBytes(p coding.Plan) int64 { return p.ShardBytes() + (p.IndexBytes+4095)/4096*4096 }

// underTable reports whether a byte lies in a block whose sum is in a page of the table
// that is found damaged: nothing is known of such blocks, and the finding of the page
// stands for them.
func underTable(p coding.Plan, x coding.Finding, off int64) bool {
	body := bodyBytes(p)
	q, at := (x.Offset-shardHead-body)/4096, off-shardHead
	return x.Offset >= shardHead+body && x.Offset < p.FileBytes()-shardHead && at >= 0 && at < body && at/coding.BlockSize/sumsPerPage == q
}

// repairable tells whether a shard more may be hurt in each of these stripes.
func repairable(stripes []map[int]bool, shard, parity int) bool {
	for _, hurt := range stripes {
		if !hurt[shard] && len(hurt) >= parity {
			return false
		}
	}
	return true
}

// flip flips the bits on the disk, and notes what was there.
func (s *shards) flip(flips []flip) error {
	return s.bytes(os.O_RDWR, flips, func(file *os.File, f *flip) error {
		b := make([]byte, 1)
		if _, err := file.ReadAt(b, f.off); err != nil {
			return err
		}
		f.was = b[0]
		b[0] ^= 1 << f.bit
		_, err := file.WriteAt(b, f.off)
		return err
	})
}

// count tells how many flips were found, and how many bytes are again what they were.
func (s *shards) count(flips []flip, findings []coding.Finding) (found, repaired int, err error) {
	for _, f := range flips {
		for _, x := range findings {
			if x.Shard == f.shard && (x.Length == 0 || f.off >= x.Offset && f.off < x.Offset+x.Length || underTable(s.c.Plan, x, f.off)) {
				found++
				break
			}
		}
	}
	if err := s.evict(); err != nil {
		return 0, 0, err
	}
	err = s.bytes(os.O_RDONLY, flips, func(file *os.File, f *flip) error {
		b := make([]byte, 1)
		_, err := file.ReadAt(b, f.off)
		if err == nil && b[0] == f.was {
			repaired++
		}
		return err
	})
	return found, repaired, err
}

// bytes calls fn for every flip with the file it is in.
func (s *shards) bytes(flag int, flips []flip, fn func(file *os.File, f *flip) error) error {
	for i := range s.dir {
		file, err := os.OpenFile(s.path(i), flag, 0)
		if err != nil {
			return err
		}
		for j := range flips {
			if f := &flips[j]; f.shard == i {
				err = errors.Join(err, fn(file, f))
			}
		}
		if flag != os.O_RDONLY {
			err = errors.Join(err, file.Sync())
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return err
		}
	}
	return nil
}
