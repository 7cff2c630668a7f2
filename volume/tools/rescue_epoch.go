package tools

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"hayloft/internal/vfs/overlay"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// epoch is what is left of the shards of one run of an encoder, read as the source
// they were made from. What cannot be had reads as zeros: no record is proven by
// them.
type epoch struct {
	ctx     context.Context // of the rescue that reads it
	plan    coding.Plan
	head    coding.Head // of any of them
	shards  []coding.Shard
	names   []string
	reader  *coding.Reader
	digests []coding.Digest // as the heads have them

	mu      sync.Mutex    // guards damaged
	damaged map[int]error // shards that did not have what they should, and the first sign of it
}

// shardFile is a shard that was opened.
type shardFile struct {
	path string
	head coding.Head
	file *coding.File
}

// openEpochs opens shards and puts those of one run together. Those that cannot be
// used at all are told to unusable.
func openEpochs(ctx context.Context, fsys *overlay.FS, v volume.ID, paths []string, unusable func(path string, err error)) []*epoch {
	groups := make(map[coding.Plan][]shardFile)
	for _, path := range paths {
		f, head, err := coding.OpenAny(fsys, path)
		if err == nil && head.Volume != v {
			err = fmt.Errorf("%w: it is a shard of volume %d", volume.ErrCorrupt, head.Volume)
		}
		if err != nil {
			unusable(path, err)
			continue
		}
		groups[head.Plan] = append(groups[head.Plan], shardFile{path, head, f})
	}
	var out []*epoch
	for plan, files := range groups {
		e := &epoch{ctx: ctx, plan: plan, shards: make([]coding.Shard, plan.Shards()), names: make([]string, plan.Shards())}
		for i := range e.shards {
			if s := soundest(ctx, fsys, i, files); s != nil {
				e.shards[i], e.names[i], e.head = s.file, s.path, s.head
			}
		}
		var err error
		if e.reader, err = e.newReader(files); err != nil {
			unusable(files[0].path, err)
			continue
		}
		out = append(out, e)
	}
	return out
}

// soundest chooses among files that all say they are shard i: one that was moved
// may have stayed behind.
func soundest(ctx context.Context, fsys *overlay.FS, i int, files []shardFile) *shardFile {
	var mine []*shardFile
	for j := range files {
		if files[j].head.Shard == i {
			mine = append(mine, &files[j])
		}
	}
	if len(mine) < 2 {
		return slices.Concat(mine, []*shardFile{nil})[0]
	}
	findings := func(s *shardFile) (n int) {
		home := coding.Home{FS: fsys, Dir: filepath.Dir(s.path)}
		if err := coding.Check(ctx, home, s.head.Plan, i, s.head.Digest, coding.Options{}, func(coding.Finding) { n++ }); err != nil {
			n++
		}
		return n
	}
	return slices.MinFunc(mine, func(a, b *shardFile) int { return cmp.Compare(findings(a), findings(b)) })
}

// newReader returns a reader of the shards. The digests are those that they name
// themselves: nobody else is left to ask.
func (e *epoch) newReader(files []shardFile) (*coding.Reader, error) {
	e.digests = make([]coding.Digest, e.plan.Shards())
	for _, s := range files {
		if s.path == e.names[s.head.Shard] {
			e.digests[s.head.Shard] = s.head.Digest
		}
	}
	return coding.NewReader(coding.Committed{Plan: e.plan, Digests: e.digests}, e.shards, coding.ReaderOptions{Found: func(f coding.Finding) { e.found(f.Shard, f.Err) }})
}

// found notes the first thing wrong with a shard.
func (e *epoch) found(shard int, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.damaged == nil {
		e.damaged = make(map[int]error)
	}
	if e.damaged[shard] == nil && e.ctx.Err() == nil {
		e.damaged[shard] = err
	}
}

// usable is how many shards there are.
func (e *epoch) usable() (n int) {
	for _, s := range e.shards {
		if s != nil {
			n++
		}
	}
	return n
}

// decodes tells whether lost data shards can be computed.
func (e *epoch) decodes() bool { return e.usable() >= e.plan.Data }

// shortage says which shards are away.
func (e *epoch) shortage() string {
	var away []string
	for i, s := range e.shards {
		if s == nil {
			away = append(away, fmt.Sprint(i))
		}
	}
	if len(away) == 0 {
		return ""
	}
	return fmt.Sprintf("of %d shards %d are there, any %d give everything back: missing %s", e.plan.Shards(), e.usable(), e.plan.Data, strings.Join(away, ", "))
}

// ReadAt implements io.ReaderAt. It never fails before the end of the source, but
// for the context.
func (e *epoch) ReadAt(p []byte, off int64) (n int, err error) {
	if off >= e.plan.SourceBytes {
		return 0, io.EOF
	}
	if left := e.plan.SourceBytes - off; int64(len(p)) > left {
		p, err = p[:left], io.EOF
	}
	for n < len(p) {
		if err := e.ctx.Err(); err != nil {
			return n, err
		}
		at := off + int64(n)
		part := p[n:min(len(p), n+int(piece-at%piece))]
		e.fill(part, at)
		n += len(part)
	}
	return n, err
}

// piece is what is asked of a reader at once, a multiple of coding.BlockSize.
const piece = 1 << 20

// fill reads bytes that have their sums, or that were computed from such, else
// whatever the shard has.
func (e *epoch) fill(p []byte, off int64) {
	if e.decodes() && e.take(p, off) {
		return
	}
	for len(p) > 0 {
		part := p[:min(len(p), int(coding.BlockSize-off%coding.BlockSize))]
		if !e.decodes() || !e.take(part, off) {
			e.raw(part, off)
		}
		p, off = p[len(part):], off+int64(len(part))
	}
}

func (e *epoch) take(p []byte, off int64) bool {
	b, err := e.reader.Read(e.ctx, off, int64(len(p)), nil)
	if err != nil {
		return false
	}
	copy(p, b.Data)
	b.Release()
	return true
}

// raw reads what lies in one block of one data shard, page by page where the device
// fails.
func (e *epoch) raw(p []byte, off int64) {
	s := e.shards[off/e.plan.ShardBytes()]
	at := coding.PayloadAt + off%e.plan.ShardBytes()
	if s == nil {
		clear(p)
		return
	}
	if s.ReadAt(e.ctx, p, at) == nil {
		return
	}
	const page = 4096
	for len(p) > 0 { // all of it in the same shard
		part := p[:min(len(p), int(page-at%page))]
		if err := s.ReadAt(e.ctx, part, at); err != nil {
			clear(part)
			e.found(int(off/e.plan.ShardBytes()), err)
		}
		p, at = p[len(part):], at+int64(len(part))
	}
}

// catalog reads the index copy, from any shard that has it. Its own checksums prove
// it, where those of the shard do not.
func (e *epoch) catalog(o volume.Origin) (*volume.Catalog, error) {
	b := make([]byte, e.plan.IndexBytes)
	err := e.reader.ReadIndex(e.ctx, b, 0, -1)
	if err == nil {
		var c *volume.Catalog
		if c, err = o.Catalog(b); err == nil {
			return c, nil
		}
	}
	for _, s := range e.shards {
		if s == nil || s.ReadAt(e.ctx, b, e.plan.IndexAt()) != nil {
			continue
		}
		if c, err := o.Catalog(b); err == nil {
			return c, nil
		}
		b = make([]byte, e.plan.IndexBytes)
	}
	return nil, err
}
