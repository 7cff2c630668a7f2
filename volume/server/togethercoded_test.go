package server_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
)

// A volume with several replicas is coded on the node of its primary, out of a file that
// is what the directory knows; deletes that come meanwhile count, and the sources go on
// all nodes.
func TestReplicasAreCoded(t *testing.T) {
	x := newTrioOf(t, server.Options{Coding: coding.Policy{Data: 2, Parity: 1}}, 3)
	x.plantSealed()
	// The primary's file is another one than that which the row describes.
	if err := x.dir.change(func(tb *table) error {
		r := tb.rows[x.v]
		seal := *r.Seal
		seal.Bytes += 4096
		r.Seal = &seal
		tb.rows[x.v] = r
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	s := x.members[0].server()
	done := make(chan error, 1)
	go func() { done <- s.Encode(context.Background(), x.v, nil) }()
	x.delete(6)
	x.until("it is coded", func() bool { return x.row().Coding.Committed != nil })
	if err := <-done; err != nil {
		t.Error(err)
	}
	row := x.row()
	if row.Volume.Generation != 2 || len(row.InSync) != 1 {
		t.Errorf("the row is %+v", row)
	}
	if err := s.Delete(t.Context(), x.key(1)); err != nil {
		t.Error(err)
	}
	x.dead = append(x.dead, x.key(1))
	x.until("the sources are gone", func() bool {
		return x.noSources() && x.row().Coding.State() == lifecycle.Released
	})
	for _, key := range x.dead {
		if _, err := s.Read(t.Context(), key, 0, trioCookie); !errors.Is(err, volume.ErrNotFound) {
			t.Errorf("deleted %v: %v", key, err)
		}
	}
	if n := x.saw(server.EventRevoked) + x.saw(server.EventVolumeSick); n > 0 {
		t.Errorf("%d volumes were sick or revoked", n)
	}
}

// A replica that hears of a compaction when the volume is coded has the next generation made, and the former
// one in service. Both go when the sources are released.
func TestMadeAndNeverServed(t *testing.T) {
	x := newTrioOf(t, server.Options{Coding: coding.Policy{Data: 2, Parity: 1}}, 3)
	late := x.members[1]
	late.opts.Heard = func() (time.Duration, bool) { return 0, true } // it takes shards all the same
	x.plantSealed()
	x.setAround(func(_ *fakeNode, what string, do func() error) error {
		if what == "commit" {
			late.wire.deafen()
		}
		err := do()
		if what == "commit shards" {
			late.wire.cut(nil)
		}
		return err
	})
	s := x.members[0].server()
	if _, err := s.Compact(t.Context(), x.v, nil); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Encode(context.Background(), x.v, nil) }()
	x.until("it is coded", func() bool { return len(done) > 0 })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	x.until("the sources are gone", x.noSources)
}

// noSources reports whether no node has a file of the volume.
func (x *trio) noSources() bool {
	for _, m := range x.members {
		files, err := volume.List(m.mem, "/d0/volumes")
		if err != nil || len(files) > 0 {
			return false
		}
	}
	return true
}
