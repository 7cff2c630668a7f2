package tools

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/internal/vfs/overlay"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// shardSet are the shards of one volume in some data directories. Which epoch of
// them counts is the directory's to say; here the newest comes first.
type shardSet struct {
	id     volume.ID
	paths  []string
	epochs []*epoch
	broken map[string]error // files that are no shard
	fs     *overlay.FS
}

// shardPaths lists the finished shard files of one volume, or of all with 0.
func (f *Files) shardPaths(wanted volume.ID) (map[volume.ID][]string, error) {
	out := make(map[volume.ID][]string)
	for _, data := range f.dirs {
		dirs, err := shardDirs(data)
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			all, err := coding.List(vfs.OS{}, dir)
			if err != nil {
				return nil, err
			}
			for _, e := range all {
				if !e.Unfinished && (wanted == 0 || e.Volume == wanted) {
					out[e.Volume] = append(out[e.Volume], filepath.Join(dir, e.Name))
				}
			}
		}
	}
	return out, nil
}

// openSet opens the shards of a volume. It is to be closed.
func openSet(ctx context.Context, v volume.ID, paths []string) *shardSet {
	s := &shardSet{id: v, paths: paths, broken: make(map[string]error), fs: &overlay.FS{}}
	s.epochs = openEpochs(ctx, s.fs, v, paths, func(path string, err error) { s.broken[path] = err })
	slices.SortFunc(s.epochs, func(a, b *epoch) int {
		return cmp.Or(cmp.Compare(b.plan.Generation, a.plan.Generation), cmp.Compare(b.plan.Epoch, a.plan.Epoch))
	})
	return s
}

// sets calls fn with the shards of one volume, or of each with 0, by number.
func (f *Files) sets(ctx context.Context, wanted volume.ID, fn func(*shardSet) error) error {
	all, err := f.shardPaths(wanted)
	if err != nil {
		return err
	}
	for _, v := range slices.Sorted(maps.Keys(all)) {
		if err := ctx.Err(); err != nil {
			return err
		}
		s := openSet(ctx, v, all[v])
		if err := errors.Join(fn(s), s.fs.Close()); err != nil {
			return err
		}
	}
	return nil
}

// data are the data directories that have a shard of the volume.
func (s *shardSet) data() string {
	var out []string
	for _, p := range s.paths {
		out = append(out, dataDirOf(p))
	}
	slices.Sort(out)
	return strings.Join(slices.Compact(out), ",")
}

// look describes the newest epoch by the heads of its shards.
func (s *shardSet) look() Detail {
	d := Detail{Row: Row{ID: s.id, State: StateCoded, Data: s.data()}, Events: []string{}}
	for _, path := range slices.Sorted(maps.Keys(s.broken)) {
		d.Events = append(d.Events, fmt.Sprintf("%s is no shard of it: %s", path, OneLine(s.broken[path])))
	}
	if len(s.epochs) == 0 {
		d.failed(fmt.Errorf("%w: no shard of it has a head", volume.ErrCorrupt))
		return d
	}
	e := s.epochs[0]
	epoch, n, of, end := int64(e.plan.Epoch), e.usable(), e.plan.Shards(), e.plan.SourceBytes
	d.Epoch, d.Shards, d.ShardsOf, d.Generation, d.FileBytes, d.SizeBytes = &epoch, &n, &of, &e.plan.Generation, &end, int64(n)*e.plan.FileBytes()
	if o, err := volume.ReadOrigin(bytes.NewReader(e.head.Superblock)); err == nil && o.Seal != nil {
		class := o.Class.String()
		d.Class, d.Seal = &class, sealOf(*o.Seal)
	}
	for i, name := range e.names {
		if name != "" {
			d.Events = append(d.Events, fmt.Sprintf("shard %d of epoch %d (%s): %s", i, e.plan.Epoch, e.plan.Policy, name))
		}
	}
	if text := e.shortage(); text != "" {
		d.Events = append(d.Events, fmt.Sprintf("epoch %d: %s", e.plan.Epoch, text))
		if !e.decodes() {
			d.State, d.Error = stateUnreadable, text
		}
	}
	for _, other := range s.epochs[1:] {
		d.Events = append(d.Events, fmt.Sprintf("%d of %d shards of epoch %d, of generation %d, lie here too", other.usable(), other.plan.Shards(), other.plan.Epoch, other.plan.Generation))
	}
	return d
}

// verify checks every shard by the sums it has itself, and the copies of the delete
// log beside them. That a shard is missing is worth a note: its disk may be elsewhere.
func (s *shardSet) verify(ctx context.Context, report func(Progress)) (Verified, error) {
	row := Verified{ID: s.id, Data: s.data(), Findings: []Finding{}, Notes: []string{}}
	for _, path := range slices.Sorted(maps.Keys(s.broken)) {
		row.add(Finding{Kind: volume.FindingShard.String(), File: path, Error: OneLine(s.broken[path])})
	}
	total := int64(0)
	for _, e := range s.epochs {
		total += int64(e.usable()) * e.plan.FileBytes()
	}
	logs := make(map[string]bool)
	for _, e := range s.epochs {
		if text := e.shortage(); text != "" {
			row.Notes = append(row.Notes, fmt.Sprintf("epoch %d: %s", e.plan.Epoch, text))
		}
		for i, path := range e.names {
			if path == "" {
				continue
			}
			o := coding.Options{Progress: func(p coding.Progress) {
				report(Progress{Volume: s.id, Step: "verify", Done: row.Bytes + p.Done, Total: max(total, row.Bytes+p.Done)})
			}}
			home := coding.Home{FS: vfs.OS{}, Dir: filepath.Dir(path)}
			err := coding.Check(ctx, home, e.plan, i, e.digests[i], o, func(f coding.Finding) {
				row.add(Finding{Kind: volume.FindingShard.String(), File: path, Offset: f.Offset, Length: f.Length, Error: OneLine(f.Err)})
			})
			if err != nil {
				return row, err
			}
			row.Bytes += e.plan.FileBytes()
			row.Shards++
			logs[home.Dir] = true
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(logs)) {
		log, err := volume.ReadDeleteLog(vfs.OS{}, dir, s.id)
		if err = cmp.Or(err, log.Doubt); err != nil {
			row.add(Finding{Kind: volume.FindingDeletes.String(), File: filepath.Join(dir, volume.DeleteLogName(s.id)), Error: OneLine(err)})
		}
	}
	return row, nil
}

// dump prints the records of the newest epoch that can be put together.
func (s *shardSet) dump(ctx context.Context, q Query, to DumpSink) error {
	i := slices.IndexFunc(s.epochs, func(e *epoch) bool { return e.decodes() })
	if i < 0 {
		return fmt.Errorf("%w: volume %d: %s", volume.ErrCorrupt, s.id, s.look().Error)
	}
	e := s.epochs[i]
	o, err := volume.ReadOrigin(bytes.NewReader(e.head.Superblock))
	if err != nil {
		return err
	}
	name := fmt.Sprintf("epoch %d in %s", e.plan.Epoch, s.data())
	return dump(ctx, o.Identity, name, nil, q, to, func(fn func(volume.Record) error) error {
		_, err := volume.ScanAt(&headed{head: e.head.Superblock, rest: e}, e.plan.SourceBytes, true, fn)
		return err
	})
}

// deletedBeside are the keys that copies of the delete log beside shards have. As long
// as there is a source too, its own log may lack the newest. A copy that cannot be
// read is told to doubt.
func (f *Files) deletedBeside(v volume.ID, doubt func(string) error) (map[id.ID]bool, error) {
	out := make(map[id.ID]bool)
	for _, data := range f.dirs {
		dirs, err := shardDirs(data)
		if err != nil {
			return nil, err
		}
		for _, dir := range dirs {
			if !strings.HasPrefix(filepath.Base(dir), fmt.Sprintf("%08x-", uint32(v))) {
				continue
			}
			log, err := volume.ReadDeleteLog(vfs.OS{}, dir, v)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			for _, d := range log.Deletes {
				out[d.Key] = true
			}
			if err = cmp.Or(err, log.Doubt); err != nil {
				if err := doubt(fmt.Sprintf("volume %d in %s: deletes may be missing: %s", v, dir, OneLine(err))); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, nil
}
