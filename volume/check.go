package volume

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
)

// FindingKind says what Check found.
type FindingKind uint8

// What Check can find.
const (
	FindingSuperblock FindingKind = iota + 1 // a superblock copy is damaged
	FindingGap                               // no valid header where a record must be
	FindingData                              // a needle's header is valid, its data or master info is not
	FindingIndex                             // a whole needle that the index does not point to
	FindingDangling                          // an index entry that no record stands for
	FindingDeletes                           // a tombstone that the index does not know, or a delete log without its end
	FindingDigest                            // a sealed file holds other needles than were sealed
	FindingShard                             // a shard of a coded volume is damaged or away
)

// String returns the name used by tools.
func (k FindingKind) String() string {
	names := [...]string{"", "superblock", "gap", "data", "index", "dangling", "deletes", "digest", "shard"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("finding-%d", uint8(k))
}

// Finding is one thing wrong with a volume.
type Finding struct {
	Kind           FindingKind
	Offset, Length int64 // bytes of the file
	Key            id.ID // 0 when not known
	Alt            uint8
	File           string // name of the file, when it is not the volume's own
	Err            error
}

// Report sums up a Check.
type Report struct {
	Needles    int64 // whole, the deleted ones too
	Tombstones int64 // records, twins included
	VoidBytes  int64
	Bytes      int64 // of the file, read and verified
	Findings   int64
}

// Check reads the whole synced part of the file from the device, verifies
// every record, and compares with the index. It calls fn for each thing wrong,
// in the order of the file, on the calling goroutine. The error is a failure of the
// check itself. Reads, puts and deletes go on meanwhile.
func (v *Volume) Check(ctx context.Context, fn func(Finding)) (Report, error) {
	return v.CheckSlowly(ctx, nil, fn)
}

// CheckSlowly is Check beside other work: throttle, if not nil, is asked for the n
// bytes of each record.
func (v *Volume) CheckSlowly(ctx context.Context, throttle func(ctx context.Context, n int64) error, fn func(Finding)) (Report, error) {
	if err := v.acquire(ctx); err != nil {
		return Report{}, err
	}
	defer v.release()
	file, err := v.o.FS.Open(v.name)
	if err != nil {
		return Report{}, fmt.Errorf("check volume %d: %w", v.sb.Volume, err)
	}
	// The index first: it is empty only when the volume is sealed by then.
	c := &checker{v: v, idx: v.idx.Load(), fn: fn, end: v.indexed.Load(), throttle: throttleOf(throttle)}
	if p := v.sealing.part.Load(); p != nil {
		c.report, err = p.check(ctx, v, file, c.throttle, fn)
	} else {
		err = c.run(ctx, file)
		if l := v.sealing.log.Load(); l != nil && err == nil {
			var n int64
			n, err = l.check(ctx, c.throttle, c.find)
			c.report.Tombstones += n
		}
	}
	if err = errors.Join(err, file.Close()); err != nil {
		err = fmt.Errorf("check volume %d: %w", v.sb.Volume, err)
	}
	return c.report, err
}

type checker struct {
	v      *Volume
	idx    *index
	fn     func(Finding)
	end    int64 // what is checked; the file may grow behind it
	report Report
	seen   []int64  // offsets of records the index may point to, ascending
	gaps   []extent // found in the file, ascending

	throttle throttle
}

func (c *checker) find(f Finding) {
	c.report.Findings++
	c.fn(f)
}

func (c *checker) run(ctx context.Context, file vfs.File) error {
	// What counts is the device, not the pages that were just written.
	if err := file.Evict(0, 0); err != nil {
		return err
	}
	var copies [2][]byte
	for i := range copies {
		b := make([]byte, superblockSize)
		n, readErr := file.ReadAt(b, int64(i)*superblockSize)
		copies[i] = b[:n]
		if _, err := decodeSuperblock(copies[i]); err != nil {
			if n == superblockSize {
				readErr = nil
			}
			c.find(Finding{Kind: FindingSuperblock, Offset: int64(i) * superblockSize, Length: superblockSize,
				Err: errors.Join(err, readErr)})
		}
	}
	w := &walker{file: file, seal: &c.v.seal, end: c.end}
	err := w.scan(scanOptions{data: true}, func(r Record) error {
		c.record(r)
		if err := c.throttle.wait(ctx, r.Size); err != nil {
			return err
		}
		return ctx.Err()
	})
	if err != nil {
		return err
	}
	c.damaged()
	c.dangling()
	c.report.Bytes = c.end
	return nil
}

func (c *checker) record(r Record) {
	f := Finding{Offset: r.Offset, Length: r.Size, Key: r.Key, Alt: r.Alt, Err: r.Err}
	switch r.Kind {
	case 0:
		f.Kind = FindingGap
		c.gaps = append(c.gaps, extent{r.Offset, r.Offset + r.Size})
		c.find(f)
	case KindNeedle:
		c.needle(r, f)
	case KindTombstone:
		c.report.Tombstones++
		c.seen = append(c.seen, r.Offset)
		if _, _, deleted := c.idx.get(r.Key, 0); !deleted {
			f.Kind, f.Err = FindingDeletes, fmt.Errorf("%w: the index does not know that %v was deleted", ErrCorrupt, r.Key)
			c.find(f)
		}
	case KindVoid:
		c.report.VoidBytes += r.Size
	}
}

func (c *checker) needle(r Record, f Finding) {
	c.seen = append(c.seen, r.Offset)
	p, found, deleted := c.idx.get(r.Key, r.Alt)
	replaced := found && p.off > r.Offset // it was damaged, and was stored once more
	if r.Err != nil && !replaced {
		f.Kind = FindingData
		c.find(f)
		return
	}
	if replaced {
		return
	}
	c.report.Needles++
	if deleted || p.off == r.Offset && p.size == r.Size {
		return
	}
	f.Kind, f.Err = FindingIndex, fmt.Errorf("%w: the index has %v alt %d at %d", ErrCorrupt, r.Key, r.Alt, p.off)
	c.find(f)
}

// damaged names the parts that count as damaged since the opening though the
// file has no gap there: records that a checkpoint knew and that are gone from
// the end of the file, and what could not be read then and can be now. Reads of
// what is not found answer "corrupt" because of them.
func (c *checker) damaged() {
	for _, rot := range c.v.damage.rot {
		end := rot.Offset + rot.Length
		if slices.ContainsFunc(c.gaps, func(g extent) bool { return g.off < end && rot.Offset < g.end }) {
			continue
		}
		c.find(Finding{Kind: FindingGap, Offset: rot.Offset, Length: rot.Length,
			Err: fmt.Errorf("%w: what was acknowledged there is gone, or could not be read when the volume was opened", ErrCorrupt)})
	}
}

// dangling looks for index entries without a record.
func (c *checker) dangling() {
	var lost []Finding
	c.idx.each(func(key id.ID, alt uint8, p place) bool {
		if p.off >= c.end {
			return true // appended since
		}
		if _, ok := slices.BinarySearch(c.seen, p.off); !ok {
			lost = append(lost, Finding{Kind: FindingDangling, Offset: p.off, Length: p.size, Key: key, Alt: alt,
				Err: fmt.Errorf("%w: no record at %d", ErrCorrupt, p.off)})
		}
		return true
	})
	sort.Slice(lost, func(i, j int) bool { return lost[i].Offset < lost[j].Offset })
	for _, f := range lost {
		c.find(f)
	}
}
