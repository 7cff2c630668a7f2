package server

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

// scrubber reads everything on one disk, one item at a time, the one first that was
// not read for longest. It takes no turn: it reads beside the disk's jobs, and shares
// their rate.
type scrubber struct {
	d      *disk
	kicked chan struct{} // holds one token when there is cause to look

	// The loop's alone, and that of the one goroutine that it waits for.
	state    *scrubState
	listed   time.Time             // when the items were looked up; zero: they are to be
	rest     time.Time             // after a failure nothing is read before
	pending  <-chan struct{}       // closed when a read that hung has come back; nil without one
	unsaved  bool                  // the last save failed
	leftover map[string]vfs.FileID // unfinished files that were there at the last look

	mu   sync.Mutex // guards all below
	run  *scrubRun  // the disk is part of, or nil
	want *scrubRun  // asked for, and not begun here
	over bool       // the loop has ended, or never begins
	n    ScrubDisk
}

func newScrubber(d *disk) *scrubber {
	return &scrubber{d: d, kicked: make(chan struct{}, 1), n: ScrubDisk{Dir: d.dir, UUID: hexOf(d.ident.uuid), Found: make(map[ScrubKind]uint64)}}
}

const (
	scrubLook  = time.Minute // between two looks at a disk that is out, or failed
	scrubList  = time.Minute // for which a list of the items is used
	scrubSleep = time.Hour   // after which one is made in any case
	scrubRetry = time.Hour   // an item rests whose reading failed
	// scrubWeight is what an item costs besides its bytes, in bytes.
	scrubWeight = 64 << 10
)

// diskItem is the item that stands for disk.id and the names on the disk.
const diskItem = "disk"

func (s *scrubber) kick() {
	select {
	case s.kicked <- struct{}{}:
	default:
	}
}

// join makes the disk part of a run, and reports whether it can be.
func (s *scrubber) join(r *scrubRun) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.d.usable() != nil {
		return false
	}
	s.want = r
	s.kick()
	return true
}

// leave ends the disk's part of the run it is in, and of one it did not begin.
func (s *scrubber) leave(err error) {
	s.mu.Lock()
	run, want := s.run, s.want
	s.run = nil
	if err == nil {
		want = nil // that begins next
	} else {
		s.want = nil
	}
	s.mu.Unlock()
	for _, r := range []*scrubRun{run, want} {
		if r != nil {
			r.leave(err)
		}
	}
}

// current is the run that the disk is part of, or nil.
func (s *scrubber) current() *scrubRun {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run
}

func (s *scrubber) status() ScrubDisk {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.n
	st.Found = maps.Clone(st.Found)
	return st
}

// loop is the goroutine, until ctx ends.
func (s *scrubber) loop(ctx context.Context) {
	defer func() {
		s.mu.Lock()
		s.over = true
		s.mu.Unlock()
		s.leave(s.d.s.ended(s.d))
	}()
	for ctx.Err() == nil {
		rest := s.step(ctx)
		if rest == 0 {
			continue
		}
		var later <-chan time.Time
		if rest > 0 {
			later = s.d.s.o.Clock.After(rest)
		}
		select {
		case <-s.kicked:
		case <-later:
		case <-ctx.Done():
		}
	}
}

// step does what is due, and returns how long there is nothing to do: until a kick if
// it is negative.
func (s *scrubber) step(ctx context.Context) time.Duration {
	if s.d.usable() != nil {
		s.leave(s.d.whyOut())
		return scrubLook
	}
	if s.pending != nil {
		select {
		case <-s.pending:
			s.pending = nil
		default: // a read that hung has not come back
			s.leave(unavailable("%s has not answered an earlier read", s.d.dir))
			return scrubLook
		}
	}
	if !s.wanted() && !s.scheduled() {
		return -1
	}
	rest := s.away(ctx, s.work)
	if s.pending != nil && ctx.Err() == nil {
		s.leave(s.d.whyOut())
	}
	return rest
}

func (s *scrubber) scheduled() bool { return s.d.s.o.ScrubEvery > 0 && !s.d.s.o.NoUpkeep }

// wanted reports whether somebody asked.
func (s *scrubber) wanted() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.run != nil || s.want != nil
}

// away runs f, which may hang with the disk, and waits for it no longer than the disk
// is in service. A stop waits for it a moment: a healthy disk answers.
func (s *scrubber) away(ctx context.Context, f func(context.Context) time.Duration) time.Duration {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rest, done := time.Duration(0), make(chan struct{})
	s.d.s.burying.Go(func() {
		defer close(done)
		rest = f(ctx)
	})
	hung := s.d.hung()
	select {
	case <-done:
		return rest
	case <-hung:
	case <-ctx.Done():
		select {
		case <-done:
			return rest
		case <-hung:
		case <-s.d.s.o.Clock.After(burialWait):
		}
	}
	cancel()
	s.pending = done
	return scrubLook
}

// work reads the next item if one is to be read now.
func (s *scrubber) work(ctx context.Context) time.Duration {
	now := s.d.s.o.Clock.Now()
	if s.rest.After(now) {
		s.leave(unavailable("%s cannot be listed", s.d.dir))
		return scrubLook
	}
	if s.state == nil {
		s.load(now)
	}
	if err := s.begin(now); err != nil {
		s.failed(0, err)
		s.rest = now.Add(scrubLook)
		return 0
	}
	run := s.current()
	name, rest := s.next(now, run)
	if name == "" {
		s.leave(nil)
		if s.wanted() {
			return 0 // asked again meanwhile
		}
		return rest
	}
	s.mu.Lock()
	s.n.Reading = name
	s.mu.Unlock()
	x := &scrubbing{s: s, run: run, item: name, last: s.d.s.o.Clock.Elapsed()}
	err := x.read(ctx)
	s.ended(ctx, x, err)
	return 0
}

// begin lists the items if that is due, and makes all of them due for a run.
func (s *scrubber) begin(now time.Time) error {
	s.mu.Lock()
	want := s.want
	s.mu.Unlock()
	if age := now.Sub(s.listed); want == nil && !s.listed.IsZero() && age >= 0 && age < scrubList {
		return nil
	}
	if err := s.list(now); err != nil {
		return err
	}
	s.listed = now
	if want == nil {
		return nil
	}
	total := int64(0)
	for _, i := range s.state.items {
		i.due, i.until = true, time.Time{}
		total += i.bytes
	}
	s.mu.Lock()
	s.want, s.run = nil, want
	s.mu.Unlock()
	want.change(func(r *scrubRun) { r.p.Total += total })
	s.save()
	return nil
}

// load reads how far the scrub of the disk was. What cannot be believed is begun
// again.
func (s *scrubber) load(now time.Time) {
	var st *scrubState
	b, err := vfs.ReadFile(s.d.fs, filepath.Join(s.d.dir, scrubName), scrubLimit)
	if err == nil {
		st, err = decodeScrubState(b, s.d.ident.uuid)
	}
	if err != nil {
		st = &scrubState{uuid: s.d.ident.uuid, begun: now, items: make(map[string]*scrubItem)}
		if !missing(err) {
			s.failed(0, err)
		}
	}
	s.state = st
}

// save keeps how far the scrub is. What cannot be kept is read again after a restart.
func (s *scrubber) save() {
	s.count()
	if s.d.readOnly.Load() != nil {
		return
	}
	err := vfs.WriteFile(s.d.fs, filepath.Join(s.d.dir, scrubName), s.state.encode())
	if err != nil && !s.unsaved {
		s.failed(0, err)
	}
	s.unsaved = err != nil
}

func (s *scrubber) failed(v volume.ID, err error) {
	if s.d.usable() != nil || s.d.life.Err() != nil {
		return
	}
	s.d.s.o.Events(Event{Kind: EventUpkeepFailed, Dir: s.d.dir, Volume: v, Work: "scrubbing", Err: err})
}

// list looks up what there is to read. What is new was seen now for the first time.
func (s *scrubber) list(now time.Time) error {
	d, found := s.d, map[string]int64{diskItem: 0}
	for _, v := range d.s.on(d) {
		h := d.s.pin(d.number, v)
		if h == nil || h.vol == nil {
			continue
		}
		found[volumesName+"/"+volume.FileName(v, h.vol.Identity().Generation)] = h.vol.Stats().FileBytes
		h.unpin()
	}
	all, err := volume.List(d.fs, d.volumesDir())
	if err != nil {
		return err
	}
	for _, e := range all {
		if h := d.s.handle(d.number, e.Volume); h != nil && h.vol == nil {
			found[volumesName+"/"+e.Name] = e.Bytes
		}
	}
	for _, row := range d.s.o.Directory.CodedRows() {
		c := row.Coding.Committed
		if c == nil {
			continue
		}
		n := int64(0)
		for _, home := range c.Homes {
			if uint32(home) == d.number {
				n += planOf(row.Volume.Volume, c.Run).FileBytes()
			}
		}
		if n > 0 {
			found[shardsName+"/"+epochName(row.Volume.Volume, c.Epoch)] = n
		}
	}
	maps.DeleteFunc(s.state.items, func(name string, _ *scrubItem) bool { _, ok := found[name]; return !ok })
	for name, n := range found {
		i := s.state.items[name]
		if i == nil {
			i = &scrubItem{at: now}
			s.state.items[name] = i
		}
		i.bytes = n
	}
	s.count()
	return nil
}

// next returns the item to read now, or how long there is none. A scrub that was asked
// for goes on at once. The others are spread over the period, each item as much of it
// as it has of the bytes, so that a disk is read evenly; what is behind is not spread.
func (s *scrubber) next(now time.Time, run *scrubRun) (name string, rest time.Duration) {
	var total int64
	last := s.state.begun
	if last.After(now) {
		last = now // the clock was set back
	}
	var oldest *scrubItem
	for n, i := range s.state.items {
		if i.at.After(now) {
			i.at = now
		}
		total += i.bytes + scrubWeight
		if i.read && i.at.After(last) {
			last = i.at
		}
		if i.until.After(now) {
			continue
		}
		if oldest == nil || s.before(n, i, name, oldest) {
			name, oldest = n, i
		}
	}
	switch {
	case oldest == nil:
		return "", scrubSleep
	case oldest.due && (run != nil || s.scheduled()):
		return name, 0
	case run != nil: // all was read that it wants
		return "", 0
	case !s.scheduled():
		return "", -1
	}
	every := s.d.s.o.ScrubEvery
	share := float64(oldest.bytes+scrubWeight) / float64(total)
	begin := last.Add(time.Duration(share * float64(every-every/scrubSlack)))
	if late := oldest.at.Add(every); late.Before(begin) {
		begin = late
	}
	if rest = begin.Sub(now); rest > 0 {
		return "", min(rest, scrubSleep)
	}
	return name, 0
}

// scrubSlack is the part of the period, one in so many, that is left for what comes in
// between.
const scrubSlack = 8

// before is the order in which items are read.
func (s *scrubber) before(a string, i *scrubItem, b string, j *scrubItem) bool {
	if i.due != j.due {
		return i.due
	}
	return cmp.Or(i.at.Compare(j.at), strings.Compare(a, b)) < 0
}

// ended notes how the reading of an item ended.
func (s *scrubber) ended(ctx context.Context, x *scrubbing, err error) {
	now := s.d.s.o.Clock.Now()
	i := s.state.items[x.item]
	s.mu.Lock()
	s.n.Reading = ""
	if err == nil {
		s.n.ReadItems++
	}
	s.mu.Unlock()
	switch {
	case ctx.Err() != nil || s.d.usable() != nil:
		return // nothing is known
	case err == nil:
		i.at, i.read, i.due = now, true, false
		x.run.change(func(r *scrubRun) { r.p.Totals.Items++ })
	case errors.Is(err, errItemGone):
		delete(s.state.items, x.item)
		s.listed = time.Time{} // another may have taken its place
	default:
		i.due, i.until = false, now.Add(scrubRetry)
		x.run.change(func(r *scrubRun) { r.errs = append(r.errs, err) })
		s.failed(x.volume, err)
	}
	s.save()
}

// count publishes what there is to read.
func (s *scrubber) count() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n.Items, s.n.Bytes, s.n.DueItems, s.n.DueBytes, s.n.Oldest = 0, 0, 0, 0, time.Time{}
	for _, i := range s.state.items {
		s.n.Items++
		s.n.Bytes += i.bytes
		if i.due {
			s.n.DueItems++
			s.n.DueBytes += i.bytes
		}
		if s.n.Oldest.IsZero() || i.at.Before(s.n.Oldest) {
			s.n.Oldest = i.at
		}
	}
}

// busyWith reports whether a job is at work on a volume here, or on its shards.
func (s *scrubber) busyWith(v volume.ID) bool {
	return slices.ContainsFunc([]uint32{s.d.number, 0}, func(n uint32) bool { return s.d.s.jobOn(where{n, v}) != nil })
}
