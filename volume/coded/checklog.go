package coded

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
)

// CheckLog reads the copy of the delete log at a place from its device, as far as it
// never changes any more, verifies every record and both superblocks, and looks whether
// every delete that the volume knows is in it. It returns how many bytes it read. What
// is wrong with the copy is volume.ErrCorrupt or fs.ErrNotExist: RemakeLog makes it
// again. At a place whose copy does not count it is ErrNotInSet: SetLogs makes one.
func (v *Volume) CheckLog(ctx context.Context, at LogCopy) (int64, error) {
	m := v.log
	deletes := make(map[id.ID]bool)
	if _, err := v.engine.Deletes(ctx, 0, func(d volume.Delete) error { deletes[d.Key] = true; return nil }); err != nil {
		return 0, err
	}
	p, n := m.settledAt(at)
	if p == nil {
		return 0, fmt.Errorf("%w: no copy of the delete log of volume %d at %v", ErrNotInSet, m.v, at)
	}
	if err := volume.CheckDeleteLog(at.Home.FS, at.Home.Dir, m.v, n); err != nil {
		return n, err
	}
	all, err := ReadLog(at.Home.FS, at.Home.Dir, m.v)
	if err != nil {
		return n, err
	}
	for _, d := range all {
		delete(deletes, d.Key)
	}
	if len(deletes) > 0 {
		return n, fmt.Errorf("%w: %d deletes of volume %d are not in its delete log at %v", volume.ErrCorrupt, len(deletes), m.v, at)
	}
	return n, nil
}

// ErrNotInSet: there is no copy of the delete log at a place that counts.
var ErrNotInSet = errors.New("not in the set")

// settledAt returns the place of a copy that is in the set, and how many of its bytes
// never change again.
func (m *mirror) settledAt(at LogCopy) (*place, int64) {
	m.changing.Lock()
	defer m.changing.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.find(at)
	if p == nil || p.file == nil {
		return nil, 0
	}
	return p, m.settled
}

// RemakeLog makes the copy of the delete log at a place again, out of one with nothing
// wrong in it, and returns when it is in the set. Deletes wait for the last part of it
// only. A copy that is in the set is given up for that at the last moment, so with
// just as many as it takes nothing is begun.
func (v *Volume) RemakeLog(ctx context.Context, at LogCopy) error {
	v.setting.Lock()
	defer v.setting.Unlock()
	if err := v.engine.Stats().Poisoned; err != nil {
		return err
	}
	m := v.log
	p, n := m.settledAt(at)
	if p == nil {
		return fmt.Errorf("%w: no copy of the delete log of volume %d at %v", ErrNotInSet, m.v, at)
	}
	set := m.set()
	if err := m.enough(len(set)-1, nil); err != nil {
		return fmt.Errorf("delete log of volume %d: %w", m.v, err)
	}
	errs := []error{fmt.Errorf("%w: no copy of the delete log of volume %d is right", volume.ErrCorrupt, m.v)}
	for _, other := range set {
		if other == p {
			continue
		}
		err := m.inTime(n, func() error { return volume.CheckDeleteLog(other.Home.FS, other.Home.Dir, m.v, n) })
		if err == nil {
			return m.remake(ctx, p, other.LogCopy)
		}
		errs = append(errs, fmt.Errorf("%v: %w", other.LogCopy, err))
	}
	return errors.Join(errs...)
}

// inTime runs fn, which reads n bytes of one copy, and waits for it only as long as that
// may take.
func (m *mirror) inTime(n int64, fn func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- fn() }()
	select {
	case err := <-ended:
		return err
	case <-m.o.Engine.Clock.After(m.o.LogTimeout * time.Duration(1+n/slowStep)):
		return errLate
	}
}

// slowStep is what a slow disk reads in Options.LogTimeout, in bytes.
const slowStep = 16 << 20

func (m *mirror) remake(ctx context.Context, p *place, from LogCopy) error {
	f, err := from.Home.FS.Open(from.path(m.v))
	if err != nil {
		return err
	}
	var reading sync.WaitGroup
	err = m.addFrom(ctx, p, func(b []byte, off int64) (int, error) {
		own, n := make([]byte, len(b)), 0 // a read that is late keeps both
		reading.Add(1)
		err := m.inTime(0, func() (err error) {
			defer reading.Done()
			n, err = f.ReadAt(own, off)
			return err
		})
		if errors.Is(err, errLate) {
			return 0, err
		}
		return copy(b, own[:n]), err
	})
	go func() {
		reading.Wait()
		_ = f.Close() // it was only read
	}()
	return err
}

// ReadSource fills b with bytes of the source from off, each verified by the sum of its
// block, out of whatever shards have them. It serves to make good a copy of the source.
func (v *Volume) ReadSource(ctx context.Context, b []byte, off int64) error {
	set, err := v.shards.use()
	if err != nil {
		return err
	}
	defer v.shards.leave(set)
	_, err = set.reader.ReadSurely(ctx, b, off)
	return err
}
