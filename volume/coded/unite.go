package coded

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

// copyFound is what a place has. Its file is open and locked, if there is one.
type copyFound struct {
	file vfs.File
	log  volume.DeleteLog
	sum  [sha256.Size]byte // of the file
	size int64
	// lost is why the copy does not count as read; a new one may take its place.
	lost error
}

// look reads a place, as its device holds it. The error means that the place cannot
// be used at all.
func look(at LogCopy, v volume.ID) (f copyFound, err error) {
	f.file, err = at.Home.FS.OpenWrite(at.path(v))
	if errors.Is(err, fs.ErrNotExist) {
		f.lost = fmt.Errorf("it is not there: %w", err)
		return f, nil
	}
	if err != nil {
		return f, err
	}
	// What another process wrote and did not sync is not known to stay.
	if err = errors.Join(f.file.Sync(), at.Home.FS.SyncDir(at.Home.Dir)); err == nil {
		f.log, err = volume.ReadDeleteLog(at.Home.FS, at.Home.Dir, v)
	}
	switch {
	case errors.Is(err, volume.ErrCorrupt):
		f.lost, err = err, nil
	case err == nil && f.log.Doubt != nil:
		f.lost = f.log.Doubt
	case err == nil:
		err = f.hash()
	}
	if err != nil {
		return copyFound{}, errors.Join(err, f.file.Close())
	}
	return f, nil
}

// hash reads the whole file.
func (f *copyFound) hash() error {
	size, err := f.file.Size()
	if err != nil {
		return err
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f.file, 0, size)); err != nil {
		return err
	}
	f.size, f.sum = size, [sha256.Size]byte(h.Sum(nil))
	return nil
}

func (f *copyFound) close() {
	if f.file != nil {
		_ = f.file.Close() // it was only read
	}
}

// unite reads the copies of the delete log and returns the mirror over them, in
// which every key of every copy is deleted.
func unite(ctx context.Context, v volume.ID, logs []LogCopy, o Options) (*mirror, error) {
	must := len(logs) - o.Tolerance // so many have to be read
	look := func(_ context.Context, at LogCopy) (copyFound, error) { return look(at, v) }
	enough := func(all []answer[copyFound]) bool { return tooFew(v, logs, all, must) == nil }
	found := ask(ctx, logs, look, enough, o.Engine.Clock, o.LogTimeout,
		func(f copyFound, _ error) { f.close() })
	m := &mirror{v: v, o: o, tolerance: o.Tolerance}
	for _, at := range logs {
		m.places = append(m.places, &place{LogCopy: at})
	}
	if err := errors.Join(ctx.Err(), tooFew(v, logs, found, must)); err != nil {
		closeAll(found)
		return nil, err
	}
	if same(found) {
		m.adopt(found)
		return m, nil
	}
	err := m.rewrite(ctx, found)
	closeAll(found)
	if err != nil {
		return nil, err
	}
	return m, nil
}

func closeAll(found []answer[copyFound]) {
	for i := range found {
		found[i].value.close()
	}
}

// tooFew names the copies that are lost when they are too many.
func tooFew(v volume.ID, logs []LogCopy, found []answer[copyFound], must int) error {
	var lost []error
	for i := range found {
		if err := errors.Join(found[i].err, found[i].value.lost); err != nil {
			lost = append(lost, fmt.Errorf("%v: %w", logs[i], err))
		}
	}
	if len(logs)-len(lost) >= must {
		return nil
	}
	return fmt.Errorf("%w: %d of %d copies of the delete log of volume %d cannot be read, %d may be lost: %w",
		ErrDeletesUnsure, len(lost), len(logs), v, len(logs)-must, errors.Join(lost...))
}

// same tells whether all places that can be used have the same settled log.
func same(found []answer[copyFound]) bool {
	var first *copyFound
	for i := range found {
		f := &found[i].value
		if found[i].err != nil {
			continue
		}
		if f.lost != nil || !f.log.Settled {
			return false
		}
		if first == nil {
			first = f
		}
		if f.size != first.size || f.sum != first.sum {
			return false
		}
	}
	return first != nil
}

// adopt makes the files that were found the mirror.
func (m *mirror) adopt(found []answer[copyFound]) {
	for i := range found {
		p := m.places[i]
		if p.err = found[i].err; p.err != nil {
			m.o.Events(Event{Kind: EventLogLeft, Volume: m.v, Log: p.LogCopy, Err: p.err})
			continue
		}
		p.file = found[i].value.file
		m.end, m.settled = found[i].value.size, found[i].value.size
	}
}

// union lists every key of every copy: those of the copy with most deletes first,
// in its order, so that numbers stay what they were.
func union(found []answer[copyFound]) []id.ID {
	most := 0
	for i := range found {
		if len(found[i].value.log.Deletes) > len(found[most].value.log.Deletes) {
			most = i
		}
	}
	var keys []id.ID
	seen := make(map[id.ID]bool)
	add := func(log *volume.DeleteLog) {
		for _, d := range log.Deletes {
			if !seen[d.Key] {
				seen[d.Key] = true
				keys = append(keys, d.Key)
			}
		}
	}
	add(&found[most].value.log)
	for i := range found {
		add(&found[i].value.log)
	}
	return keys
}

// rewrite makes a new log of what all copies have, at every place that can be used.
// The old files are replaced one by one, each by one that has at least as much.
func (m *mirror) rewrite(ctx context.Context, found []answer[copyFound]) error {
	keys := union(found)
	content, err := volume.EncodeDeleteLog(m.v, keys, m.o.Engine.Clock.Now())
	if err != nil {
		return err
	}
	var places []LogCopy
	var at []*place
	for i, p := range m.places {
		if p.err = found[i].err; p.err == nil {
			places, at = append(places, p.LogCopy), append(at, p)
		}
	}
	put := func(ctx context.Context, at LogCopy) (vfs.File, error) { return putLog(ctx, at, m.v, content) }
	late := func(f vfs.File, err error) {
		if err == nil {
			_ = f.Close() // nobody waited for it
		}
	}
	made := ask(ctx, places, put, func(all []answer[vfs.File]) bool { return good(all) > m.tolerance }, m.o.Engine.Clock, m.o.LogTimeout, late)
	for i, a := range made {
		at[i].file, at[i].err = a.value, a.err
	}
	m.end, m.settled = int64(len(content)), int64(len(content))
	if err := ctx.Err(); err != nil {
		return errors.Join(err, m.close())
	}
	m.o.Events(Event{Kind: EventLogsUnited, Volume: m.v, Deletes: len(keys)})
	for _, p := range m.places {
		if p.err != nil {
			m.o.Events(Event{Kind: EventLogLeft, Volume: m.v, Log: p.LogCopy, Err: p.err})
		}
	}
	return nil
}
