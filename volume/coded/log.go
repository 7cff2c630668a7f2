package coded

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// WriteLog makes the delete log of volume v in dir, with these deletes in this order,
// numbered from 1; it serves to carry the log of a source over to the homes of the
// shards. After a crash the name has its old content or the new one. A log that is
// in use there is vfs.ErrLocked, and one that has a delete which these lack is
// volume.ErrConflict: no delete is ever taken back.
func WriteLog(fsys vfs.FS, dir string, v volume.ID, deletes []volume.Delete) (err error) {
	at := LogCopy{Home: coding.Home{FS: fsys, Dir: dir}}
	end, ok := claim(at)
	if !ok {
		return fmt.Errorf("delete log of volume %d in %s: %w", v, dir, errBusy)
	}
	defer end()
	keys := make([]id.ID, len(deletes))
	have := make(map[id.ID]bool, len(deletes))
	for i, d := range deletes {
		keys[i] = d.Key
		have[d.Key] = true
	}
	content, err := volume.EncodeDeleteLog(v, keys, clock.Real{}.Now())
	if err != nil {
		return err
	}
	before, err := fsys.OpenWrite(at.path(v))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		defer func() { err = errors.Join(err, before.Close()) }()
		log, err := volume.ReadDeleteLog(fsys, dir, v)
		if err != nil && !errors.Is(err, volume.ErrCorrupt) {
			return err
		}
		for _, d := range log.Deletes {
			if !have[d.Key] {
				return fmt.Errorf("%w: the delete log of volume %d in %s has a delete of %v", volume.ErrConflict, v, dir, d.Key)
			}
		}
	}
	file, err := putLog(context.Background(), at, v, content)
	if err != nil {
		return err
	}
	return file.Close()
}

// ReadLog returns the deletes of a delete log, and changes nothing. One that is not
// there is fs.ErrNotExist, one of which a delete may be lost volume.ErrCorrupt.
func ReadLog(fsys vfs.FS, dir string, v volume.ID) ([]volume.Delete, error) {
	log, err := volume.ReadDeleteLog(fsys, dir, v)
	if err = errors.Join(err, log.Doubt); err != nil {
		return nil, err
	}
	return log.Deletes, nil
}
