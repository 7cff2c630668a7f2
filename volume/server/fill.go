package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
)

const (
	// pieceWait bounds the wait for each piece of what another node sends.
	pieceWait = time.Minute
	// logWait bounds the wait for a whole delete log, and for an admission.
	logWait = 10 * time.Minute
)

// fill is the job: make a replica right that the row lists and that is not in sync, or
// that cannot be served, and have the primary admit it. See decision 169. What an
// earlier attempt came to is found again.
func (s *Server) fill(ctx context.Context, d *disk, j *job) error {
	row, err := s.freshOn(ctx, d, j.v)
	if err != nil || row.State != StateSealed || row.coded() {
		return err
	}
	if err := s.made.idle(ctx, where{d.number, j.v}); err != nil {
		return err
	}
	if !s.right(d, row) {
		if err := s.catchUpHere(ctx, d, j, row); err != nil {
			s.o.Events(Event{Kind: EventGeneration, Dir: d.dir, Volume: j.v, Err: err}) // it is copied
		}
	}
	right := s.right(d, row)
	if right && row.inSync(d.number) && s.takesDeletes(d, j.v) {
		return nil
	}
	// What is damaged is better than nothing, and maybe nothing whole is found.
	if row.inSync(d.number) && (right || !s.damaged(d, row)) {
		if row, err = s.leave(ctx, d, row); err != nil {
			return err
		}
	}
	if !right {
		if err := s.copyFile(ctx, d, j, row); err != nil {
			return s.compactDamaged(ctx, d, j, row, err)
		}
		was := row.Volume
		if row, err = s.freshOn(ctx, d, j.v); err != nil || row.Volume != was || row.coded() {
			return err // it takes long, and another generation may be there by now
		}
	}
	return s.joinSet(ctx, d, j, row)
}

// takesDeletes reports whether the delete log of a replica is sound.
func (s *Server) takesDeletes(d *disk, v volume.ID) bool {
	h := s.pin(d.number, v)
	if h == nil || h.vol == nil {
		return false
	}
	defer h.unpin()
	return h.vol.Stats().Poisoned == nil
}

// right reports whether the file of a replica is what the row says.
func (s *Server) right(d *disk, row Row) bool {
	means, rotten := s.means(d, row)
	return means && !rotten
}

// damaged reports whether it is, but for damage that could not be repaired, and its
// deletes are sound.
func (s *Server) damaged(d *disk, row Row) bool {
	means, rotten := s.means(d, row)
	return means && rotten && s.takesDeletes(d, row.Volume.Volume)
}

// means reports whether the file of a replica is meant to be what the row says, and
// whether it is known to be damaged.
func (s *Server) means(d *disk, row Row) (means, rotten bool) {
	h := s.pin(d.number, row.Volume.Volume)
	if h == nil || h.vol == nil {
		return false, false
	}
	defer h.unpin()
	rec, sealed := h.vol.Sealed()
	return sealed && h.vol.Identity() == row.Volume && row.Seal != nil && rec.Digest == row.Seal.Digest && h.vol.Poisoned() == nil, h.rotten.Load()
}

// catchUpHere serves the row's generation when it lies on the disk.
func (s *Server) catchUpHere(ctx context.Context, d *disk, j *job, row Row) error {
	h := s.pin(d.number, j.v)
	if h == nil || h.vol == nil {
		return nil
	}
	defer h.unpin()
	if h.vol.Identity().Generation >= row.Volume.Generation || !d.has(row.Volume) {
		return nil
	}
	_, err := s.catchUp(ctx, d, j, h, row)
	return err
}

// leave takes a replica of this node out of the set, when another one in sync has said
// that it has what was sealed.
func (s *Server) leave(ctx context.Context, d *disk, row Row) (Row, error) {
	v := row.Volume.Volume
	if row.State == StateSealed {
		if err := s.anotherIsGood(ctx, d, row); err != nil {
			return row, err
		}
	}
	after, err := s.decide(ctx, func(ctx context.Context) (Row, error) {
		return s.o.Directory.LeaveSync(ctx, v, d.number, row.Sync)
	})
	if err == nil {
		s.o.Events(Event{Kind: EventLeftSync, Dir: d.dir, Volume: v, Disk: d.number, Err: s.whyNot(d, v)})
	}
	return after, err
}

// whyNot is why a replica cannot be served.
func (s *Server) whyNot(d *disk, v volume.ID) error {
	h := s.pin(d.number, v)
	switch {
	case h == nil:
		return ErrMissing
	case h.vol == nil:
		return h.sick
	}
	defer h.unpin()
	if err := h.vol.Stats().Poisoned; err != nil {
		return err
	}
	return fmt.Errorf("%w: it does not hold what was sealed, or is damaged", volume.ErrCorrupt)
}

// anotherIsGood asks the others in sync until one has the row's generation.
func (s *Server) anotherIsGood(ctx context.Context, d *disk, row Row) error {
	errs := []error{fmt.Errorf("volume %d: no other replica is known to be good", row.Volume.Volume)}
	for _, n := range row.InSync {
		if n == d.number {
			continue
		}
		p, err := s.peerOf(n)
		if err == nil {
			var st Standing
			ctx, end := s.within(ctx, askWait)
			st, err = p.Standing(ctx, n, row.Volume.Volume)
			end()
			if err == nil && st.good(row) {
				return nil
			}
		}
		errs = append(errs, fmt.Errorf("disk %d: %w", n, errors.Join(err, errNotGood)))
	}
	return unavailable("%w", errors.Join(errs...))
}

// oneStands reports whether one of some replicas can take the place of the primary, as it
// says itself.
func (s *Server) oneStands(ctx context.Context, v volume.ID, disks []uint32) bool {
	stands := make([]bool, len(disks))
	var wg sync.WaitGroup
	for i, n := range disks {
		wg.Go(func() {
			p, err := s.peerOf(n)
			if err != nil {
				return
			}
			ctx, end := s.within(ctx, silence)
			defer end()
			st, err := p.Standing(ctx, n, v)
			stands[i] = err == nil && st.Generation != 0 && !st.Poisoned
		})
	}
	wg.Wait()
	return slices.Contains(stands, true)
}

var errNotGood = errors.New("it does not have what was sealed, or cannot be asked")

// leaveSet is the job: give up the place in the set of an open or closing volume that
// cannot be served here, so that another replica is the first.
func (s *Server) leaveSet(ctx context.Context, d *disk, j *job) error {
	row, err := s.freshOn(ctx, d, j.v)
	if err != nil || row.State != StateOpen && row.State != StateClosing || !row.inSync(d.number) || len(row.InSync) < 2 {
		return err
	}
	if h := s.handle(d.number, j.v); h != nil && h.vol != nil {
		return nil // it is back
	}
	_, err = s.leave(ctx, d, row)
	return err
}

// copyFile gets the row's generation from a replica in sync, the primary first.
func (s *Server) copyFile(ctx context.Context, d *disk, j *job, row Row) error {
	errs := []error{fmt.Errorf("volume %d: no replica in sync could be copied", j.v)}
	for _, n := range row.InSync {
		p, err := s.peerOf(n)
		if err == nil {
			err = s.copyFrom(ctx, d, j, row, p, n)
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		errs = append(errs, fmt.Errorf("disk %d: %w", n, err))
		if errors.Is(err, ErrNoSpace) {
			break
		}
	}
	return errors.Join(errs...)
}

// compactDamaged makes the next generation of a volume of which no file could be copied
// since all are damaged, at different places maybe: a compaction gets each needle from a
// replica where it is whole. The primary does so, while all are in sync; why is the
// answer of others, and when it fails.
func (s *Server) compactDamaged(ctx context.Context, d *disk, j *job, row Row, why error) error {
	if !errors.Is(why, volume.ErrCorrupt) || len(row.InSync) < len(row.Disks) || row.InSync[0] != d.number || row.Coding.Run != nil || !s.damaged(d, row) {
		return why
	}
	h := s.pin(d.number, j.v)
	if h == nil || h.vol == nil {
		return why
	}
	defer h.unpin()
	if _, err := s.compactSeveral(ctx, d, j, h, row); err != nil {
		return errors.Join(why, err)
	}
	return nil
}

func (s *Server) copyFrom(ctx context.Context, d *disk, j *job, row Row, p fellow, from uint32) error {
	ask, end := s.within(ctx, askWait)
	st, err := p.Standing(ask, from, j.v)
	end()
	if err != nil {
		return err
	}
	if !st.good(row) {
		return errNotGood
	}
	if err := d.takesWrites(st.Sealed.Bytes); err != nil {
		return err
	}
	log, err := s.logOf(ctx, p, from, j.v)
	if err != nil {
		return err
	}
	j.total.Store(2 * st.Sealed.Bytes) // written, read back
	j.done.Store(0)
	want := volume.Expect{Digest: st.Sealed.Digest, Bytes: st.Sealed.Bytes, Deletes: log, Replace: true, Throttle: j.throttle(d)}
	err = s.receive(ctx, d, row, want, func(write func([]byte) error) error {
		ctx, beat, end := s.lively(ctx, pieceWait)
		defer end()
		_, err := p.Copy(ctx, from, j.v, row.Volume.Generation, func(b []byte) error {
			beat()
			defer beat()
			return write(b)
		})
		return err
	})
	return errors.Join(err, s.reopen(d, j.v))
}

// receive makes a file out of what bring brings, in place of what there is, which goes
// to quarantine when all has come.
func (s *Server) receive(ctx context.Context, d *disk, row Row, want volume.Expect, bring func(func([]byte) error) error) error {
	r, err := volume.Receive(d.volumesDir(), row.Volume, s.volumeOptions(d), want)
	if err != nil {
		return err
	}
	err = bring(func(b []byte) error {
		s.n.fillBytes.Add(uint64(len(b)))
		return r.Write(ctx, b)
	})
	if err == nil {
		err = r.Prove(ctx)
	}
	if err == nil {
		err = s.stepOut(ctx, d, row)
	}
	if err == nil {
		err = s.withdrawn(ctx, where{d.number, row.Volume.Volume})
	}
	var old []volume.Entry
	if err == nil {
		old, err = d.generations(row.Volume.Volume)
	}
	if err == nil {
		err = r.Commit(ctx)
	}
	if err == nil {
		for _, e := range old {
			s.o.Events(Event{Kind: EventQuarantined, Dir: d.dir, Volume: e.Volume, File: e.Name})
		}
	}
	return errors.Join(err, r.Abort())
}

// stepOut takes a replica of this node out of the set that is to be replaced, if it is
// still in it. row is what its file was copied by.
func (s *Server) stepOut(ctx context.Context, d *disk, row Row) error {
	now, err := s.freshOn(ctx, d, row.Volume.Volume)
	switch {
	case err != nil:
		return err
	case now.Volume != row.Volume || now.coded():
		return fmt.Errorf("%w: volume %d has another generation by now, or is coded", ErrMoved, row.Volume.Volume)
	case now.inSync(d.number):
		_, err = s.leave(ctx, d, now)
	}
	return err
}

// withdrawn takes a volume out of service and returns when its files are closed.
func (s *Server) withdrawn(ctx context.Context, at where) error {
	if err := s.made.drop(at, 0); err != nil {
		return err
	}
	s.mu.Lock()
	h := s.volumes[at]
	delete(s.volumes, at)
	closed := s.closing[at]
	if h != nil && h.vol != nil {
		all := make(chan struct{})
		s.closing[at] = all
		before, idle := closed, h.retire()
		closed = all
		s.retiring.Go(func() {
			<-idle
			_ = h.vol.Close() // it is replaced
			if before != nil {
				<-before
			}
			s.mu.Lock()
			if s.closing[at] == all {
				delete(s.closing, at)
			}
			s.mu.Unlock()
			close(all)
		})
	}
	s.mu.Unlock()
	if closed == nil {
		return nil
	}
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reopen serves what lies of a volume on a disk, if something does and nothing is
// served.
func (s *Server) reopen(d *disk, v volume.ID) error {
	if s.handle(d.number, v) != nil {
		return nil
	}
	all, err := d.generations(v)
	if err != nil || len(all) == 0 {
		return err
	}
	vol, err := d.openKnown(v, all)
	s.serve(d, v, vol, err)
	return err
}

// joinSet brings the delete log up to the primary's, and asks that to admit the replica.
func (s *Server) joinSet(ctx context.Context, d *disk, j *job, row Row) error {
	primary := row.InSync[0]
	if gone, err := s.replacePrimary(ctx, row); gone || err != nil {
		return unavailable("volume %d: disk %d, which was its primary, is away: %w", j.v, primary, errors.Join(errAgain, err))
	}
	p, err := s.peerOf(primary)
	if err != nil {
		return err
	}
	for again := true; ; again = false {
		if err := s.bringLog(ctx, d, j.v, p, primary); err != nil {
			return err
		}
		err = s.askAdmission(ctx, p, primary, j.v, d.number)
		if !errors.Is(err, volume.ErrConflict) || !again {
			break
		}
	}
	if err == nil {
		s.o.Events(Event{Kind: EventFilled, Dir: d.dir, Volume: j.v, Disk: d.number})
		s.n.filled.Add(1)
	}
	return err
}

// replacePrimary takes a primary that is away out of the set, when another one can take
// its place: nobody is admitted by one that is lost, and nobody may come to delete
// anything, which would find that out too.
func (s *Server) replacePrimary(ctx context.Context, row Row) (gone bool, err error) {
	if s.up(row.InSync[0]) || !s.oneStands(ctx, row.Volume.Volume, row.InSync[1:]) {
		return false, nil
	}
	_, err = s.without(ctx, row.Volume.Volume, row.Sync, row.InSync[:1], nil)
	return err == nil, err
}

func (s *Server) askAdmission(ctx context.Context, p fellow, primary uint32, v volume.ID, joining uint32) error {
	ctx, end := s.within(ctx, logWait)
	defer end()
	return p.Admit(ctx, primary, v, joining)
}

// logOf is allDeletes within a time.
func (s *Server) logOf(ctx context.Context, p fellow, number uint32, v volume.ID) ([]volume.Delete, error) {
	ctx, end := s.within(ctx, logWait)
	defer end()
	return allDeletes(ctx, p, number, v)
}

// bringLog makes a delete log what the primary's is.
func (s *Server) bringLog(ctx context.Context, d *disk, v volume.ID, p fellow, primary uint32) error {
	want, err := s.logOf(ctx, p, primary, v)
	if err != nil {
		return err
	}
	h, err := s.served(d, v)
	if err != nil {
		return err
	}
	defer h.unpin()
	var have []volume.Delete
	_, err = h.vol.Deletes(ctx, 0, func(e volume.Delete) error {
		have = append(have, e)
		return nil
	})
	if err == nil && h.vol.Stats().Poisoned == nil && len(have) <= len(want) && slices.Equal(have, want[:len(have)]) {
		if len(have) == len(want) {
			return nil
		}
		if after := want[len(have)].Number - 1; len(have) == 0 && after == 0 || len(have) > 0 && have[len(have)-1].Number == after {
			if err = appendLog(ctx, h, after, want[len(have):]); err == nil {
				return nil
			}
		}
	}
	return h.vol.ReplaceDeleteLog(ctx, want)
}

// appendLog appends entries whose numbers follow one another from after on.
func appendLog(ctx context.Context, h *handle, after uint32, list []volume.Delete) error {
	keys := make([]id.ID, len(list))
	for i, e := range list {
		if e.Number != after+uint32(i)+1 {
			return fmt.Errorf("%w: delete %d is missing", volume.ErrConflict, after+uint32(i)+1)
		}
		keys[i] = e.Key
	}
	newest, err := h.vol.LogDeletes(ctx, after, keys)
	if err == nil && newest < after+uint32(len(keys)) {
		err = fmt.Errorf("%w: the log ends at %d", volume.ErrConflict, newest)
	}
	return err
}
