package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"hayloft/volume"
)

const (
	// fenceWait is how long the seal of a volume waits for a replica that does not
	// answer. For the last but one it waits Options.RepairDelay.
	fenceWait = 30 * time.Second
	// askWait bounds each question of a coordinator that is answered at once.
	askWait = 5 * time.Second
	// helpersWait is how long the coordinator of a long step waits for other replicas
	// beyond the time that its own took.
	helpersWait = 10 * time.Minute
	// fetchWait bounds the wait for single needles.
	fetchWait  = 30 * time.Second
	sealRounds = 4
)

// sealing is the seal of a volume that has several replicas in sync; see decision
// 168. It is used by one goroutine but for what each says.
type sealing struct {
	s   *Server
	j   *job
	row Row
	all []*party // in the order of the row
}

// party is one replica of a volume, as its coordinator sees it.
type party struct {
	disk uint32
	peer fellow
	st   Standing
	here bool      // it has answered in this round
	lost time.Time // since when it does not answer; zero while it does
	out  error     // why it is left out for good, or nil
	gaps error     // why it was not sealed: something may be missing in it
}

func (s *Server) parties(row Row) (out []*party) {
	for _, n := range row.InSync {
		out = append(out, &party{disk: n})
	}
	return out
}

// active are those that are not left out.
func (u *sealing) active() (out []*party) {
	for _, p := range u.all {
		if p.here && p.out == nil {
			out = append(out, p)
		}
	}
	return out
}

// each calls fn for some parties at the same time.
func each(all []*party, fn func(*party)) {
	var wg sync.WaitGroup
	for _, p := range all {
		wg.Go(func() { fn(p) })
	}
	wg.Wait()
}

// sealTogether seals the replicas of a closing volume that are in sync, and has those
// committed that hold the same. poisoned: there is none but poisoned ones.
func (s *Server) sealTogether(ctx context.Context, d *disk, j *job, row Row) (poisoned bool, err error) {
	u := &sealing{s: s, j: j, row: row, all: s.parties(row)}
	for range sealRounds {
		if err := u.fence(ctx); err != nil {
			return errors.Is(err, volume.ErrPoisoned), err
		}
		if err = u.unite(ctx); err == nil {
			err = u.seal(ctx)
		}
		if err == nil {
			return false, u.commit(ctx, d)
		}
		if !errors.Is(err, errRound) || ctx.Err() != nil {
			break
		}
	}
	return false, err
}

// errRound: something changed or does not answer, and the seal begins again.
var errRound = errors.New("server: the replicas changed meanwhile")

// ask notes that a party does not answer, or leaves it out when it says why not.
func (u *sealing) ask(p *party, err error) {
	switch {
	case err == nil:
		p.lost = time.Time{}
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, volume.ErrClosed):
		p.here = false
		if p.lost.IsZero() {
			p.lost = u.s.o.Clock.Now()
		}
	default:
		p.out = err
	}
}

// fence fences all that answer, and waits for those that do not, as long as they are
// worth it.
func (u *sealing) fence(ctx context.Context) error {
	for _, p := range u.all {
		p.here = false
	}
	for {
		each(u.all, func(p *party) {
			if p.here || p.out != nil {
				return
			}
			peer, err := u.s.peerOf(p.disk)
			if err == nil {
				ctx, end := u.s.within(ctx, askWait)
				p.peer = peer
				p.st, err = peer.Fence(ctx, p.disk, u.row.Volume.Volume)
				end()
			}
			p.here = err == nil
			u.ask(p, err)
			if p.here {
				p.out = u.unfit(p.st)
			}
		})
		if err := ctx.Err(); err != nil {
			return err
		}
		if u.enough() {
			break
		}
		select {
		case <-u.s.o.Clock.After(time.Second):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, p := range u.all {
		if !p.here && p.out == nil {
			p.out = unavailable("it does not answer")
		}
	}
	if len(u.active()) == 0 {
		return u.nobody()
	}
	return nil
}

// unfit is why a replica cannot be sealed, or nil.
func (u *sealing) unfit(st Standing) error {
	switch {
	case st.Generation != u.row.Volume.Generation:
		return fmt.Errorf("%w: generation %d", volume.ErrNoVolume, st.Generation)
	case st.Poisoned:
		return volume.ErrPoisoned
	case !st.Fenced:
		return volume.ErrNotFenced
	}
	return nil
}

// enough reports whether those that do not answer are waited for no longer.
func (u *sealing) enough() bool {
	wait := fenceWait
	if len(u.active()) < 2 {
		wait = max(wait, u.s.o.RepairDelay)
	}
	k := u.s.look()
	var waiting []string
	for _, p := range u.all {
		if p.here || p.out != nil {
			continue
		}
		if max(k.now.Sub(p.lost), k.away(p.disk)) < wait {
			waiting = append(waiting, fmt.Sprint(p.disk))
		}
	}
	what := ""
	if len(waiting) > 0 {
		what = "waiting for disk " + strings.Join(waiting, ", ")
	}
	u.j.wants(what)
	return len(waiting) == 0
}

// nobody is the error when no replica can be sealed: ErrPoisoned when salvage is left. A
// poisoned replica in sync has all that was acknowledged, and those beside it are poisoned,
// have no file, or were waited for as long as a repair waits.
func (u *sealing) nobody() error {
	var errs []error
	for _, p := range u.all {
		errs = append(errs, fmt.Errorf("disk %d: %w", p.disk, p.out))
	}
	why := errors.New(errors.Join(errs...).Error())
	if slices.ContainsFunc(u.all, func(p *party) bool { return errors.Is(p.out, volume.ErrPoisoned) }) {
		return fmt.Errorf("%w: volume %d: %w", volume.ErrPoisoned, u.row.Volume.Volume, why)
	}
	return unavailable("volume %d: %w", u.row.Volume.Volume, why)
}

// base is the first replica that is sealed already: the others are made like it. nil
// when none is.
func (u *sealing) base() *party {
	for _, p := range u.active() {
		if p.st.Sealed != nil {
			return p
		}
	}
	return nil
}

// seal seals those that are not, first those in which nothing can be missing.
func (u *sealing) seal(ctx context.Context) error {
	info := sealInfo(u.row)
	if err := u.sealSome(ctx, info, func(p *party) bool { return p.st.Sealed == nil }); err != nil {
		return err
	}
	if u.base() == nil {
		for _, p := range u.active() {
			if p.gaps != nil {
				return p.gaps // what is missing there may be missing everywhere
			}
		}
		return errRound
	}
	info.United = true
	if err := u.sealSome(ctx, info, func(p *party) bool { return p.gaps != nil }); err != nil {
		return err
	}
	for _, p := range u.all {
		if p.out == nil && !p.here {
			return errRound // it may be back, and sealed
		}
	}
	return nil
}

// sealSome has those sealed for which want holds, at the same time.
func (u *sealing) sealSome(ctx context.Context, info volume.SealInfo, want func(*party) bool) error {
	var some []*party
	for _, p := range u.active() {
		if want(p) {
			p.gaps = nil
			some = append(some, p)
		}
	}
	v := u.row.Volume.Volume
	u.s.together(ctx, some, func(ctx context.Context, p *party) {
		got, err := p.peer.Seal(ctx, p.disk, v, info)
		if errors.Is(err, volume.ErrConflict) { // sealed with the words of another row
			if p.st, err = p.peer.Standing(ctx, p.disk, v); err == nil && p.st.Sealed != nil {
				return
			}
		}
		switch {
		case err == nil:
			p.st.Sealed = &got
		case errors.Is(err, volume.ErrCorrupt) && !info.United:
			p.gaps = err
		default:
			u.ask(p, err)
		}
	})
	return ctx.Err()
}

// together calls fn for several replicas at the same time. When the first has come to
// its end, the others have as long again, and helpersWait.
func (s *Server) together(ctx context.Context, all []*party, fn func(context.Context, *party)) {
	if len(all) == 0 {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled)
	began := s.o.Clock.Now()
	ended := make(chan struct{}, len(all))
	for _, p := range all {
		go func() {
			fn(ctx, p)
			ended <- struct{}{}
		}()
	}
	var late <-chan time.Time
	for left := len(all); left > 0; {
		select {
		case <-ended:
			left--
			if late == nil {
				late = s.o.Clock.After(s.o.Clock.Now().Sub(began) + helpersWait)
			}
		case <-late:
			late = nil
			cancel(errNoAnswer)
			for ; left > 0; left-- {
				<-ended
			}
		}
	}
}

// commit has those committed that hold the same as most do; of two such groups it is
// the one with the first.
func (u *sealing) commit(ctx context.Context, d *disk) error {
	groups := make(map[volume.Digest][]uint32)
	var best *Sealed
	for _, p := range u.active() {
		if p.st.Sealed != nil {
			groups[p.st.Sealed.Digest] = append(groups[p.st.Sealed.Digest], p.disk)
		}
	}
	for _, p := range u.active() {
		if p.st.Sealed != nil && (best == nil || len(groups[p.st.Sealed.Digest]) > len(groups[best.Digest])) {
			best = p.st.Sealed
		}
	}
	v, disks := u.row.Volume, groups[best.Digest]
	if _, err := u.s.decide(ctx, func(ctx context.Context) (Row, error) {
		return u.s.o.Directory.SealVolume(ctx, v.Volume, v.Generation, disks, *best)
	}); err != nil {
		return err
	}
	u.s.n.seals.Add(1)
	u.s.o.Events(Event{Kind: EventSealed, Dir: d.dir, Volume: v.Volume})
	for _, p := range u.all {
		if slices.Contains(disks, p.disk) {
			continue
		}
		why := p.out
		if why == nil {
			why = fmt.Errorf("%w: it does not hold what the others do", volume.ErrConflict)
		}
		u.s.o.Events(Event{Kind: EventLeftSync, Dir: d.dir, Volume: v.Volume, Disk: p.disk, Err: why})
	}
	return nil
}
