package coded

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// viewDir is the one directory of a view.
const viewDir = "coded"

// view is the file system that the engine is given: one directory with the files of
// one generation of one volume. While the volume is compacted, files of other
// generations are those of a real directory.
type view struct {
	ctx    context.Context // of reads; ends with the volume
	c      coding.Committed
	shards *shards
	log    *mirror

	volume, index, deletes string // names

	mu     sync.Mutex        // guards all below
	into   *coding.Home      // of the generation that is being made, or nil
	beside map[string][]byte // what was written beside the delete log, by name
}

func newView(ctx context.Context, c coding.Committed, s *shards, log *mirror) *view {
	return &view{ctx: ctx, c: c, shards: s, log: log, beside: make(map[string][]byte),
		volume: volume.FileName(c.Volume, c.Generation), index: volume.IndexName(c.Volume, c.Generation),
		deletes: volume.DeleteLogName(c.Volume)}
}

// route sends the files of other generations to home, or with nil nowhere.
func (w *view) route(home *coding.Home) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.into = home
}

// real returns where a file of another generation lies.
func (w *view) real(name string) (coding.Home, string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	base := filepath.Base(name)
	if w.into == nil || !w.foreign(base) {
		return coding.Home{}, "", false
	}
	return *w.into, filepath.Join(w.into.Dir, base), true
}

// foreign tells whether a name is that of another generation's file.
func (w *view) foreign(base string) bool {
	of := func(generation string) bool { return strings.HasPrefix(base, generation) }
	return of(fmt.Sprintf("%08x-", uint32(w.c.Volume))) && !of(fmt.Sprintf("%08x-%08x.", uint32(w.c.Volume), w.c.Generation))
}

// isBeside tells whether a name is that of a file that belongs to the delete log.
func (w *view) isBeside(base string) bool {
	return base != w.deletes && strings.HasPrefix(base, w.deletes)
}

func (w *view) missing(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// refuse is the answer to whoever would change what never changes.
func (w *view) refuse(op, name string) error {
	return &fs.PathError{Op: op, Path: name, Err: errFixed}
}

// Create implements vfs.FS.
func (w *view) Create(name string) (vfs.File, error) {
	if home, to, ok := w.real(name); ok {
		return home.FS.Create(to)
	}
	if base := filepath.Base(name); w.isBeside(base) {
		return &besideFile{w: w, name: base}, nil
	}
	return nil, w.refuse("create", name)
}

// Open implements vfs.FS.
func (w *view) Open(name string) (vfs.File, error) {
	if home, to, ok := w.real(name); ok {
		return home.FS.Open(to)
	}
	switch base := filepath.Base(name); {
	case base == w.volume:
		return volumeFile{fixed{name}, w}, nil
	case base == w.index && w.c.IndexBytes > 0:
		return indexFile{fixed{name}, w}, nil
	case base == w.deletes:
		return logFile{mirror: w.log}, nil
	case w.isBeside(base):
		w.mu.Lock()
		defer w.mu.Unlock()
		if b, ok := w.beside[base]; ok {
			return &besideFile{w: w, name: base, b: b}, nil
		}
	}
	return nil, w.missing("open", name)
}

// OpenDirect implements vfs.FS. What the engine reads this way goes from the shard's
// disk into the memory that it hands out.
func (w *view) OpenDirect(name string) (vfs.File, int, error) {
	if home, to, ok := w.real(name); ok {
		return home.FS.OpenDirect(to)
	}
	if filepath.Base(name) == w.volume {
		return volumeFile{fixed{name}, w}, pageSize, nil
	}
	return nil, 0, &fs.PathError{Op: "open", Path: name, Err: vfs.ErrNoDirect}
}

// OpenDirectWrite implements vfs.FS.
func (w *view) OpenDirectWrite(name string) (vfs.File, int, error) {
	if home, to, ok := w.real(name); ok {
		return home.FS.OpenDirectWrite(to)
	}
	return nil, 0, &fs.PathError{Op: "open", Path: name, Err: vfs.ErrNoDirect}
}

// OpenWrite implements vfs.FS.
func (w *view) OpenWrite(name string) (vfs.File, error) {
	if home, to, ok := w.real(name); ok {
		return home.FS.OpenWrite(to)
	}
	if filepath.Base(name) == w.deletes {
		return logFile{mirror: w.log, write: true}, nil
	}
	return w.Open(name)
}

// Remove implements vfs.FS.
func (w *view) Remove(name string) error {
	if home, to, ok := w.real(name); ok {
		return home.FS.Remove(to)
	}
	switch base := filepath.Base(name); base {
	case w.volume, w.index, w.deletes:
		return w.refuse("remove", name)
	}
	return w.missing("remove", name)
}

// Rename implements vfs.FS. It is what makes a file beside the delete log durable.
func (w *view) Rename(from, to string) error {
	if home, a, ok := w.real(from); ok {
		if _, b, ok := w.real(to); ok {
			return home.FS.Rename(a, b)
		}
		return w.refuse("rename", to)
	}
	a, b := filepath.Base(from), filepath.Base(to)
	w.mu.Lock()
	content, ok := w.beside[a]
	w.mu.Unlock()
	if !ok || !w.isBeside(b) {
		return w.refuse("rename", from)
	}
	if err := w.log.mark(b, content); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.beside, a)
	w.beside[b] = content
	return nil
}

// MkdirAll implements vfs.FS.
func (w *view) MkdirAll(name string) error { return w.refuse("mkdir", name) }

// ReadDir implements vfs.FS.
func (w *view) ReadDir(string) ([]string, error) {
	names := []string{w.volume, w.deletes}
	if w.c.IndexBytes > 0 {
		names = append(names, w.index)
	}
	w.mu.Lock()
	into := w.into
	w.mu.Unlock()
	if into != nil {
		more, err := into.FS.ReadDir(into.Dir)
		if err != nil {
			return nil, err
		}
		for _, n := range more {
			if w.foreign(n) {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	return names, nil
}

// Stat implements vfs.FS.
func (w *view) Stat(name string) (vfs.Info, error) {
	if home, to, ok := w.real(name); ok {
		return home.FS.Stat(to)
	}
	f, err := w.Open(name)
	if err != nil {
		return vfs.Info{}, err
	}
	size, err := f.Size()
	return vfs.Info{Size: size}, err
}

// SyncDir implements vfs.FS. The names of the copies of the delete log are durable
// since they were made.
func (w *view) SyncDir(string) error {
	w.mu.Lock()
	into := w.into
	w.mu.Unlock()
	if into == nil {
		return nil
	}
	return into.FS.SyncDir(into.Dir)
}
