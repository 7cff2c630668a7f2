package feed

import (
	"context"
	"fmt"
	"time"

	"hayloft/internal/id"
)

func (h *history) begin() {
	owner := h.someUser()
	expires := h.clock.Now().Add(15 * time.Minute)
	photo, err := h.feed.BeginUpload(context.Background(), owner, UploadSpec{Size: 1000, ContentType: "image/png", ExpiresAt: expires})
	h.expect(fmt.Sprintf("%v begins %v", owner, photo), err)
	h.m.photos[photo] = &modelPhoto{id: photo, owner: owner, status: Reserved, due: expires.Add(h.m.slack), likes: map[id.ID]bool{}}
	h.m.order = append(h.m.order, photo)
}

// reservedErr is what an ended upload is answered with, swept or not.
var reservedErr = []error{ErrExpired, ErrNotFound}

func (h *history) intend() {
	p := h.somePhoto(func(p *modelPhoto) bool { return p.status != Pending })
	if p == nil {
		return
	}
	h.intendFor(p)
}

// intendFor returns the blob, 0 when refused.
func (h *history) intendFor(p *modelPhoto) id.ID {
	blob := h.scattered()
	now := h.clock.Now()
	err := h.feed.Intend(context.Background(), p.id, blob)
	what := fmt.Sprintf("intend %v for %v", blob, p.id)
	switch {
	case p.status == Reserved && p.due.Before(now):
		h.expect(what, err, reservedErr...)
		return 0
	case p.status == Deleted:
		h.expect(what, err, ErrNotFound)
		return 0
	case p.status == Stored:
		h.expect(what, err, ErrStored)
		return 0
	case p.status == Ready || p.status == Failed:
		h.expect(what, err, ErrConflict)
		return 0
	}
	h.expect(what, err)
	due := now.Add(h.m.intentLife)
	h.m.intents[blob] = intent{p.id, due}
	h.m.blobs[blob] = true
	if p.status == Reserved && due.After(p.due) {
		p.due = due
	}
	return blob
}

func (h *history) stored() {
	p := h.somePhoto(nil)
	if p == nil {
		return
	}
	var blob id.ID
	for _, b := range sorted(h.m.blobs) { // one of its own intents if there is one
		if i, ok := h.m.intents[b]; ok && i.photo == p.id {
			blob = b
		}
	}
	if blob == 0 || h.rng.IntN(10) == 0 {
		blob = h.scattered() // never intended
	}
	var d *Details
	if h.rng.IntN(2) == 0 {
		d = &Details{Visibility: Visibility(h.rng.IntN(3)), Caption: "c"}
	}
	h.storedWith(p, blob, d)
}

func (h *history) storedWith(p *modelPhoto, blob id.ID, d *Details) {
	now := h.clock.Now()
	err := h.feed.Stored(context.Background(), p.id, master(blob), d)
	what := fmt.Sprintf("stored %v for %v (%d)", blob, p.id, p.status)
	i, intended := h.m.intents[blob]
	switch {
	case p.status == Deleted || p.status != Reserved && p.master != 0:
		h.expect(what, err, ErrStored)
	case !intended || i.photo != p.id || !i.due.After(now):
		h.expect(what, err, ErrExpired)
	default:
		h.expect(what, err)
		delete(h.m.intents, blob)
		p.master, p.status, p.due = blob, Stored, now.Add(h.m.storedLife)
		if d != nil && !h.m.hidden[p.owner] { // else it waits for one who may share it
			p.status, p.vis, p.due = Pending, d.Visibility, time.Time{}
		}
	}
}

func (h *history) finalize() {
	p := h.somePhoto(func(p *modelPhoto) bool { return p.status < Ready })
	if p == nil || h.m.hidden[p.owner] {
		return
	}
	owner := p.owner
	if h.rng.IntN(5) == 0 {
		owner = h.someUser()
	}
	vis := Visibility(h.rng.IntN(3))
	_, err := h.feed.Finalize(context.Background(), owner, p.id, Details{Visibility: vis})
	what := fmt.Sprintf("%v finalizes %v", owner, p.id)
	ended := !p.due.IsZero() && !p.due.After(h.clock.Now())
	switch {
	case owner != p.owner:
		h.expect(what, err, ErrNotFound)
	case ended && p.status == Reserved:
		h.expect(what, err, ErrNotFound, ErrBytesMissing)
	case p.status == Reserved:
		h.expect(what, err, ErrBytesMissing)
	case p.status == Stored:
		h.expect(what, err)
		p.status, p.vis, p.due = Pending, vis, time.Time{}
	default:
		h.expect(what, err)
	}
}

// post is the whole way of an upload.
func (h *history) post() {
	h.begin()
	p := h.m.photos[h.m.order[len(h.m.order)-1]]
	blob := h.intendFor(p)
	vis := Public
	if h.rng.IntN(3) == 0 {
		vis = Visibility(h.rng.IntN(3))
	}
	h.storedWith(p, blob, &Details{Visibility: vis, Title: "a title"})
	if h.rng.IntN(8) > 0 {
		h.settlePhoto(p)
	}
}

func (h *history) settle() {
	if p := h.somePhoto(func(p *modelPhoto) bool { return p.status >= Pending }); p != nil {
		h.settlePhoto(p)
	}
}

func (h *history) settlePhoto(p *modelPhoto) {
	if h.rng.IntN(12) == 0 {
		err := h.feed.MarkFailed(context.Background(), p.id, Failure{"broken", "no"})
		h.settled("fail", p, err, Failed)
		return
	}
	blob := h.scattered()
	if p.status == Pending {
		blob = h.intendFor(p)
	}
	if p.status == Pending && h.rng.IntN(15) == 0 {
		return // the worker dies here
	}
	err := h.feed.MarkReady(context.Background(), p.id, rendition(blob))
	if h.settled("ready", p, err, Ready) {
		delete(h.m.intents, blob)
		p.rendition = blob
		h.m.posted++
		p.rank = h.m.posted
		h.m.weigh(p.owner)
		p.pull = h.m.celebrity[p.owner]
	}
}

func (h *history) settled(what string, p *modelPhoto, err error, to Status) bool {
	what = fmt.Sprintf("%s %v (%d)", what, p.id, p.status)
	switch {
	case p.status == Deleted:
		h.expect(what, err, ErrNotFound)
	case p.status == Failed && to == Failed:
		h.expect(what, err)
	case p.status != Pending:
		h.expect(what, err, ErrConflict)
	default:
		h.expect(what, err)
		p.status = to
		return err == nil
	}
	return false
}

func (h *history) update() {
	p := h.somePhoto(nil)
	if p == nil || h.m.hidden[p.owner] {
		return
	}
	vis := Visibility(h.rng.IntN(3))
	_, err := h.feed.UpdatePhoto(context.Background(), p.owner, p.id, PhotoChange{Visibility: &vis})
	what := fmt.Sprintf("update %v", p.id)
	if p.status < Pending || p.status == Deleted {
		h.expect(what, err, ErrNotFound)
		return
	}
	h.expect(what, err)
	if vis > p.vis {
		p.epoch++
	}
	p.vis = vis
}

func (h *history) remove() {
	p := h.popular()
	if p == nil || h.m.hidden[p.owner] {
		return
	}
	owner, purge := p.owner, h.rng.IntN(4) == 0
	if h.rng.IntN(6) == 0 {
		owner = h.someUser()
	}
	err := h.feed.DeletePhoto(context.Background(), owner, p.id, purge)
	what := fmt.Sprintf("%v deletes %v (%d), purge %v", owner, p.id, p.status, purge)
	switch {
	case owner != p.owner || p.status < Pending:
		h.expect(what, err, ErrNotFound)
		return
	}
	ended := !p.due.IsZero() && !p.due.After(h.clock.Now())
	h.expect(what, err)
	if p.status != Deleted {
		p.before, p.status, p.due = p.status, Deleted, h.clock.Now().Add(h.m.grace)
	}
	if purge {
		h.m.purge(p)
		if !ended {
			h.expect("restore a purged one", h.restoreErr(p), ErrNotFound, ErrConflict)
		}
	}
}

func (h *history) restoreErr(p *modelPhoto) error {
	_, err := h.feed.RestorePhoto(context.Background(), p.owner, p.id)
	return err
}

func (h *history) restore() {
	p := h.somePhoto(func(p *modelPhoto) bool { return p.status >= Pending })
	if p == nil || h.m.hidden[p.owner] {
		return
	}
	err := h.restoreErr(p)
	what := fmt.Sprintf("restore %v (%d, was %d)", p.id, p.status, p.before)
	switch {
	case p.status != Deleted:
		h.expect(what, err)
	case !p.due.After(h.clock.Now()):
		h.expect(what, err, ErrConflict, ErrNotFound)
	default:
		h.expect(what, err)
		p.status, p.due = p.before, time.Time{}
	}
}
