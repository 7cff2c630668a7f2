package steward

import (
	"context"
	"errors"
	"fmt"

	"hayloft/directory"
	"hayloft/directory/plan"
)

// volumes are the rows as far as placement goes, with the targets that raise gives
// them: a plan need not wait for it.
func (s *Steward) volumes(m *directory.Map) []plan.Volume {
	out := Volumes(m)
	for i := range out {
		if v := &out[i]; v.Movable {
			v.Target = max(v.Target, s.o.Replicas)
		}
	}
	return out
}

// raise has rows say that sealed volumes should have as many replicas as is usual
// here: those that a node wrote when it was alone say one. It lowers none, so what the
// next leader thinks takes no replica away.
func (s *Steward) raise(ctx context.Context, m *directory.Map) error {
	var failed []error
	raised := 0
	for _, v := range m.Volumes() {
		if int(v.Target) >= s.o.Replicas || v.State != directory.StateSealed || v.Coding.Committed != nil {
			continue
		}
		if raised++; raised > maxRaised {
			break // the next round goes on
		}
		_, err := s.o.Directory.SetTarget(ctx, v.ID, s.o.Replicas, v.Sync)
		if err == nil || errors.Is(err, directory.ErrStale) {
			continue
		}
		failed = append(failed, fmt.Errorf("raise volume %d to %d replicas: %w", v.ID, s.o.Replicas, err))
		if errors.Is(err, directory.ErrUnavailable) || ctx.Err() != nil {
			break
		}
	}
	return errors.Join(failed...)
}
