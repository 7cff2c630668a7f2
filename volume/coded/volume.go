package coded

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"

	"hayloft/volume"
	"hayloft/volume/coding"
)

// Volume is a coded volume in service.
type Volume struct {
	c      coding.Committed
	o      Options
	engine *volume.Volume
	view   *view
	shards *shards
	log    *mirror
	end    context.CancelFunc // of reads

	compacting sync.Mutex // held by Compact
	setting    sync.Mutex // held by SetLogs
}

// Open opens the volume of a committed epoch. shards has one entry for each number,
// nil for those that cannot be reached; logs names all places where a copy of its
// delete log ought to be. It is ErrDeletesUnsure when too few of them can be read,
// and a *coding.LostError when no shard is there. With fewer than Tolerance+1 copies
// that can be written it opens, and refuses deletes. ctx is that of the call. After an
// error Options.Unused has been told of all shards, unless the arguments are invalid.
func Open(ctx context.Context, c coding.Committed, class volume.Class, shards []coding.Shard, logs []LogCopy, o Options) (*Volume, error) {
	if err := errors.Join(c.Validate(), o.Validate(), validLogs(logs, o.Tolerance)); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	v := &Volume{c: c, o: o}
	var err error
	if v.shards, err = newShards(c, shards, o); err != nil {
		return nil, err
	}
	if err = v.open(ctx, class, logs); err != nil {
		v.shards.close()
		return nil, fmt.Errorf("open coded volume %d epoch %d: %w", c.Volume, c.Epoch, err)
	}
	return v, nil
}

func (v *Volume) open(ctx context.Context, class volume.Class, logs []LogCopy) (err error) {
	if v.log, err = unite(ctx, v.c.Volume, logs, v.o); err != nil {
		return err
	}
	reads, end := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, end)
	v.end = end
	v.view = newView(reads, v.c, v.shards, v.log)
	o := v.o.Engine
	o.FS, o.PageCache = v.view, false
	v.engine, err = volume.OpenGeneration(viewDir, v.c.Volume, v.c.Generation, o)
	if err == nil {
		if err = v.verify(ctx, class); err != nil {
			err = errors.Join(err, v.engine.Close())
		}
	}
	if !stop() && err == nil {
		err = errors.Join(ctx.Err(), v.engine.Close())
	}
	if err != nil {
		end()
		err = errors.Join(err, v.log.close())
	}
	return err
}

// verify compares what was opened with the commit.
func (v *Volume) verify(ctx context.Context, class volume.Class) error {
	rec, sealed := v.engine.Sealed()
	if id := v.engine.Identity(); !sealed || id.Class != class || rec.Digest != v.c.SourceDigest || rec.End != v.c.SourceBytes {
		return fmt.Errorf("%w: the shards hold generation %d of class %v with digest %x, %d bytes",
			volume.ErrCorrupt, id.Generation, id.Class, rec.Digest[:8], rec.End)
	}
	n, err := v.engine.Deletes(ctx, math.MaxUint32, nil)
	if err == nil && n < rec.Deletes {
		err = fmt.Errorf("%w: the delete log ends at %d, and the file was made over %d", ErrDeletesUnsure, n, rec.Deletes)
	}
	return err
}

// Engine is the engine that serves the volume. Who closes it calls Close of the
// Volume instead, and its Compact is that of the Volume too.
func (v *Volume) Engine() *volume.Volume { return v.engine }

// SetShards gives the shards for all reads that begin from now on, as with Open: when
// some moved, were made again, or went away. Reads under way end with those they
// began with. A shard that was left out once is not given again: it is opened anew.
func (v *Volume) SetShards(shards []coding.Shard) error { return v.shards.set(shards) }

// Logs says how the copies of the delete log are, place by place.
func (v *Volume) Logs() []LogState { return v.log.states() }

// CloseLog gives up the delete log, so that another Volume can be opened over it while
// reads of this one go on. It is for one that is poisoned: no delete is taken any more.
func (v *Volume) CloseLog() error { return v.log.close() }

// Compact writes the next generation as an ordinary sealed file with its index into
// a directory, as volume.Compact does, and returns what its superblock says. The
// file is closed again. No delete log is put beside it: see WriteLog. The volume
// goes on serving its own generation.
func (v *Volume) Compact(ctx context.Context, into coding.Home, o volume.CompactOptions) (volume.SealRecord, error) {
	v.compacting.Lock()
	defer v.compacting.Unlock()
	v.view.route(&into)
	defer v.view.route(nil)
	next, err := v.engine.Compact(ctx, o)
	if err != nil {
		return volume.SealRecord{}, err
	}
	rec, _ := next.Sealed() // Compact makes nothing else
	return rec, next.Close()
}

// Close ends as that of the engine does: it waits for reads in flight. It waits for no
// copy of the delete log longer than LogTimeout.
func (v *Volume) Close() error {
	err := v.engine.Close()
	if errors.Is(err, volume.ErrClosed) {
		return err
	}
	v.end()
	err = errors.Join(err, v.log.close())
	v.shards.close()
	return err
}
