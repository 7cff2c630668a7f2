package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"hayloft/internal/vfs"
)

// receiveSync is how many bytes of a file that is received may be unsynced.
const receiveSync = 64 << 20

// Expect says what Receive is to get.
type Expect struct {
	Digest Digest // of the seal
	Bytes  int64  // of the file: End of the seal
	// Deletes is all of the delete log of the replica that the file comes from, or a
	// later state of it. nil: the log that is there stays; without one an empty one
	// is made. Either must go as far as the seal says.
	Deletes []Delete
	// Replace: what the directory has of that very generation is not good enough.
	Replace bool
	// Throttle is asked before n bytes are written, and again before they are read
	// back, and waits as long as the budget wants. nil never waits.
	Throttle func(ctx context.Context, n int64) error
}

// Receiver takes the file of a sealed generation that another replica has. It is
// for one goroutine, which ends it with Commit or Abort.
type Receiver struct {
	o     Options
	dir   string
	ident Identity
	want  Expect

	name   string   // of the file to be
	file   vfs.File // under its temporary name; nil when it is over
	end    int64    // of what was written
	synced int64
	failed error // the first failure: nothing is taken after it
	proven *proof
}

// proof is what a file that came was found to be.
type proof struct {
	sb   superblock
	live []entry
}

// Receive begins to take the file of a sealed generation, byte for byte, into dir.
// Nothing that is there is touched before Commit. When dir has that very generation,
// sealed with that digest, it is ErrExists, unless it is to be replaced. When the
// generation is being received or made already it is vfs.ErrLocked.
func Receive(dir string, ident Identity, o Options, want Expect) (*Receiver, error) {
	if err := errors.Join(ident.validate(), o.Validate()); err != nil {
		return nil, err
	}
	if want.Bytes < dataStart || want.Bytes > maxOffset {
		return nil, fmt.Errorf("%w: a volume file of %d bytes", ErrInvalid, want.Bytes)
	}
	r := &Receiver{o: o.withDefaults(), dir: dir, ident: ident, want: want, name: filepath.Join(dir, FileName(ident.Volume, ident.Generation))}
	sb, err := superblockOf(r.o.FS, r.name)
	if err == nil && !want.Replace && sb.Identity == ident && sb.Seal != nil && sb.Seal.Digest == want.Digest {
		return nil, fmt.Errorf("%w: generation %d of volume %d in %s", ErrExists, ident.Generation, ident.Volume, dir)
	}
	if r.file, err = r.o.FS.Create(r.name + tmpExt); err != nil {
		return nil, fmt.Errorf("receive volume %d: %w", ident.Volume, classify(err))
	}
	// All of the space now: want of it is known before anything is sent.
	if err := r.file.Allocate(0, want.Bytes); err != nil {
		return nil, errors.Join(fmt.Errorf("receive volume %d: %w", ident.Volume, classify(err)), r.Abort())
	}
	return r, nil
}

// Write takes the next bytes of the file. They are the caller's again when it
// returns.
func (r *Receiver) Write(ctx context.Context, b []byte) error {
	if r.failed == nil {
		r.failed = r.write(ctx, b)
	}
	return r.failed
}

func (r *Receiver) write(ctx context.Context, b []byte) error {
	if r.file == nil {
		return ErrClosed
	}
	if r.end+int64(len(b)) > r.want.Bytes {
		return fmt.Errorf("%w: volume %d has more than the %d bytes expected", ErrCorrupt, r.ident.Volume, r.want.Bytes)
	}
	if err := throttleOf(r.want.Throttle).wait(ctx, int64(len(b))); err != nil {
		return err
	}
	if _, err := r.file.WriteVAt([][]byte{b}, r.end); err != nil {
		return fmt.Errorf("receive volume %d: write at %d: %w", r.ident.Volume, r.end, classify(err))
	}
	if r.end += int64(len(b)); r.end-r.synced < receiveSync {
		return nil
	}
	return r.sync()
}

// sync puts what came on stable storage, and out of the page cache.
func (r *Receiver) sync() error {
	if err := r.file.Sync(); err != nil {
		return fmt.Errorf("receive volume %d: sync: %w", r.ident.Volume, classify(err))
	}
	from := r.synced &^ (pageSize - 1)
	r.synced = r.end
	return r.file.Evict(from, 0)
}

// Prove reads what came back from the device, and says whether it is the generation
// that was expected, whole. It is for who wants to know before anything is touched.
func (r *Receiver) Prove(ctx context.Context) error {
	if r.failed == nil && r.proven == nil {
		r.failed = r.prove(ctx)
	}
	if r.failed != nil {
		return fmt.Errorf("receive generation %d of volume %d: %w", r.ident.Generation, r.ident.Volume, r.failed)
	}
	return nil
}

func (r *Receiver) prove(ctx context.Context) error {
	switch {
	case r.file == nil:
		return ErrClosed
	case r.end != r.want.Bytes:
		return fmt.Errorf("%w: %d bytes came, %d were expected", ErrCorrupt, r.end, r.want.Bytes)
	}
	if err := r.sync(); err != nil {
		return err
	}
	sb, live, err := r.verify(ctx)
	if err == nil {
		r.proven = &proof{sb, live}
	}
	return err
}

// Commit proves what came, unless that is done, and gives it its name, for good;
// OpenGeneration opens it. A file of the volume that is in dir, of whatever generation,
// is moved to quarantine before: it must not be open. An error leaves that as it was, or in quarantine; then
// nothing has the name, or the file that came has.
func (r *Receiver) Commit(ctx context.Context) error {
	if r.failed == nil {
		r.failed = r.commit(ctx)
	}
	if r.failed != nil {
		return fmt.Errorf("receive generation %d of volume %d: %w", r.ident.Generation, r.ident.Volume, r.failed)
	}
	return nil
}

func (r *Receiver) commit(ctx context.Context) error {
	switch {
	case r.file == nil:
		return ErrClosed
	case r.proven == nil:
		if err := r.prove(ctx); err != nil {
			return err
		}
	}
	sb, live := r.proven.sb, r.proven.live
	s := newSeal(sb)
	head := sealIndexHead{Volume: sb.Volume, Generation: sb.Generation, Sign: s.sign, Digest: sb.Seal.Digest, End: sb.Seal.End}
	x, err := buildSealIndex(head, live)
	if err != nil {
		return err
	}
	content, err := r.deletes(sb.Seal.Deletes)
	if err != nil {
		return err
	}
	if err := r.clear(); err != nil {
		return err
	}
	if content != nil {
		if err := r.placeLog(content); err != nil {
			return err
		}
	}
	if err := vfs.WriteFile(r.o.FS, filepath.Join(r.dir, IndexName(sb.Volume, sb.Generation)), x.b); err != nil {
		return fmt.Errorf("write the sealed index: %w", classify(err))
	}
	if err := r.o.FS.Rename(r.name+tmpExt, r.name); err != nil {
		return err
	}
	if err := r.o.FS.SyncDir(r.dir); err != nil {
		return err
	}
	file := r.file
	r.file = nil
	r.o.Events(Event{Kind: EventReceived, Volume: sb.Volume, Length: r.end})
	return file.Close()
}

// verify reads the file from the device: it must be what was expected, and every
// live needle whole.
func (r *Receiver) verify(ctx context.Context) (superblock, []entry, error) {
	if err := r.file.Evict(0, 0); err != nil {
		return superblock{}, nil, err
	}
	sb, damaged, err := readSuperblock(r.file)
	switch {
	case err != nil:
		return sb, nil, err
	case damaged:
		return sb, nil, fmt.Errorf("%w: a superblock copy", ErrCorrupt)
	case sb.Identity != r.ident || sb.Seal == nil || sb.Seal.Digest != r.want.Digest || sb.Seal.End != r.want.Bytes:
		return sb, nil, fmt.Errorf("%w: it is of %+v, state %d, not what was expected", ErrConflict, sb.Identity, sb.State)
	}
	if size, err := r.file.Size(); err != nil || size != r.want.Bytes {
		return sb, nil, errors.Join(err, fmt.Errorf("%w: the file has %d bytes, %d were written", ErrCorrupt, size, r.want.Bytes))
	}
	s := newSeal(sb)
	var in inventory
	if err := in.take(ctx, r.file, &s, sb.Seal.End, true, r.want.Throttle); err != nil {
		return sb, nil, err
	}
	live := in.settle()
	if digestOf(live) != sb.Seal.Digest {
		return sb, nil, fmt.Errorf("%w: the needles are not those that were sealed", ErrCorrupt)
	}
	for _, f := range damagedIn(live, nil) {
		return sb, nil, f.Err
	}
	return sb, live, nil
}

// deletes returns what the delete log is to be, nil when it stays. It has the deletes
// 1 to n.
func (r *Receiver) deletes(n uint32) ([]byte, error) {
	list := r.want.Deletes
	stays := false
	if list == nil {
		log, err := ReadDeleteLog(r.o.FS, r.dir, r.ident.Volume)
		switch {
		case err == nil && log.Doubt != nil:
			return nil, log.Doubt
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		list, stays = log.Deletes, err == nil
	}
	newest := uint32(0)
	if len(list) > 0 {
		newest = list[len(list)-1].Number
	}
	if newest < n {
		return nil, fmt.Errorf("%w: the file goes by %d deletes, the log ends at number %d", ErrInvalid, n, newest)
	}
	if stays {
		return nil, nil
	}
	content, err := encodeDeletes(r.ident.Volume, list, r.o.Clock.Now())
	if err == nil && len(list) == 0 {
		content = content[:dataStart] // never used
	}
	return content, err
}

// clear moves to quarantine what has the volume's names in the directory, and ends
// what a crash has cut off of that.
func (r *Receiver) clear() error {
	all, err := List(r.o.FS, r.dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.Volume != r.ident.Volume {
			continue
		}
		if _, err := Quarantine(r.dir, e, r.o); err != nil {
			return err
		}
	}
	marked, err := list(r.o.FS, r.dir, func(name string) (e Entry, ok bool) {
		base, is := strings.CutSuffix(name, markerExt)
		e.Volume, e.Generation, ok = parseName(base + volumeExt)
		return e, ok && is && e.Volume == r.ident.Volume
	})
	if err != nil {
		return err
	}
	for _, e := range append(marked, Entry{Generation: r.ident.Generation}) {
		if err := settleQuarantine(r.dir, r.ident.Volume, e.Generation, r.o); err != nil {
			return err
		}
	}
	return nil
}

// placeLog puts the delete log in its place. Nobody has the one that is there open.
func (r *Receiver) placeLog(content []byte) error {
	f, err := r.o.FS.OpenWrite(filepath.Join(r.dir, DeleteLogName(r.ident.Volume)))
	if errors.Is(err, fs.ErrNotExist) {
		_, err = placeDeleteLog(r.o.FS, r.dir, r.ident.Volume, content)
		return classify(err)
	}
	if err != nil {
		return err
	}
	_, err = placeDeleteLog(r.o.FS, r.dir, r.ident.Volume, content)
	return errors.Join(classify(err), f.Close())
}

// Abort drops what came, unless Commit gave it its name. It may be repeated.
func (r *Receiver) Abort() error {
	if r.file == nil {
		return nil
	}
	if r.failed == nil {
		r.failed = ErrClosed
	}
	err := r.o.FS.Remove(r.name + tmpExt)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // it has its name, or a later Open was faster
	}
	err = errors.Join(err, r.file.Close())
	r.file = nil
	return err
}
