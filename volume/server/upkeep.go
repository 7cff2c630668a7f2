package server

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"hayloft/volume"
)

// Kick has every disk looked over soon: when the table has changed, a row may ask
// something of it.
func (s *Server) Kick() {
	for _, d := range s.all() {
		d.kick()
	}
	s.coder.kick()
}

// kick has the disk looked over soon.
func (d *disk) kick() {
	select {
	case d.kicked <- struct{}{}:
	default:
	}
}

// upkeep is the goroutine that moves the disk's volumes on in their lives, one
// at a time, until ctx ends. It keeps nothing that the directory and the files
// do not tell.
func (d *disk) upkeep(ctx context.Context) {
	for {
		for d.next(ctx) {
		}
		select {
		case <-d.kicked:
		case <-d.s.o.Clock.After(d.s.o.UpkeepEvery):
		case <-ctx.Done():
			return
		}
	}
}

// next does one job that is due, and reports whether there may be another.
func (d *disk) next(ctx context.Context) bool {
	if d.usable() != nil {
		return false
	}
	l, err := d.list()
	if err != nil {
		d.blind = true
		d.failed(err)
		return false
	}
	if d.blind {
		d.blind = false
		d.failed(nil)
	}
	for _, w := range d.all(l) {
		if w.kind == jobCompact && !d.stillDue(ctx, w.v, l.files[w.v]) {
			continue
		}
		if begun, more := d.start(ctx, w.v, w.kind); begun || !more {
			d.listed = nil
			return more
		}
	}
	return false
}

// listEvery is how long a list of the files serves on a disk of several nodes: there
// each change of the directory's table has the disks looked over.
const listEvery = 10 * time.Second

// fileList is what lies in a disk's folder of volumes: how many files of each, and
// of which something was put aside.
type fileList struct {
	files map[volume.ID]int
	aside map[volume.ID]bool
	at    time.Time
}

// list returns what lies on the disk. It is the upkeep's alone.
func (d *disk) list() (*fileList, error) {
	now := d.s.o.Clock.Now()
	if l := d.listed; l != nil && d.s.o.Peers != nil && now.Sub(l.at) < listEvery && !now.Before(l.at) {
		return l, nil
	}
	l := &fileList{files: make(map[volume.ID]int), at: now}
	all, err := volume.List(d.fs, d.volumesDir())
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		l.files[e.Volume]++
	}
	l.aside = d.quarantined()
	d.listed = l
	return l, nil
}

// wanted is a job that is due.
type wanted struct {
	v    volume.ID
	kind jobKind
}

// urgency orders jobs: what keeps a volume from what follows comes first, and what takes
// a whole volume's time for nothing but room last.
var urgency = map[jobKind]int{jobAbandon: 0, jobLeave: 1, jobSeal: 2, jobRepair: 3, jobFill: 4, jobCompact: 5, jobRemove: 6, jobDrop: 7}

// all returns what is due on the disk, the most urgent first.
func (d *disk) all(l *fileList) (out []wanted) {
	d.gather()
	k, files, aside := d.s.look(), l.files, l.aside
	rows := d.s.o.Directory.Rows(d.number)
	for _, row := range rows {
		v := row.Volume.Volume
		kind := d.due(row, files[v], k)
		if kind == 0 && aside[v] && row.mayDrop(d.number) && !d.troubles.rests(trouble{v: v}, k.now) {
			kind = jobDrop
		}
		if kind != 0 {
			out = append(out, wanted{v, kind})
		}
	}
	for _, v := range d.strays(rows, files, aside) {
		if kind := d.dueStray(v); kind != 0 {
			out = append(out, wanted{v, kind})
		}
	}
	slices.SortStableFunc(out, func(a, b wanted) int { return cmp.Compare(urgency[a.kind], urgency[b.kind]) })
	return out
}

// start does a job, unless another one is at work on the volume: the end of that is a
// kick. more: there may be another job.
func (d *disk) start(ctx context.Context, v volume.ID, kind jobKind) (begun, more bool) {
	if ctx.Err() != nil {
		return false, false
	}
	j, begun, err := d.s.job(d, v, kind)
	if err != nil {
		return false, false // the server stops
	}
	if !begun {
		return false, true
	}
	// What fails or changes nothing rests for a while, so this ends.
	if _, err := j.wait(ctx, nil); err == nil {
		d.restIfDue(ctx, v, kind)
	}
	return true, ctx.Err() == nil
}

// quarantined are the volumes of which something was put aside on the disk.
func (d *disk) quarantined() map[volume.ID]bool {
	if d.s.o.Peers == nil {
		return nil // nothing was ever put aside
	}
	all, err := volume.ListQuarantined(d.fs, d.volumesDir())
	if err != nil {
		return nil // the next look may see them
	}
	out := make(map[volume.ID]bool)
	for _, q := range all {
		out[q.Volume] = true
	}
	return out
}

// stillDue looks at a row as it is now: a compaction that has ended since it was
// listed is not done again.
func (d *disk) stillDue(ctx context.Context, v volume.ID, files int) bool {
	row, err := d.s.fresh(ctx, v)
	return err == nil && d.due(row, files, d.s.look()) == jobCompact
}

// restIfDue leaves a volume alone for a while that needs again what was just
// done for it: files and directory are not as this program expects.
func (d *disk) restIfDue(ctx context.Context, v volume.ID, kind jobKind) {
	if kind == jobDrop {
		d.troubles.pause(trouble{v: v}, d.s.o.Clock.Now().Add(retryFirst))
		return
	}
	row, err := d.s.fresh(ctx, v)
	if err != nil {
		return // the next job will meet the same, and rest
	}
	all, err := d.generations(v)
	if err != nil || d.due(row, len(all), d.s.look()) != kind {
		return
	}
	d.troubles.pause(trouble{v: v}, d.s.o.Clock.Now().Add(retryFirst))
}

// due returns what a volume needs now, 0 for nothing.
func (d *disk) due(row Row, files int, k sky) jobKind {
	v := row.Volume.Volume
	if row.empty() {
		if d.unmade(row, files, k) {
			return jobAbandon
		}
		return 0
	}
	if !row.alone(d.number) {
		return d.dueTogether(row, files, k)
	}
	h := d.s.pin(d.number, v)
	if h == nil || h.vol == nil {
		return 0
	}
	defer h.unpin()
	if d.troubles.rests(trouble{v: v}, d.s.o.Clock.Now()) {
		return 0
	}
	st := h.vol.Stats()
	switch row.State {
	case StateOpen:
		age := d.s.o.Clock.Now().Sub(row.Opened.Time())
		if st.Poisoned != nil || h.left.Load() || !d.s.taking(row.Disks) || age >= d.s.o.SealAfter && st.Needles+st.Tombstones > 0 {
			return jobSeal
		}
	case StateClosing:
		return jobSeal
	case StateSealed:
		ended := h.vol.Poisoned() != nil // then the next generation takes its deletes
		switch {
		case row.Coding.Run != nil || row.Coding.Committed != nil: // it is the coder's
		case st.Poisoned != nil && !ended: // the delete log: the next one goes by it too
		case row.Attempt != nil || st.Generation != row.Volume.Generation || ended || d.s.o.wasteful(st):
			return jobCompact
		case files > 1 && !d.s.closingOld(where{d.number, v}):
			return jobRemove
		}
	}
	return 0
}

// garbage is how many bytes of a file hold nothing that can be read.
func garbage(st volume.Stats) int64 { return max(st.FileBytes-st.LiveBytes-volume.HeadBytes, 0) }

// wasteful reports whether a sealed volume is worth compacting.
func (o *Options) wasteful(st volume.Stats) bool {
	dead := garbage(st)
	return dead >= o.CompactBytes && float64(dead) >= o.CompactShare*float64(st.FileBytes)
}

func (s *Server) closingOld(w where) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.closing[w] != nil
}

// outcome notes how a job ended.
func (d *disk) outcome(j *job, err error) {
	if d.life.Err() != nil {
		return
	}
	if errors.Is(err, errHeld) { // its writer may close it at any moment, which is no reason to wait with the rest
		d.troubles.pause(trouble{j.v, jobSeal}, d.s.o.Clock.Now().Add(retryFirst))
		return
	}
	d.troubles.note(trouble{v: j.v}, err, d.s.o.Clock.Now())
	if err == nil {
		return
	}
	d.s.n.failures.Add(1)
	d.s.o.Events(Event{Kind: EventUpkeepFailed, Dir: d.dir, Volume: j.v, Work: j.kind.String(), Err: err})
}
