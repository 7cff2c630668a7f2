package coded

import (
	"context"
	"errors"
	"fmt"
	"math"

	"hayloft/volume"
)

// CheckLogs reads every copy of the delete log that is in the set, as its device holds
// it, and takes out of the set those that have lost a delete: the error says which,
// and SetLogs copies the log there anew. One without which too few would be left
// stays. Check of the engine reads one copy.
func (v *Volume) CheckLogs(ctx context.Context) error {
	n, err := v.engine.Deletes(ctx, math.MaxUint32, nil)
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range v.log.states() {
		if !s.InSet {
			continue
		}
		got := make(chan error, 1)
		go func() { got <- checkLog(s.LogCopy, v.c.Volume, n) }()
		select {
		case err = <-got:
		case <-ctx.Done():
			return errors.Join(append(errs, ctx.Err())...)
		}
		if err != nil {
			err = fmt.Errorf("%v: %w", s.LogCopy, err)
			v.log.doubt(s.LogCopy, err)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// checkLog says what is wrong with a copy that ought to have n deletes, and may have
// more by now.
func checkLog(at LogCopy, v volume.ID, n uint32) error {
	log, err := volume.ReadDeleteLog(at.Home.FS, at.Home.Dir, v)
	if err = errors.Join(err, log.Doubt); err != nil {
		return err
	}
	if len(log.Deletes) < int(n) {
		return fmt.Errorf("%w: the delete log of volume %d has %d deletes of %d", volume.ErrCorrupt, v, len(log.Deletes), n)
	}
	return nil
}

// doubt takes a copy out of the set if enough others are left.
func (m *mirror) doubt(at LogCopy, err error) {
	m.changing.Lock()
	defer m.changing.Unlock()
	m.mu.Lock()
	p := m.find(at)
	spare := p != nil && p.file != nil && len(m.setLocked()) > m.tolerance+1
	m.mu.Unlock()
	if spare {
		m.leave(p, err, nil)
	}
}
