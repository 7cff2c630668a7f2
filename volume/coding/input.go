package coding

import (
	"context"
	"errors"
	"sync"
)

// input is a shard of which only blocks that have their sums are used.
type input struct {
	shard Shard
	i     int
	c     *Committed

	mu   sync.Mutex // guards all below
	head *head      // nil: not read yet
	bind binding
	sums map[int64][]uint32 // by page of the table
	bad  bool               // something of it was damaged: asked last
}

// open reads the head, once: the last copy of it where the first one is damaged.
func (in *input) open(ctx context.Context) (*head, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.head != nil {
		return in.head, nil
	}
	lease := buffers.Get(headSize)
	defer lease.Release()
	b := lease.Bytes()[:headSize]
	h, err := in.readHead(ctx, b, 0)
	if err != nil {
		var second error
		if h, second = in.readHead(ctx, b, in.c.layout().tailAt()); second != nil {
			return nil, errors.Join(err, second)
		}
	}
	in.head, in.bind, in.sums = h, h.binding(), make(map[int64][]uint32)
	return h, nil
}

func (in *input) readHead(ctx context.Context, b []byte, off int64) (*head, error) {
	if err := in.shard.ReadAt(ctx, b, off); err != nil {
		return nil, err
	}
	h, err := decodeHead(b)
	if err != nil {
		return nil, err
	}
	if err := h.belongs(in.c.Plan, in.i); err != nil {
		return nil, err
	}
	return h, h.committed(*in.c)
}

// page returns the sums of page q of the table.
func (in *input) page(ctx context.Context, q int64) ([]uint32, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if sums, ok := in.sums[q]; ok {
		return sums, nil
	}
	l := in.head.layout()
	lease := buffers.Get(pageSize)
	defer lease.Release()
	page := lease.Bytes()[:pageSize]
	if err := in.shard.ReadAt(ctx, page, l.tableAt()+q*pageSize); err != nil {
		return nil, err
	}
	sums := make([]uint32, min(sumsPerPage, l.blocks()-q*sumsPerPage))
	if err := in.bind.readPage(page, q, sums); err != nil {
		return nil, err
	}
	in.sums[q] = sums
	return sums, nil
}

// read fills b with whole blocks of the body from offset off, each of which has
// its sum.
func (in *input) read(ctx context.Context, b []byte, off int64) error {
	if _, err := in.open(ctx); err != nil {
		return err
	}
	if err := in.shard.ReadAt(ctx, b, headSize+off); err != nil {
		return err
	}
	return in.check(ctx, b, off)
}

// check compares whole blocks of the body from offset off with their sums.
func (in *input) check(ctx context.Context, b []byte, off int64) error {
	if _, err := in.open(ctx); err != nil {
		return err
	}
	for block := off / BlockSize; len(b) > 0; block++ {
		sums, err := in.page(ctx, block/sumsPerPage)
		if err != nil {
			return err
		}
		n := min(len(b), BlockSize)
		if rawSum(b[:n])^in.bind.mask(block) != sums[block%sumsPerPage] {
			return corrupt("block %d of shard %d does not have its sum", block, in.i)
		}
		b = b[n:]
	}
	return nil
}

// demote makes an input the last one to be asked.
func (in *input) demote() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.bad = true
}

func (in *input) demoted() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.bad
}
