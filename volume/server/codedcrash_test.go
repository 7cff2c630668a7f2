package server_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hayloft/internal/testenv"
	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
)

// code is a short life with every step that a coded volume takes: coded, deleted
// from in its grace, released, and written anew out of its shards.
func (l *ledger) code(h *house, p *reaper, r *rand.Rand) {
	for range 4 + r.IntN(4) {
		l.put(h, p, r)
	}
	l.delete(h, p, r)
	var v volume.ID
	for _, i := range h.volumes() {
		if i.Writing {
			v = i.Volume
		}
	}
	if v == 0 || p.dead() {
		return
	}
	if err := h.s.Encode(context.Background(), v, nil); err != nil && !p.dead() {
		h.t.Errorf("encode: %v", err)
	}
	l.delete(h, p, r)
	h.releasedOr(v, p)
	l.delete(h, p, r)
	if p.dead() {
		return
	}
	if _, err := h.s.Compact(context.Background(), v, nil); err != nil && !p.dead() {
		h.t.Errorf("compact: %v", err)
	}
	l.delete(h, p, r)
	h.releasedOr(v, p)
	l.delete(h, p, r)
}

// releasedOr waits until the source of a volume is released and gone, or the power is.
func (h *house) releasedOr(v volume.ID, p *reaper) {
	h.t.Helper()
	h.until(fmt.Sprintf("the release of volume %d", v), func() bool {
		h.clock.Advance(time.Minute)
		row, ok := h.wire.Row(v)
		return p.dead() || !ok || row.Coding.State() == lifecycle.Released && h.noDead(v)
	})
}

// noDead reports whether no file of a volume is left that its row does not want.
func (h *house) noDead(v volume.ID) bool {
	row, ok := h.wire.Row(v)
	for _, dir := range h.opts.Dirs {
		for _, f := range h.shardFiles(dir) {
			var vol, epoch uint32
			if _, err := fmt.Sscanf(f[strings.Index(f, "/shards/")+len("/shards/"):], "%08x-%08x/", &vol, &epoch); err != nil {
				h.t.Fatal(f, err)
			}
			if volume.ID(vol) == v && (!ok || strings.HasSuffix(f, ".tmp") || row.Coding.Committed == nil || row.Coding.Committed.Epoch != epoch) {
				return false
			}
		}
		files, err := volume.List(h.mem, dir+"/volumes")
		if err != nil {
			h.t.Fatal(err)
		}
		for _, e := range files {
			if e.Volume == v && ok && row.Coding.Committed != nil {
				return false
			}
		}
	}
	return true
}

// settleCoded waits until every volume that has an epoch, or began to have one, is
// coded and released, with all its shards, and nothing is left over.
func (h *house) settleCoded(p *reaper) {
	h.t.Helper()
	h.until("the coder", func() bool {
		h.clock.Advance(time.Minute)
		if p.dead() {
			return true
		}
		for _, i := range h.coded() {
			if i.State != lifecycle.Released || i.Sick != nil || i.Work != "" || i.Survives != 1 || !h.noDead(i.Volume) {
				return false
			}
		}
		for _, i := range h.volumes() {
			row, _ := h.wire.Row(i.Volume)
			if i.Sick != nil || i.Work != "" || i.State == "closing" || i.State == "void" || row.Unconfirmed || row.Attempt != nil ||
				row.Coding.Run != nil || row.Coding.Epoch > 0 && row.Coding.Committed == nil && !h.noDead(i.Volume) {
				return false
			}
		}
		return true
	})
}

// The power goes before each call that changes a file or the directory, in lives of
// coding, release and reclaim, and now and then again while the next server picks up
// what it finds: what was acknowledged is there, what was deleted is not, and every
// volume that began to be coded is coded in the end, with all its shards.
func TestCodedCrashes(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64() | 1
	}
	t.Logf("repeat with: go test ./volume/server -run TestCodedCrashes -seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 7))
	h := newHouse(t, server.Options{Dirs: []string{"/disk1", "/disk2", "/disk3"}, Coding: coding.Policy{Data: 2, Parity: 1}, SourceGrace: time.Minute,
		CompactBytes: 1 << 30, Maintenance: 1 << 40})
	h.opts.DirectoryTimeout = 5 * time.Second
	h.opts.UpkeepEvery = 30 * time.Second
	cuts, again, at := 0, 0, 0
	for cuts < testenv.Rounds(300) {
		h.stop()
		h.clock.Advance(2 * time.Minute)
		h.machine(r.Uint64())
		if at++; at > 60 {
			at += r.IntN(4) // the later steps are many of a kind
		}
		p := h.arm(at, r.Uint64())
		l := &ledger{}
		var err error
		if h.s, err = h.tryStart(); err == nil {
			l.code(h, p, r)
		}
		if p.spare() { // the whole life is through
			l.check(h)
			at = 0
			continue
		}
		cuts++
		call := p.cutAt
		again += h.pickUp(p, r, 60, h.settleCoded)
		l.check(h)
		h.check(h.mustPut(variants, 100, 1))
		if t.Failed() {
			t.Fatalf("cut %d, before call %d, %s", cuts, at, call)
		}
	}
	testenv.Tell(t, "%d power cuts while volumes were coded, %d more while it was picked up again", cuts, again)
}
