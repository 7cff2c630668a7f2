package peer

import (
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// echo is a Peer that answers anything, always the same to the same question. It
// keeps what it was asked.
type echo struct {
	fail bool // every call ends with an error, beside whatever it gives

	mu    sync.Mutex
	asked []string
}

func (e *echo) Node() string { return "echo" }

// hear notes a call and returns what its answer is drawn from.
func (e *echo) hear(format string, args ...any) *rand.Rand {
	text := fmt.Sprintf(format, args...)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, text)
	h := fnv.New64a()
	_, _ = h.Write([]byte(text))
	return rand.New(rand.NewPCG(h.Sum64(), 1))
}

func (e *echo) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	out := e.asked
	e.asked = nil
	return out
}

// err is one of those that there are, sometimes two.
func (e *echo) err(r *rand.Rand) error {
	if !e.fail {
		return nil
	}
	return anError(r)
}

func anError(r *rand.Rand) error {
	one := table[r.IntN(len(table))].err
	if r.IntN(3) == 0 {
		return fmt.Errorf("%w: disk %d: %w", server.ErrUnavailable, r.IntN(9), one)
	}
	return fmt.Errorf("volume %d: %w", r.IntN(9), one)
}

func groupText(group []volume.Needle) string {
	text := ""
	for _, n := range group {
		text += fmt.Sprintf("%v/%d/%v/%s/%x,", n.Key, n.Alt, n.Cookie, masterText(n.Master), n.Data)
	}
	return text
}

func masterText(m *volume.MasterInfo) string {
	if m == nil {
		return "none"
	}
	return fmt.Sprintf("%+v", *m)
}

func (e *echo) Create(ctx context.Context, disk uint32, ident volume.Identity) error {
	return e.err(e.hear("create %d %+v", disk, ident))
}

func (e *echo) Append(ctx context.Context, disk uint32, ident volume.Identity, group []volume.Needle) error {
	return e.err(e.hear("append %d %+v %s", disk, ident, groupText(group)))
}

func (e *echo) Entomb(ctx context.Context, disk uint32, v volume.ID, key id.ID) error {
	return e.err(e.hear("entomb %d %d %v", disk, v, key))
}

func (e *echo) Delete(ctx context.Context, disk uint32, v volume.ID, key id.ID) error {
	return e.err(e.hear("delete %d %d %v", disk, v, key))
}

func (e *echo) LogDeletes(ctx context.Context, disk uint32, v volume.ID, sync, after uint32, keys []id.ID) (uint32, error) {
	r := e.hear("log %d %d %d %d %v", disk, v, sync, after, keys)
	return after + uint32(len(keys)) + r.Uint32N(2), e.err(r)
}

func (e *echo) Read(ctx context.Context, disk uint32, v volume.ID, blob id.ID, alt uint8, cookie id.Cookie) (volume.Blob, error) {
	r := e.hear("read %d %d %v %d %v", disk, v, blob, alt, cookie)
	if err := e.err(r); err != nil {
		return volume.Blob{}, err
	}
	data := someBytes(r, 3000)
	return volume.Blob{Data: data, ETag: sum(data), Master: someMaster(r)}, nil
}

func (e *echo) ReadRange(ctx context.Context, disk uint32, v volume.ID, blob id.ID, alt uint8, cookie id.Cookie, off, n int64) (volume.Range, error) {
	r := e.hear("range %d %d %v %d %v %d %d", disk, v, blob, alt, cookie, off, n)
	if err := e.err(r); err != nil {
		return volume.Range{}, err
	}
	data := someBytes(r, int(n))
	return volume.Range{Data: data, Offset: off, Size: off + int64(len(data)) + r.Int64N(99), ETag: r.Uint32(), Master: someMaster(r)}, nil
}

func (e *echo) Probe(ctx context.Context, disk uint32, v volume.ID, blob id.ID) (volume.Probed, error) {
	r := e.hear("probe %d %d %v", disk, v, blob)
	if err := e.err(r); err != nil {
		return volume.Probed{}, err
	}
	p := volume.Probed{Deleted: r.IntN(2) == 0}
	for range r.IntN(4) {
		n := volume.ProbedNeedle{Alt: uint8(r.Uint32()), Offset: r.Int64(), Size: r.Int64()}
		if r.IntN(2) == 0 {
			n.Err = anError(r)
		}
		p.Needles = append(p.Needles, n)
	}
	return p, nil
}

func (e *echo) Standing(ctx context.Context, disk uint32, v volume.ID) (server.Standing, error) {
	r := e.hear("standing %d %d", disk, v)
	return someStanding(r), e.err(r)
}

func (e *echo) Fence(ctx context.Context, disk uint32, v volume.ID) (server.Standing, error) {
	r := e.hear("fence %d %d", disk, v)
	return someStanding(r), e.err(r)
}

func (e *echo) Holdings(ctx context.Context, disk uint32, v volume.ID, fn func(server.Holding) error) error {
	r := e.hear("holdings %d %d", disk, v)
	for range r.IntN(5000) {
		h := server.Holding{Key: id.ID(r.Uint64()), Tombstone: r.IntN(3) == 0}
		if !h.Tombstone {
			h.Alt, h.Cookie, h.Length, h.ETag = uint8(r.Uint32N(255)), id.Cookie(r.Uint64()), r.Int64N(volume.MaxData), r.Uint32()
		}
		if err := fn(h); err != nil {
			return err
		}
	}
	return e.err(r)
}

func (e *echo) Fetch(ctx context.Context, disk uint32, v volume.ID, keys []id.ID, fn func(volume.Needle) error) error {
	r := e.hear("fetch %d %d %v", disk, v, keys)
	for _, n := range someGroup(r) {
		if err := fn(n); err != nil {
			return err
		}
	}
	return e.err(r)
}

func (e *echo) Fill(ctx context.Context, disk uint32, ident volume.Identity, group []volume.Needle) error {
	return e.err(e.hear("fill %d %+v %s", disk, ident, groupText(group)))
}

func (e *echo) Bury(ctx context.Context, disk uint32, v volume.ID, keys []id.ID) error {
	return e.err(e.hear("bury %d %d %v", disk, v, keys))
}

func (e *echo) Seal(ctx context.Context, disk uint32, v volume.ID, info volume.SealInfo) (server.Sealed, error) {
	r := e.hear("seal %d %d %d %d %d %q %q %v", disk, v, info.Slot, info.From, info.To, info.Replicas, info.Policy, info.United)
	return someSealed(r), e.err(r)
}

func (e *echo) Make(ctx context.Context, disk uint32, v volume.ID, generation uint32) (server.Sealed, error) {
	r := e.hear("make %d %d %d", disk, v, generation)
	return someSealed(r), e.err(r)
}

func (e *echo) Copy(ctx context.Context, disk uint32, v volume.ID, generation uint32, fn func([]byte) error) (server.Sealed, error) {
	r := e.hear("copy %d %d %d", disk, v, generation)
	for range r.IntN(4) {
		if err := fn(someBytes(r, 5000)); err != nil {
			return server.Sealed{}, err
		}
	}
	return someSealed(r), e.err(r)
}

func (e *echo) Deletes(ctx context.Context, disk uint32, v volume.ID, after uint32, limit int) ([]volume.Delete, uint32, error) {
	r := e.hear("deletes %d %d %d %d", disk, v, after, limit)
	if err := e.err(r); err != nil {
		return nil, 0, err
	}
	var all []volume.Delete
	for i := range r.IntN(limit + 1) {
		all = append(all, volume.Delete{Number: after + 1 + uint32(i), Key: id.ID(r.Uint64())})
	}
	return all, r.Uint32(), nil
}

func (e *echo) Admit(ctx context.Context, disk uint32, v volume.ID, joining uint32) error {
	return e.err(e.hear("admit %d %d %d", disk, v, joining))
}

// echoShelf is a shelf that its owner may take away.
type echoShelf struct {
	vfs.FS
	lost *atomic.Bool
}

func (s echoShelf) Lost() bool { return s.lost.Load() }

func (e *echo) Shelf(ctx context.Context, disk uint32, v volume.ID, epoch, term uint32) (server.Shelf, error) {
	r := e.hear("shelf %d %d %d %d", disk, v, epoch, term)
	if err := e.err(r); err != nil {
		return nil, err
	}
	return echoShelf{vfs.NewMem(r.Uint64()), new(atomic.Bool)}, nil
}

func (e *echo) Mend(ctx context.Context, disk uint32, v volume.ID, epoch uint32, damage []server.Damage) error {
	return e.err(e.hear("mend %d %d %d %v", disk, v, epoch, damage))
}

func someBytes(r *rand.Rand, most int) []byte {
	b := make([]byte, r.IntN(most+1))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func someMaster(r *rand.Rand) *volume.MasterInfo {
	if r.IntN(2) == 0 {
		return nil
	}
	return &volume.MasterInfo{
		Photo: id.ID(r.Uint64()), Owner: id.ID(r.Uint64()), ContentType: string(someBytes(r, maxContentType)),
		Time: time.UnixMilli(r.Int64N(1 << 44)).UTC(),
	}
}

func someGroup(r *rand.Rand) []volume.Needle {
	group := make([]volume.Needle, r.IntN(5))
	for i := range group {
		group[i] = volume.Needle{Key: id.ID(r.Uint64()), Alt: uint8(r.Uint32N(255)), Cookie: id.Cookie(r.Uint64()), Master: someMaster(r), Data: someBytes(r, 2000)}
	}
	return group
}

func someSealed(r *rand.Rand) server.Sealed {
	s := server.Sealed{
		Needles: r.Int64(), Bytes: r.Int64(), DataBytes: r.Int64(), Sealed: time.UnixMilli(r.Int64N(1 << 44)).UTC(), Deletes: r.Uint32(),
	}
	copy(s.Digest[:], someBytes(r, 32))
	return s
}

func someStanding(r *rand.Rand) server.Standing {
	s := server.Standing{Generation: r.Uint32(), Fenced: r.IntN(2) == 0, Poisoned: r.IntN(2) == 0, Deletes: r.Uint32()}
	if r.IntN(2) == 0 {
		of := someSealed(r)
		s.Sealed = &of
	}
	if r.IntN(2) == 0 {
		of := someSealed(r)
		s.Made = &of
	}
	return s
}

func someKeys(r *rand.Rand, most int) []id.ID {
	keys := make([]id.ID, r.IntN(most+1))
	for i := range keys {
		keys[i] = id.ID(r.Uint64())
	}
	return keys
}

func someSeal(r *rand.Rand) *volume.SealInfo {
	return &volume.SealInfo{
		Slot: id.Slot(r.Uint32N(1000)), From: id.Millis(r.Uint64N(1 << 41)), To: id.Millis(r.Uint64N(1 << 41)), United: r.IntN(2) == 0,
		Replicas: someBytes(r, 1500), Policy: someBytes(r, 1500),
	}
}
