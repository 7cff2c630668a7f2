package directory

import (
	"hayloft/internal/id"
	"hayloft/volume/coding/lifecycle"
)

// Limits of docs/shard-format.md.
const (
	maxData   = 32
	maxParity = 8
)

func (e *enc) source(s lifecycle.Source) {
	e.u32(s.Generation)
	e.bytes(s.Digest[:])
	e.u64(uint64(s.Bytes))
}

func (d *dec) source() lifecycle.Source {
	return lifecycle.Source{Generation: d.u32(), Digest: lifecycle.Digest(d.take(32)), Bytes: int64(d.u64())}
}

// run writes a run without its epoch and source, which stand elsewhere. It has
// a home for each shard: callers have made sure.
func (e *enc) run(r lifecycle.Run) {
	e.u64(r.Encoder)
	e.u8(uint8(r.Data))
	e.u8(uint8(r.Parity))
	e.u64(uint64(r.IndexBytes))
	for _, h := range r.Homes {
		e.u32(uint32(h))
	}
}

func (d *dec) run(epoch uint32, source lifecycle.Source) lifecycle.Run {
	r := lifecycle.Run{Epoch: epoch, Source: source, Encoder: d.u64(), Data: int(d.u8()), Parity: int(d.u8()), IndexBytes: int64(d.u64())}
	if r.Data < 1 || r.Data > maxData || r.Parity < 1 || r.Parity > maxParity || d.bad {
		d.bad = true
		return lifecycle.Run{}
	}
	for range r.Data + r.Parity {
		r.Homes = append(r.Homes, lifecycle.Disk(d.u32()))
	}
	return r
}

// digests writes at most maxData + maxParity of them.
func (e *enc) digests(ds []lifecycle.Digest) {
	e.u8(uint8(len(ds)))
	for _, x := range ds {
		e.bytes(x[:])
	}
}

func (d *dec) digests() (out []lifecycle.Digest) {
	n := int(d.u8())
	if n > maxData+maxParity {
		d.bad = true
		return nil
	}
	for range n {
		out = append(out, lifecycle.Digest(d.take(32)))
	}
	return out
}

func (e *enc) commit(c *lifecycle.Commit) {
	e.bool(c != nil)
	if c == nil {
		return
	}
	e.u32(c.Epoch)
	e.source(c.Source)
	e.run(c.Run)
	e.digests(c.Digests)
	e.millis(id.MillisOf(c.At))
}

func (d *dec) commit() *lifecycle.Commit {
	if !d.bool() {
		return nil
	}
	return &lifecycle.Commit{Run: d.run(d.u32(), d.source()), Digests: d.digests(), At: d.millis().Time()}
}

// coding writes a row without its source, which the seal tells. Epoch and source
// of a run are the row's.
func (e *enc) coding(r lifecycle.Row) {
	e.u32(r.Epoch)
	e.u32(r.Released)
	e.bool(r.Run != nil)
	if r.Run != nil {
		e.run(*r.Run)
	}
	e.commit(r.Committed)
	e.commit(r.Before)
}

func (d *dec) coding(source lifecycle.Source) lifecycle.Row {
	r := lifecycle.Row{Source: source, Epoch: d.u32(), Released: d.u32()}
	if d.bool() {
		run := d.run(r.Epoch, source)
		r.Run = &run
	}
	r.Committed, r.Before = d.commit(), d.commit()
	return r
}
