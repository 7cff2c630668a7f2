package disk

import (
	"bytes"
	"context"
	"path/filepath"
	"sync"

	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
)

// mixGroup is the number of images in a batched write of workloads F and G.
const mixGroup = 16

// mix is reads of one volume beside batched writes to it: of 100 requests,
// writes are writes.
type mix struct {
	r      *readers
	dir    string
	writes int // percent
	size   int
	method method // of the raw side
	slice  int64  // bytes that a slice writes at most

	puts int // groups that were ever put, so that no key comes twice
}

// isWrite spreads the writes evenly over the requests, the same on both sides.
func (m *mix) isWrite(i int) bool { return i*m.writes%100 < m.writes }

// engine reads and appends through one volume. The weight of a call is its
// images.
func (m *mix) engine(name string, clients int) *contest.Arm {
	return &contest.Arm{Name: name, Clients: clients, Start: func(context.Context) (contest.Job, error) {
		order, err := m.r.Fresh()
		if err != nil {
			return contest.Job{}, err
		}
		bufs := make([][][]byte, clients)
		for c := range bufs {
			for range mixGroup {
				bufs[c] = append(bufs[c], bytes.Clone(library.Noise[:m.size]))
			}
		}
		// Keys behind those that the library holds.
		base := (len(m.r.lib.Needles) + m.puts*mixGroup) / mixGroup
		m.puts += len(order) + 1
		w := writing{size: m.size, group: mixGroup}
		return contest.Job{Limit: m.limit(len(order)), Do: func(ctx context.Context, client, i int) (float64, error) {
			if m.isWrite(i) {
				return mixGroup, w.put(ctx, m.r.v, bufs[client], base+1+i)
			}
			return 1, m.r.read(ctx, &m.r.lib.Needles[order[i]])
		}}, nil
	}}
}

// limit is the most requests of a slice, with n needles to read.
func (m *mix) limit(n int) int {
	bytes := int64(mixGroup) * recordBytes(m.size) * int64(m.writes) / 100
	return min(n, int(m.slice/max(1, bytes)))
}

// device does the same with direct reads and one log that is written under a
// lock. That lock is all that the raw side has of a writer: it does not gather
// the groups of several clients into one sync.
func (m *mix) device(name string, clients int) *contest.Arm {
	return &contest.Arm{Name: name, Clients: clients, Start: func(context.Context) (contest.Job, error) {
		order, err := m.r.Fresh()
		if err != nil {
			return contest.Job{}, err
		}
		batch := mixGroup * int(recordBytes(m.size))
		bufs, free, err := raw.ClientBufs(clients, batch+raw.PageSize)
		if err != nil {
			return contest.Job{}, err
		}
		limit := m.limit(len(order))
		l, err := newLog(filepath.Join(m.dir, "mix.log"), m.method, int64(limit*m.writes/100+1)*int64(batch), 16<<20)
		if err != nil {
			free()
			return contest.Job{}, err
		}
		for _, b := range bufs {
			for at := 0; at < len(b); {
				at += copy(b[at:], library.Noise)
			}
		}
		var mu sync.Mutex // guards l
		return contest.Job{Limit: limit, Do: func(_ context.Context, client, i int) (float64, error) {
			if m.isWrite(i) {
				mu.Lock()
				defer mu.Unlock()
				return mixGroup, l.append(bufs[client], batch)
			}
			return 1, m.r.readDirect(bufs[client], &m.r.lib.Needles[order[i]], m.r.align)
		}, Stop: func() error { free(); return l.close() }}, nil
	}}
}
