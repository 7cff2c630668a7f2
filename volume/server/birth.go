package server

import (
	"context"

	"hayloft/volume"
)

// empty reports whether a volume holds nothing, by the directory's word: no file
// of it is missed.
func (r Row) empty() bool { return r.Unconfirmed || r.State == StateVoid }

// beginBirth waits until nobody else makes a volume on the disk or gives one up.
// The caller ends with what it returns.
func (d *disk) beginBirth(ctx context.Context) (end func(), err error) {
	select {
	case d.birth <- struct{}{}:
		return func() { <-d.birth }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// unmade reports whether a volume is left of a writer that did not come to
// confirm it, or is void and something of it is still here.
func (d *disk) unmade(row Row, files int, k sky) bool {
	v := row.Volume.Volume
	switch {
	case d.troubles.rests(trouble{v: v}, k.now):
		return false
	case row.State == StateVoid:
		d.forget(v)
		return files > 0 || d.s.handle(d.number, v) != nil
	}
	return row.Unconfirmed && len(d.birth) == 0 && !d.awaited(v, k)
}

// awaited reports whether a writer of another node may be making a volume now, which
// this one has not known for long as one that is not confirmed: idleWait. Taken away too
// early it costs that writer another volume. When it was opened does not count: that is
// another clock.
func (d *disk) awaited(v volume.ID, k sky) bool {
	return d.s.o.Peers != nil && !d.idle(v, volume.Stats{Appended: neverAppended}, k)
}

// neverAppended is what nothing that was appended comes to.
const neverAppended = -1

// giveUp is the job: make a volume void that nobody confirmed, and remove what
// there is of it. While the gate is held no writer of this process makes one, and
// those of former processes are gone: who could confirm it has asked already.
func (s *Server) giveUp(ctx context.Context, d *disk, j *job) error {
	end, err := d.beginBirth(ctx)
	if err != nil {
		return err
	}
	row, err := s.decide(ctx, func(ctx context.Context) (Row, error) { return s.o.Directory.AbandonVolume(ctx, j.v) })
	end()
	if err != nil || row.State != StateVoid {
		return err // it was confirmed after all
	}
	if err := s.withdraw(where{d.number, j.v}); err != nil {
		return err
	}
	if err := volume.RemoveUnused(d.volumesDir(), row.Volume, s.volumeOptions(d)); err != nil {
		return err
	}
	s.mu.Lock()
	delete(s.volumes, where{d.number, j.v}) // it may have been sick
	s.mu.Unlock()
	return nil
}

// withdraw takes a volume out of service and closes it when the last call on it
// is over.
func (s *Server) withdraw(at where) error {
	s.mu.Lock()
	h := s.volumes[at]
	if h == nil || h.vol == nil {
		s.mu.Unlock()
		return nil
	}
	delete(s.volumes, at)
	s.mu.Unlock()
	<-h.retire()
	return h.vol.Close()
}
