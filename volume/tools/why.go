package tools

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
)

// Directory is what the tools ask of the directory, as this node knows it.
type Directory interface {
	Row(v volume.ID) (server.Row, bool)
	Locate(blob id.ID) (server.Place, bool)
	Disks() []Disk
	Nodes() []Node
	// Rows are those of all volumes of the cluster that are not void.
	Rows() []server.Row
	// Leader is the name of the node that leads, or "".
	Leader() string
}

// Photo is what the feed says of a photo.
type Photo struct {
	ID      id.ID      `json:"id"`
	Status  string     `json:"status"`
	Deleted *time.Time `json:"deleted"` // by its owner, or nil
	Master  id.ID      `json:"master"`
	Group   *id.ID     `json:"group"` // of its variants; nil before they are made
}

// Why is everything that is known of a volume, a blob or a photo.
type Why struct {
	Asked   string      `json:"asked"`
	Photo   *Photo      `json:"photo"`   // when it is one
	Blobs   []WhyBlob   `json:"blobs"`   // that were asked for
	Volumes []WhyVolume `json:"volumes"` // that were asked for, or hold the blobs
}

// Readable reports whether everything that was asked for, and not deleted, can be
// read right now.
func (w *Why) Readable() bool {
	for _, b := range w.Blobs {
		if b.State == BlobUnreadable {
			return false
		}
	}
	for _, v := range w.Volumes {
		if v.Error != "" {
			return false
		}
	}
	return true
}

// How a blob is.
const (
	BlobReadable   = "readable"   // every needle of it was read just now, and is whole
	BlobDeleted    = "deleted"    // its volume knows that it is, for ever
	BlobUnreadable = "unreadable" // see Why
	BlobUnknown    = "unknown"    // no volume has it: it was never stored, or deleted before its volume was sealed
)

// WhyBlob is one blob id.
type WhyBlob struct {
	Blob    id.ID      `json:"blob"`
	Role    string     `json:"role,omitempty"` // of a photo's: master, variants
	State   string     `json:"state"`
	Why     string     `json:"why,omitempty"`
	Access  string     `json:"access,omitempty"` // who it is served to: public, signed, gone
	Volume  *volume.ID `json:"volume"`           // whose tile holds the id; nil: none
	Tile    *Tile      `json:"tile"`
	From    string     `json:"from,omitempty"` // file or shards: what it was read from
	Needles []Needle   `json:"needles"`
}

// Needle is one needle of a blob.
type Needle struct {
	Alt    uint8  `json:"alt"`
	Offset int64  `json:"offset"` // in the volume's file
	Size   int64  `json:"size"`   // of the record
	Error  string `json:"error,omitempty"`
}

// Tile is which ids lie in a volume.
type Tile struct {
	Slot id.Slot    `json:"slot"`
	From time.Time  `json:"from"`
	To   *time.Time `json:"to"` // exclusive; nil: it is open
}

func tileOf(slot id.Slot, from, to id.Millis) *Tile {
	t := &Tile{Slot: slot, From: from.Time()}
	if to != 0 {
		end := to.Time()
		t.To = &end
	}
	return t
}

// WhyVolume is one volume.
type WhyVolume struct {
	ID        volume.ID `json:"id"`
	Directory *DirRow   `json:"directory"` // nil: the directory does not know it
	Copies    []Detail  `json:"copies"`    // on this node: files, and its shards as one
	Error     string    `json:"error,omitempty"`
}

// DirRow is what the directory says of a volume.
type DirRow struct {
	State      string    `json:"state"` // open, closing, sealed, void
	Coding     string    `json:"coding"`
	Class      string    `json:"class"`
	Generation uint32    `json:"generation"`
	Tile       *Tile     `json:"tile"`
	Replicas   []DirDisk `json:"replicas"` // disks that should have its file
	InSync     []uint32  `json:"in_sync"`  // those of them that have everything
	SyncEpoch  uint32    `json:"sync_epoch"`
	Target     int       `json:"target"` // how many replicas it should have
	Epochs     []Epoch   `json:"epochs"` // of shards: that serves, that was before, that is being made
	Note       string    `json:"note,omitempty"`
}

// DirDisk is a disk by the directory's number.
type DirDisk struct {
	Disk uint32 `json:"disk"`
	UUID string `json:"uuid"`
}

// Epoch is one epoch of shards as the directory has it.
type Epoch struct {
	Epoch  uint32   `json:"epoch"`
	Is     string   `json:"is"` // committed, before, under way
	Policy string   `json:"policy"`
	Source uint32   `json:"source"` // generation
	Homes  []uint32 `json:"homes"`  // disks, by shard
}

// Why implements Keeper. What is asked for is the number of a volume, or an id of 13
// characters: of a blob, or of a photo.
func (l *Local) Why(ctx context.Context, what string) (Why, error) {
	w := Why{Asked: what, Blobs: []WhyBlob{}, Volumes: []WhyVolume{}}
	if n, err := strconv.ParseUint(what, 10, 32); err == nil && n > 0 && len(what) < idLength {
		v, err := l.whyVolume(ctx, volume.ID(n))
		if err == nil {
			w.Volumes = append(w.Volumes, v)
		}
		return w, err
	}
	asked, err := id.Parse(what)
	if err != nil {
		return w, fmt.Errorf("%w: %q is neither the number of a volume nor the id of a blob or a photo", volume.ErrInvalid, what)
	}
	blobs := []WhyBlob{{Blob: asked}}
	if l.o.Photo != nil {
		p, ok, err := l.o.Photo(ctx, asked)
		if err != nil {
			return w, err
		}
		if ok {
			w.Photo, blobs = &p, nil
			if p.Master != 0 {
				blobs = append(blobs, WhyBlob{Blob: p.Master, Role: "master"})
			}
			if p.Group != nil {
				blobs = append(blobs, WhyBlob{Blob: *p.Group, Role: "variants"})
			}
		}
	}
	for _, b := range blobs {
		if err := l.whyBlob(ctx, &b); err != nil {
			return w, err
		}
		w.Blobs = append(w.Blobs, b)
		if b.Volume == nil || slices.ContainsFunc(w.Volumes, func(v WhyVolume) bool { return v.ID == *b.Volume }) {
			continue
		}
		v, err := l.whyVolume(ctx, *b.Volume)
		if err != nil {
			return w, err
		}
		w.Volumes = append(w.Volumes, v)
	}
	return w, nil
}

// idLength is that of an id as text.
const idLength = 13

// whyBlob fills in what there is to say of a blob.
func (l *Local) whyBlob(ctx context.Context, b *WhyBlob) error {
	b.Needles = []Needle{}
	if l.o.Directory != nil {
		if p, ok := l.o.Directory.Locate(b.Blob); ok {
			b.Volume, b.Tile = &p.Volume.Volume, tileOf(p.Slot, p.From, p.To)
		}
	}
	if l.o.Access != nil {
		access, err := l.o.Access(ctx, b.Blob)
		if err != nil {
			return err
		}
		b.Access = access
	}
	p, err := l.o.Blobs.Probe(ctx, b.Blob)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, server.ErrClosed):
		return err
	case errors.Is(err, volume.ErrNotFound):
		b.State, b.Why = BlobUnknown, "no volume has it: it was never stored, or deleted before its volume was sealed"
		if b.Volume == nil {
			b.Why = "no tile holds this id: no blob was ever stored under it"
		}
		return nil
	case err != nil:
		b.State, b.Why = BlobUnreadable, OneLine(err)
		return nil
	case p.Deleted:
		b.State, b.Why = BlobDeleted, "it is deleted for ever"
	default:
		b.State = BlobReadable
	}
	b.Volume, b.From = &p.Volume.Volume, "file"
	if p.Coded {
		b.From = "shards"
	}
	for _, n := range p.Needles {
		out := Needle{Alt: n.Alt, Offset: n.Offset, Size: n.Size}
		if n.Err != nil {
			out.Error = OneLine(n.Err)
			b.State, b.Why = BlobUnreadable, cmp.Or(b.Why, fmt.Sprintf("alt %d: %s", n.Alt, out.Error))
		}
		b.Needles = append(b.Needles, out)
	}
	return nil
}

// whyVolume says what directory and node know of a volume. It is
// volume.ErrNoVolume when neither does.
func (l *Local) whyVolume(ctx context.Context, v volume.ID) (WhyVolume, error) {
	out := WhyVolume{ID: v, Copies: []Detail{}}
	if l.o.Directory != nil {
		if row, ok := l.o.Directory.Row(v); ok {
			out.Directory = dirRow(row, l.o.Directory.Disks())
		}
	}
	copies, err := l.Show(ctx, v)
	switch {
	case errors.Is(err, volume.ErrNoVolume) && out.Directory != nil:
		out.Error = "this node has no file and no shards of it"
		if out.Directory.Note != "" {
			out.Error = "" // nothing is missed
		}
	case err != nil:
		return out, err
	default:
		out.Copies = copies
		out.Error = copies[0].Error // the one that serves is first
	}
	return out, nil
}

func dirRow(r server.Row, disks []Disk) *DirRow {
	d := &DirRow{State: r.State.String(), Coding: string(r.Coding.State()), Class: r.Volume.Class.String(), Generation: r.Volume.Generation,
		Tile: tileOf(r.Slot, r.From, r.To), Replicas: []DirDisk{}, Epochs: []Epoch{},
		InSync: append([]uint32{}, r.InSync...), SyncEpoch: r.Sync, Target: r.Target}
	switch {
	case r.State == server.StateVoid:
		d.Note = "it never held anything, and never will"
	case r.Unconfirmed:
		d.Note = "nobody has said yet that its file is there: it holds nothing"
	}
	for _, n := range r.Disks {
		uuid := ""
		if i := slices.IndexFunc(disks, func(d Disk) bool { return d.Disk == n }); i >= 0 {
			uuid = disks[i].UUID
		}
		d.Replicas = append(d.Replicas, DirDisk{n, uuid})
	}
	add := func(run lifecycle.Run, is string) {
		e := Epoch{Epoch: run.Epoch, Is: is, Policy: fmt.Sprintf("%d+%d", run.Data, run.Parity), Source: run.Source.Generation, Homes: []uint32{}}
		for _, h := range run.Homes {
			e.Homes = append(e.Homes, uint32(h))
		}
		d.Epochs = append(d.Epochs, e)
	}
	if c := r.Coding.Committed; c != nil {
		add(c.Run, "committed")
	}
	if c := r.Coding.Before; c != nil {
		add(c.Run, "before")
	}
	if c := r.Coding.Run; c != nil {
		add(*c, "under way")
	}
	return d
}
