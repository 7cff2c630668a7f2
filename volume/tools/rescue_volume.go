package tools

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/internal/vfs/overlay"
	"hayloft/volume"
)

// pair names a needle inside a volume.
type pair struct {
	key id.ID
	alt uint8
}

// damagedNeedle is one whose header is valid and whose data is not.
type damagedNeedle struct {
	generation uint32
	why        error
}

// rescued is the work on one volume.
type rescued struct {
	*remains
	o    RescueOptions
	sink RescueSink
	fs   *overlay.FS
	row  RescuedVolume

	copies []*remnant // newest generation first; of one generation files first, then epochs, the newest first
	dead   map[id.ID]bool
	done   map[pair]bool // handed out, or not wanted
	bad    map[pair]damagedNeedle

	// catalog lists what was live in the newest generation that has one; listed
	// says whose it is. Without any, listed is the newest sealed copy.
	catalog *volume.Catalog
	listed  volume.Origin
}

// remnant is one copy of the volume: a file, or an epoch.
type remnant struct {
	row        RescuedCopy
	what       string // for people
	generation uint32
	origin     *volume.Origin // nil: it cannot be read at all
	at         io.ReaderAt
	size       int64
	epoch      *epoch // nil: a file
	path       string // of a file

	whole   bool // read to its end, and nothing was missing
	deletes bool // a delete may be missing in it
}

// volume rescues one volume. It is nil for one of which nothing is wanted.
func (r *Rescue) volume(ctx context.Context, m *remains, s RescueSink) (row *RescuedVolume, err error) {
	v := &rescued{remains: m, o: r.o, sink: s, fs: &overlay.FS{}, row: RescuedVolume{ID: m.id, Copies: []RescuedCopy{}, Problems: []string{}},
		dead: make(map[id.ID]bool), done: make(map[pair]bool), bad: make(map[pair]damagedNeedle)}
	defer func() { err = errors.Join(err, v.fs.Close()) }()
	v.openFiles()
	v.openShards(ctx)
	v.sort()
	if class := v.class(); class != 0 {
		if v.row.Class = class.String(); class == volume.ClassVariants && !r.o.All {
			return nil, nil
		}
	}
	v.chooseCatalog()
	if err := v.readDeletes(ctx); err != nil {
		return nil, err
	}
	for _, c := range v.copies {
		if c.origin == nil || !v.o.Deleted && v.sameTile(c) && v.complete() {
			continue
		}
		if err := v.read(ctx, c); err != nil {
			return nil, err
		}
	}
	return &v.row, v.settle()
}

// openFiles opens the volume files.
func (v *rescued) openFiles() {
	for _, f := range v.files {
		c := &remnant{what: fmt.Sprintf("generation %d in %s", f.generation, filepath.Dir(filepath.Dir(f.path))), generation: f.generation, path: f.path,
			row: RescuedCopy{Generation: f.generation, File: f.path}}
		v.copies = append(v.copies, c)
		file, err := v.fs.Open(f.path)
		if err == nil {
			if c.size, err = file.Size(); err == nil {
				err = file.Evict(0, 0) // what counts is what the device holds
			}
			c.at = file
		}
		if err == nil {
			err = c.identify(v.id, file)
		}
		if err != nil {
			c.damage("%s", OneLine(err))
		}
	}
}

// identify reads who the file says it is, from head.
func (c *remnant) identify(v volume.ID, head io.ReaderAt) error {
	o, err := volume.ReadOrigin(head)
	if err == nil && (o.Volume != v || o.Generation != c.generation || o.DeleteLog) {
		err = fmt.Errorf("%w: it says that it is volume %d, generation %d", volume.ErrCorrupt, o.Volume, o.Generation)
	}
	if err == nil {
		c.origin = &o
	}
	return err
}

// openShards opens the shards, and lends the superblocks that they hold to files
// which have none of their own left.
func (v *rescued) openShards(ctx context.Context) {
	epochs := openEpochs(ctx, v.fs, v.id, v.shards, func(path string, err error) {
		c := &remnant{what: "the shard " + path, row: RescuedCopy{Shards: []string{path}}}
		c.damage("%s", OneLine(err))
		v.copies = append(v.copies, c)
	})
	for _, e := range epochs {
		p := e.plan
		c := &remnant{what: fmt.Sprintf("generation %d epoch %d (%s)", p.Generation, p.Epoch, p.Policy), generation: p.Generation, epoch: e, at: e, size: p.SourceBytes,
			row: RescuedCopy{Generation: p.Generation, Epoch: p.Epoch, Policy: p.Policy.String(), Shards: e.names}}
		v.copies = append(v.copies, c)
		head := bytes.NewReader(e.head.Superblock)
		if err := c.identify(v.id, head); err != nil {
			c.damage("%s", OneLine(err))
			continue
		}
		if text := e.shortage(); text != "" {
			c.damage("%s", text)
		}
		c.at = &headed{head: e.head.Superblock, rest: e}
		for _, f := range v.copies {
			if f.origin == nil && f.at != nil && f.epoch == nil && f.generation == c.generation && f.identify(v.id, head) == nil {
				f.at = &headed{head: e.head.Superblock, rest: f.at}
			}
		}
	}
}

// headed is a file with other bytes at its beginning.
type headed struct {
	head []byte
	rest io.ReaderAt
}

// ReadAt implements io.ReaderAt.
func (h *headed) ReadAt(p []byte, off int64) (n int, err error) {
	if off < int64(len(h.head)) {
		n = copy(p, h.head[off:])
	}
	if n == len(p) {
		return n, nil
	}
	m, err := h.rest.ReadAt(p[n:], off+int64(n))
	return n + m, err
}

// sort puts the newest and simplest first.
func (v *rescued) sort() {
	slices.SortStableFunc(v.copies, func(a, b *remnant) int {
		few := func(c *remnant) int {
			switch {
			case c.epoch == nil:
				return 0
			case c.epoch.decodes():
				return 1
			}
			return 2
		}
		return cmp.Or(cmp.Compare(b.generation, a.generation), cmp.Compare(few(a), few(b)), cmp.Compare(b.row.Epoch, a.row.Epoch))
	})
}

func (v *rescued) class() volume.Class {
	for _, c := range v.copies {
		if c.origin != nil {
			return c.origin.Class
		}
	}
	return 0
}

// newest is the newest generation of which anything can be read, or 0.
func (v *rescued) newest() uint32 {
	for _, c := range v.copies {
		if c.origin != nil {
			return c.generation
		}
	}
	return 0
}

// chooseCatalog takes the first index that is whole.
func (v *rescued) chooseCatalog() {
	for _, c := range v.copies {
		if c.origin == nil || c.origin.Seal == nil {
			continue
		}
		var got *volume.Catalog
		var err error
		if c.epoch != nil {
			got, err = c.epoch.catalog(*c.origin)
		} else {
			var b []byte
			if b, err = vfs.ReadFile(v.fs, filepath.Join(filepath.Dir(c.path), volume.IndexName(v.id, c.generation)), 1<<32); err == nil {
				got, err = c.origin.Catalog(b)
			}
		}
		if err == nil {
			v.catalog, v.listed = got, *c.origin
			return
		}
		if v.listed.Seal == nil {
			v.listed = *c.origin
		}
	}
}

// sameTile tells whether a copy is surely of the volume that the catalog lists:
// numbers come again when a directory was lost and another one made.
func (v *rescued) sameTile(c *remnant) bool {
	a, b := c.origin.Seal, v.listed.Seal
	return a != nil && b != nil && a.Slot == b.Slot && a.From == b.From && a.To == b.To
}

// deleted tells whether a needle that a copy holds was deleted. What a newer sealed
// generation does not list was deleted before that was made.
func (v *rescued) deleted(generation uint32, p pair) bool {
	if v.dead[p.key] {
		return true
	}
	if v.catalog == nil || generation > v.listed.Generation {
		return false
	}
	s := v.listed.Seal
	inside := p.key.Slot() == s.Slot && p.key.Millis() >= s.From && p.key.Millis() <= s.To
	return inside && !v.catalog.Has(p.key, p.alt)
}

// reading is one walk through a copy.
type reading struct {
	*remnant
	synced int64   // everything before this offset was on stable storage
	gaps   []int64 // offsets where no record was found
	bad    []volume.Record
}

// read hands out what a copy has and no other had before.
func (v *rescued) read(ctx context.Context, c *remnant) error {
	c.row.Read = true
	w := &reading{remnant: c}
	if c.origin.Seal != nil {
		w.synced = c.origin.Seal.End
	}
	var failed error
	_, err := volume.ScanAt(c.at, c.size, true, func(r volume.Record) error {
		if failed = ctx.Err(); failed != nil {
			return failed
		}
		w.synced = max(w.synced, r.SyncedTo)
		switch {
		case r.Kind == 0:
			w.gaps = append(w.gaps, r.Offset)
		case r.Kind == volume.KindNeedle && r.Err != nil:
			r.Data = nil
			w.bad = append(w.bad, r)
		case r.Kind == volume.KindNeedle:
			failed = v.needle(c, &r)
		}
		return failed
	})
	if err := errors.Join(failed, ctx.Err()); err != nil {
		return err
	}
	if err != nil {
		c.damage("not read to its end: %s", OneLine(err))
	}
	v.judge(w, err == nil)
	return nil
}

// judge notes what was wrong with a copy. Behind what was known to be synced it was
// never acknowledged, or is what a crash left.
func (v *rescued) judge(w *reading, ended bool) {
	unsynced := func(off int64) bool { return off >= w.synced }
	w.gaps = slices.DeleteFunc(w.gaps, unsynced)
	w.bad = slices.DeleteFunc(w.bad, func(r volume.Record) bool { return unsynced(r.Offset) })
	for _, r := range w.bad {
		p := pair{r.Key, r.Alt}
		if _, known := v.bad[p]; !v.wanted(&r) {
			v.done[p] = true
		} else if !known {
			v.bad[p] = damagedNeedle{w.generation, r.Err}
		}
	}
	w.whole = ended && len(w.gaps) == 0 && w.size >= w.synced
	if w.size < w.synced {
		w.damage("it ends at %d, and there was more up to %d", w.size, w.synced)
	}
	if len(w.gaps)+len(w.bad) > 0 && (w.epoch == nil || w.epoch.decodes()) {
		w.damage("%d damaged parts, %d damaged needles", len(w.gaps), len(w.bad))
	}
}

func (v *rescued) wanted(r *volume.Record) bool { return v.o.All || r.Master != nil }

// needle hands a whole one out.
func (v *rescued) needle(c *remnant, r *volume.Record) error {
	p := pair{r.Key, r.Alt}
	if v.done[p] {
		return nil
	}
	v.done[p] = true
	if !v.wanted(r) {
		return nil
	}
	if v.deleted(c.generation, p) {
		v.row.Deleted++
		if !v.o.Deleted {
			return nil
		}
	}
	v.row.Needles++
	n := volume.Needle{Key: r.Key, Alt: r.Alt, Cookie: r.Cookie, Master: r.Master, Data: r.Data}
	return v.sink.Needle(exported(c.origin.Identity, n), r.Data)
}

// damage notes what is wrong with a copy.
func (c *remnant) damage(format string, args ...any) {
	c.row.Damage = append(c.row.Damage, fmt.Sprintf(format, args...))
}
