package volume

import (
	"context"
	"fmt"
)

// Memory is room for bytes that do not come from a volume here, such as a needle
// that another node has read: out of the same buffers as reads, and booked in a
// ReadBudget until Release, or that of the Blob or Range that is made of it.
type Memory struct {
	b    []byte
	held hold
}

// Memory books n bytes and returns memory of that length, with any content. It
// waits as reads do, until ctx ends. A nil budget has no bound.
func (b *ReadBudget) Memory(ctx context.Context, n int) (Memory, error) {
	var r room
	if b != nil {
		r = room{b, min(bufferBytes(int64(n)), b.limit)}
		if err := b.bytes.Acquire(ctx, r.n); err != nil {
			return Memory{}, fmt.Errorf("wait for memory to read into: %w", err)
		}
		b.held.Add(r.n)
	}
	m := Memory{held: hold{lease: buffers.Get(n), room: r}}
	m.b = m.held.lease.Bytes()[:n:n]
	return m, nil
}

// Bytes returns the memory, which is the caller's until Release.
func (m *Memory) Bytes() []byte { return m.b }

// Release is that of Blob.
func (m *Memory) Release() {
	m.held.release()
	m.b = nil
}

// Blob makes a Blob of m, whose bytes were verified. It owns m's memory from then
// on.
func (m *Memory) Blob(etag uint32, master *MasterInfo) Blob {
	return Blob{Data: m.b, ETag: etag, Master: master, held: m.held}
}

// Range does so with a part of a needle, from offset off, of size bytes in all.
func (m *Memory) Range(off, size int64, etag uint32, master *MasterInfo) Range {
	return Range{Data: m.b, Offset: off, Size: size, ETag: etag, Master: master, held: m.held}
}
