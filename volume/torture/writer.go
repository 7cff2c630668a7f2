package torture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
)

const (
	workers     = 4
	openAtOnce  = 3        // volumes of earlier lives that the writer opens
	usable      = 2        // volumes that take puts at any time
	volumeBytes = 16 << 20 // small, so that volumes fill up and new ones are made
	giveUp      = 40       // failures in a row
)

// WriterOptions say what Writer does.
type WriterOptions struct {
	Dir   string    // of the volumes
	Seed  uint64    // of the contents
	Round int       // which life this is, from 1: keys never repeat
	Out   io.Writer // takes the report
	FS    vfs.FS    // nil is the machine's
	// Earlier are stored keys of earlier lives that it may delete.
	Earlier []Ref
}

// Writer puts, deletes and reads, and reports it, until it is killed. It
// returns when ctx ends, when nobody takes the report any more, or when no
// volume can be written to.
func Writer(ctx context.Context, o WriterOptions) error {
	w := &life{o: o, report: reporter{out: o.Out}, vols: map[volume.ID]*volume.Volume{}, full: map[volume.ID]bool{}}
	if err := w.open(ctx); err != nil {
		return err
	}
	w.report.say(sayReady, 0, 0, "")
	var wg sync.WaitGroup
	errs := make([]error, workers)
	for i := range workers {
		wg.Go(func() { errs[i] = w.work(ctx, i) })
	}
	wg.Wait()
	for _, v := range w.vols {
		errs = append(errs, v.Close())
	}
	return errors.Join(errs...)
}

// life is one run of the writer.
type life struct {
	o      WriterOptions
	report reporter

	mu   sync.Mutex // guards all below
	vols map[volume.ID]*volume.Volume
	full map[volume.ID]bool
	last volume.ID // the highest there is or was tried
}

func (w *life) fs() vfs.FS {
	if w.o.FS == nil {
		return vfs.OS{}
	}
	return w.o.FS
}

func (w *life) options(v volume.ID) volume.Options {
	rng := rand.New(rand.NewPCG(w.o.Seed, uint64(v)<<32|uint64(w.o.Round)))
	return volume.Options{
		FS: w.o.FS, MaxBytes: volumeBytes, AllocChunk: 64 << 10 << rng.IntN(9),
		Events: func(e volume.Event) {
			switch e.Kind {
			case volume.EventPoisoned:
				w.report.say(sayPoisoned, e.Volume, 0, fmt.Sprint(e.Err))
			case volume.EventMarkerFailed:
				w.report.say(sayUnmarked, e.Volume, 0, fmt.Sprint(e.Err))
			case volume.EventRot, volume.EventCorruptRead, volume.EventSuperblock:
				w.report.say(sayFailed, e.Volume, e.Key, fmt.Sprintf("%v at %d: %v", e.Kind, e.Offset, e.Err))
			}
		},
	}
}

// open opens the newest volumes, and brings them on.
func (w *life) open(ctx context.Context) error {
	all, err := volume.List(w.o.FS, w.o.Dir)
	if err != nil {
		return err
	}
	for _, e := range all {
		w.last = max(w.last, e.Volume)
	}
	for i := max(1, w.last-openAtOnce+1); i <= w.last; i++ {
		v, err := volume.Open(w.o.Dir, i, w.options(i))
		switch {
		case errors.Is(err, volume.ErrNoVolume): // its making was cut short
		case err != nil:
			w.report.say(sayFailed, i, 0, err.Error())
		default:
			w.vols[i] = w.age(ctx, v)
		}
	}
	return nil
}

// age does with an opened volume what comes after its puts: one whose sealing
// was cut short is sealed, and a sealed one is sometimes compacted.
func (w *life) age(ctx context.Context, v *volume.Volume) *volume.Volume {
	vid := v.Identity().Volume
	if _, sealed := v.Sealed(); !sealed && v.Fenced() && v.Stats().Poisoned == nil {
		w.seal(ctx, v)
	}
	if _, sealed := v.Sealed(); !sealed || (uint64(vid)+uint64(w.o.Round)+w.o.Seed)%2 == 0 {
		return v
	}
	next, err := w.compact(ctx, v)
	if err != nil {
		w.report.say(sayFailed, vid, 0, err.Error())
		return v
	}
	// The old generation may be removed once nobody has it open.
	err = v.Close()
	if err == nil {
		err = volume.RemoveSuperseded(ctx, w.o.Dir, vid, next.Identity().Generation, w.options(vid), nil)
	}
	if err != nil {
		w.report.say(sayFailed, vid, 0, err.Error())
	}
	return next
}

func (w *life) compact(ctx context.Context, v *volume.Volume) (*volume.Volume, error) {
	deletes, err := v.Deletes(ctx, 0, func(volume.Delete) error { return nil })
	if err != nil {
		return nil, err
	}
	next, err := v.Compact(ctx, volume.CompactOptions{Generation: v.Identity().Generation + 1, Deletes: deletes})
	if err == nil {
		w.report.say(sayCompacted, v.Identity().Volume, 0, "")
	}
	return next, err
}

// seal seals a volume. Reads and deletes go on meanwhile.
func (w *life) seal(ctx context.Context, v *volume.Volume) {
	if _, err := v.Seal(ctx, volume.SealInfo{Slot: 64, To: id.MaxMillis}); err != nil {
		w.report.say(sayFailed, v.Identity().Volume, 0, err.Error())
		return
	}
	w.report.say(saySealed, v.Identity().Volume, 0, "")
}

// pick returns a volume that takes puts, and makes one where there are too few.
func (w *life) pick(rng *rand.Rand) (*volume.Volume, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var fit []*volume.Volume
	for i := volume.ID(1); i <= w.last; i++ {
		if v := w.vols[i]; v != nil && !w.full[i] && !v.Fenced() && v.Stats().Poisoned == nil {
			fit = append(fit, v)
		}
	}
	if len(fit) >= usable {
		return fit[rng.IntN(len(fit))], nil
	}
	w.last++
	ident := volume.Identity{Volume: w.last, Generation: 1, Class: classOf(w.last)}
	w.report.say(sayCreating, w.last, 0, "")
	v, err := volume.Create(w.o.Dir, ident, w.options(w.last))
	if err != nil {
		w.report.say(sayFailed, w.last, 0, err.Error())
		return nil, err
	}
	w.report.say(sayCreated, w.last, 0, "")
	w.vols[w.last] = v
	return v, nil
}

func (w *life) volume(v volume.ID) *volume.Volume {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.vols[v]
}

// worker is one goroutine of the writer.
type worker struct {
	*life
	rng   *rand.Rand
	mine  []Ref // stored and not deleted
	fails int   // in a row
}

func (w *life) work(ctx context.Context, n int) error {
	k := &worker{life: w, rng: rand.New(rand.NewPCG(w.o.Seed^uint64(w.o.Round), uint64(n)))}
	for i := n; i < len(w.o.Earlier); i += workers {
		k.mine = append(k.mine, w.o.Earlier[i])
	}
	for i := n + 1; ctx.Err() == nil && i < keysPerRound; i += workers {
		if err := w.report.broken(); err != nil {
			return err
		}
		k.put(ctx, id.ID(w.o.Round)*keysPerRound+id.ID(i))
		if k.fails >= giveUp {
			return nil
		}
		switch k.rng.IntN(8) {
		case 0, 1:
			k.remove(ctx)
		case 2:
			k.again(ctx)
		case 3, 4:
			k.read(ctx)
		}
	}
	return nil
}

// outcome reports what a put or delete came to, and whether it succeeded.
func (k *worker) outcome(good verb, r Ref, err error) bool {
	switch {
	case err == nil:
		k.fails = 0
		k.report.say(good, r.Volume, r.Key, "")
		return true
	case good == sayStored && (errors.Is(err, volume.ErrFull) || errors.Is(err, volume.ErrSealed) || errors.Is(err, volume.ErrNoSpace)):
		k.report.say(sayRefused, r.Volume, r.Key, err.Error())
	default:
		k.report.say(sayFailed, r.Volume, r.Key, err.Error())
		k.marked(r.Volume)
	}
	if errors.Is(err, volume.ErrFull) || errors.Is(err, volume.ErrSealed) {
		k.filled(r.Volume)
		return false
	}
	k.fails++
	return false
}

// filled takes a volume out of the choice for puts and seals one in two.
func (k *worker) filled(v volume.ID) {
	k.mu.Lock()
	first := !k.full[v]
	k.full[v] = true
	vol := k.vols[v]
	k.mu.Unlock()
	if first && !vol.Fenced() && k.rng.IntN(2) == 0 {
		k.seal(context.Background(), vol)
	}
}

// marked reports that the poison marker is there: from then on the volume must
// be read-only for every later life. Between the failure and the marker, and
// when the marker fails too, it need not be.
func (k *worker) marked(v volume.ID) {
	name := strings.TrimSuffix(volume.FileName(v, 1), ".vol") + ".poisoned"
	if _, err := k.fs().Stat(filepath.Join(k.o.Dir, name)); err == nil {
		k.report.say(sayMarked, v, 0, "")
	}
}

func (k *worker) put(ctx context.Context, key id.ID) {
	v, err := k.pick(k.rng)
	if err != nil {
		k.fails++
		return
	}
	r := Ref{v.Identity().Volume, key}
	g := group(k.o.Seed, r.Volume, key)
	k.report.say(sayPutting, r.Volume, key, "")
	if k.outcome(sayStored, r, v.Append(ctx, g)) {
		k.mine = append(k.mine, r)
	}
}

// remove deletes one of its keys, and sometimes tries to put it again.
func (k *worker) remove(ctx context.Context) {
	r, v := k.any()
	if v == nil || v.Stats().Poisoned != nil {
		return
	}
	k.mine = k.mine[:len(k.mine)-1]
	k.report.say(sayDeleting, r.Volume, r.Key, "")
	if !k.outcome(sayDeleted, r, v.Delete(ctx, r.Key)) {
		return
	}
	if err := v.Append(ctx, group(k.o.Seed, r.Volume, r.Key)); err == nil {
		k.report.say(sayWrong, r.Volume, r.Key, "a deleted key could be put again")
	}
}

// again repeats a put that was acknowledged.
func (k *worker) again(ctx context.Context) {
	r, v := k.any()
	if v == nil {
		return
	}
	err := v.Append(ctx, group(k.o.Seed, r.Volume, r.Key))
	if errors.Is(err, volume.ErrConflict) || errors.Is(err, volume.ErrTombstoned) {
		k.report.say(sayWrong, r.Volume, r.Key, "the same put again: "+err.Error())
	}
}

// read compares what was acknowledged, at once.
func (k *worker) read(ctx context.Context) {
	r, v := k.any()
	if v == nil {
		return
	}
	for _, n := range group(k.o.Seed, r.Volume, r.Key) {
		b, err := v.Read(ctx, r.Key, n.Alt, n.Cookie)
		switch {
		case err == nil && bytes.Equal(b.Data, n.Data):
		case errors.Is(err, volume.ErrCorrupt): // said by the engine, see options
		case err == nil:
			k.report.say(sayWrong, r.Volume, r.Key, fmt.Sprintf("read of alt %d: other bytes", n.Alt))
		default:
			k.report.say(sayWrong, r.Volume, r.Key, fmt.Sprintf("read of alt %d: %v", n.Alt, err))
		}
		b.Release()
	}
}

// any moves one of its keys to the end of mine and returns it, with its volume
// if that is open.
func (k *worker) any() (Ref, *volume.Volume) {
	if len(k.mine) == 0 {
		return Ref{}, nil
	}
	i, end := k.rng.IntN(len(k.mine)), len(k.mine)-1
	k.mine[i], k.mine[end] = k.mine[end], k.mine[i]
	r := k.mine[end]
	return r, k.volume(r.Volume)
}
