package coding

import (
	"context"
	"errors"
	"fmt"

	"hayloft/internal/slab"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// Finding is one thing wrong with a shard.
type Finding struct {
	Shard          int
	Offset, Length int64 // bytes of the shard file; of nothing: the whole file
	Err            error
}

// Check reads a shard from the device, whole, and tells found of each thing
// wrong with it, in the order of the file: a shard with findings is to be
// rebuilt. digest is that of the directory's commit. The error is a failure of
// the check itself; a shard that is missing is a finding.
func Check(ctx context.Context, home Home, p Plan, shard int, digest Digest, o Options, found func(Finding)) error {
	if err := errors.Join(p.Validate(), o.Validate()); err != nil {
		return err
	}
	w := &work{Options: o}
	w.begin(StepVerify, p.ShardBytes())
	damaged := false
	got, err := inspect(ctx, w, home.FS, home.path(p, shard), inspection{plan: p, shard: shard, found: func(f Finding) {
		damaged = true
		found(f)
	}})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errStopped):
		return err
	case err != nil:
		found(Finding{Shard: shard, Err: err})
	case !damaged && got.head.Digest != digest:
		found(Finding{Shard: shard, Err: corrupt("digest %x, committed is %x", got.head.Digest, digest)})
	}
	return nil
}

// errStopped marks the error of a throttle or of who is given the bytes.
var errStopped = errors.New("stopped")

// inspection is what inspect is to do.
type inspection struct {
	plan  Plan
	shard int
	found func(Finding)
	tee   func(payload []byte) error // gets the payload in order, or nil
}

// inspected is a shard as the device holds it.
type inspected struct {
	head *head
	raw  []uint32 // raw sums of the body's blocks, as the table has them
	// unknown are the damaged pages of the table: of their blocks nothing is
	// known, and the finding of the page stands for them.
	unknown map[int64]bool
}

// inspect reads a file and verifies what can be. The error means that it cannot
// be taken for this shard at all, or that the inspection ended early.
func inspect(ctx context.Context, w *work, fsys vfs.FS, name string, in inspection) (*inspected, error) {
	d, err := openDevice(fsys, name)
	if err != nil {
		return nil, err
	}
	out, err := in.read(ctx, w, d)
	if closeErr := d.close(); err == nil {
		err = closeErr
	}
	return out, err
}

func (in *inspection) read(ctx context.Context, w *work, d *device) (*inspected, error) {
	h, err := readHead(d, in)
	if err != nil {
		return nil, err
	}
	out := &inspected{head: h}
	sums, unknown := in.readTable(d, h)
	bind := h.binding()
	out.raw = make([]uint32, len(sums))
	for b, sum := range sums {
		out.raw[b] = sum ^ bind.mask(int64(b))
	}
	out.unknown = unknown
	if len(unknown) == 0 && h.digest(sums) != h.Digest {
		in.found(Finding{Shard: in.shard, Offset: h.layout().tableAt(), Length: pageSize, Err: corrupt("the digest is not that of the sums")})
	}
	return out, in.body(ctx, w, d, out)
}

// readHead reads both copies. One that is damaged is a finding.
func readHead(d *device, in *inspection) (*head, error) {
	size, err := d.f.Size()
	if err != nil {
		return nil, err
	}
	b := slab.Alloc(headSize)
	var heads [2]*head
	var errs [2]error
	at := [2]int64{0, size - headSize}
	for i := range heads {
		if size < 2*headSize || size%pageSize != 0 {
			errs[i] = corrupt("shard file of %d bytes", size)
		} else if errs[i] = d.read(b, at[i]); errs[i] == nil {
			heads[i], errs[i] = decodeHead(b)
		}
		if errors.Is(errs[i], volume.ErrUnsupported) {
			return nil, errs[i]
		}
	}
	// What is another run's file is so whatever else is wrong with it.
	for _, h := range heads {
		if h != nil {
			if err := h.belongs(in.plan, in.shard); err != nil {
				return nil, err
			}
		}
	}
	if want := in.plan.FileBytes(); size != want {
		return nil, corrupt("shard file of %d bytes, which should have %d", size, want)
	}
	switch {
	case heads[0] == nil && heads[1] == nil:
		return nil, corrupt("both copies of the head: %w", errs[0])
	case heads[0] == nil || heads[1] == nil:
		i := 0
		if heads[1] == nil {
			i = 1
		}
		in.found(Finding{Shard: in.shard, Offset: at[i], Length: headSize, Err: errs[i]})
		return heads[1-i], nil
	case *heads[0] != *heads[1]:
		return nil, corrupt("two heads that differ")
	}
	return heads[0], nil
}

// readTable reads all sums, and says which of its pages are damaged.
func (in *inspection) readTable(d *device, h *head) (sums []uint32, unknown map[int64]bool) {
	l, bind := h.layout(), h.binding()
	sums = make([]uint32, l.blocks())
	page := slab.Alloc(pageSize)
	for q := range l.tablePages() {
		at := l.tableAt() + q*pageSize
		err := d.read(page, at)
		if err == nil {
			err = bind.readPage(page, q, pageSums(sums, q))
		}
		if err == nil {
			continue
		}
		if unknown == nil {
			unknown = make(map[int64]bool)
		}
		unknown[q] = true
		in.found(Finding{Shard: in.shard, Offset: at, Length: pageSize, Err: err})
	}
	return sums, unknown
}

// body verifies all blocks.
func (in *inspection) body(ctx context.Context, w *work, d *device, out *inspected) error {
	l := out.head.layout()
	lease := buffers.Get(int(min(maxColumn, l.bodyBytes())))
	defer lease.Release()
	buf := lease.Bytes()[:min(maxColumn, l.bodyBytes())]
	for at := int64(0); at < l.bodyBytes(); {
		n := min(int64(len(buf)), l.bodyBytes()-at)
		if err := w.wait(ctx, n); err != nil {
			return fmt.Errorf("%w: %w", errStopped, err)
		}
		// Where a piece cannot be read its blocks are tried one by one.
		whole := d.read(buf[:n], headSize+at)
		for from := at; from < at+n; from += BlockSize {
			b := from / BlockSize
			block := buf[from-at:][:l.blockLen(b)]
			err := whole
			if err != nil {
				err = d.read(block, headSize+from)
			}
			if err == nil && !out.unknown[b/sumsPerPage] && rawSum(block) != out.raw[b] {
				err = corrupt("block %d does not have its sum", b)
			}
			if err != nil {
				in.found(Finding{Shard: in.shard, Offset: headSize + from, Length: int64(len(block)), Err: err})
			}
		}
		if payload := min(n, l.payload-at); payload > 0 {
			if in.tee != nil {
				if err := in.tee(buf[:payload]); err != nil {
					return fmt.Errorf("%w: %w", errStopped, err)
				}
			}
			w.advance(payload)
		}
		at += n
	}
	return nil
}
