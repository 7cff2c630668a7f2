package server

import (
	"context"
	"fmt"

	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
)

// infoOfCoded describes the shards of a volume as a replica of their own.
func (s *Server) infoOfCoded(v volume.ID) (i VolumeInfo, ok bool) {
	row, _ := s.o.Directory.Row(v)
	h := s.pin(0, v)
	if h == nil {
		return i, false
	}
	cv := h.coded
	away, _ := cv.lost()
	i = VolumeInfo{
		Volume: v, Class: cv.class, Generation: cv.c.Generation, Epoch: cv.c.Epoch, Of: cv.c.Shards(), Shards: cv.c.Shards() - len(away),
		State: "coded", Work: s.workOn(where{0, v}), Retry: s.coder.troubles.why(v),
	}
	if h.vol == nil {
		i.State, i.Sick, i.Shards = "sick", h.sick, len(row.Coding.Committed.Homes)-len(away)
		return i, true
	}
	defer h.unpin()
	i.Stats = h.vol.Stats()
	if rec, sealed := h.vol.Sealed(); sealed {
		i.Sealed = &rec
	}
	return i, true
}

// compact writes a coded volume anew without what is deleted, and codes that.
func (c *coder) compact(ctx context.Context, v volume.ID, report func(Progress)) (volume.SealRecord, error) {
	row, err := c.fresh(ctx, v)
	if err != nil {
		return volume.SealRecord{}, err
	}
	if st := row.Coding.State(); st != lifecycle.Released && st != lifecycle.Sealed && st != lifecycle.Coding {
		return volume.SealRecord{}, fmt.Errorf("%w: epoch %d of volume %d is in its grace: it can be written anew when its source was released", volume.ErrInvalid, row.Coding.Epoch, v)
	}
	rec, err := c.s.do(ctx, c, v, jobReclaim, report)
	if err != nil {
		return rec, err
	}
	_, err = c.s.do(ctx, c, v, jobEncode, report)
	return rec, err
}

// verify runs the engine's Check on a coded volume, read out of its shards, and
// then checks every shard for itself. What a shard has wrong that others make up
// for is a finding too.
func (c *coder) verify(ctx context.Context, v volume.ID, found func(volume.Finding), report func(Progress)) (sum volume.Report, err error) {
	h, err := c.served(v)
	if err != nil {
		return sum, err
	}
	defer h.unpin()
	if sum, err = c.s.verifyAt(ctx, h.vol, where{0, v}, &c.pace, found, report); err != nil {
		return sum, err
	}
	for i, p := range h.coded.places() {
		at, ok := c.siteOf(p.home)
		if p.file == nil || !ok {
			sum.Findings++
			found(volume.Finding{Kind: volume.FindingShard, Err: fmt.Errorf("shard %d: %w", i, p.why)})
			continue
		}
		o := coding.Options{Throttle: c.pace.wait}
		home, err := c.workplace(ctx, at, v, h.coded.c.Epoch, h.coded.term)
		if err != nil {
			return sum, err
		}
		err = coding.Check(ctx, home, h.coded.c.Plan, i, h.coded.c.Digests[i], o, func(f coding.Finding) {
			sum.Findings++
			h.coded.found(f)
			found(volume.Finding{Kind: volume.FindingShard, Offset: f.Offset, Length: f.Length, Err: fmt.Errorf("shard %d in %s: %w", i, at.name(), f.Err)})
		})
		if err != nil {
			return sum, err
		}
		sum.Bytes += h.coded.c.FileBytes()
	}
	return sum, nil
}
