package api

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/media"
)

// originals writes the masters. Those of several pieces are read twice, first to see that all
// of it is there: so what is in the archive is whole, and its header says so.
type originals struct {
	x     *archive
	after id.ID
	begun bool // the first page was read
	queue []feed.PhotoView

	w     io.Writer // of the one that is being written
	size  int64
	off   int64
	fetch fetchFunc
	space []byte
}

func (o *originals) step(ctx context.Context) (bool, error) {
	switch {
	case o.w != nil:
		return false, o.copyPiece(ctx)
	case len(o.queue) > 0:
		p := o.queue[0]
		o.queue = o.queue[1:]
		return false, o.open(ctx, p)
	case o.begun && o.after == 0:
		return true, nil
	}
	rows, next, err := o.x.a.opt.Feed.Owned(ctx, o.x.me.ID, Page{After: o.after, Limit: archiveRows})
	o.queue, o.after, o.begun = rows, next, true
	return false, err
}

// open begins the file of a photo, or notes that it is missing. A store that cannot be
// reached is no reason to leave one out: then the archive is cut off.
func (o *originals) open(ctx context.Context, p feed.PhotoView) error {
	crc, err := o.check(ctx, p.Master)
	switch {
	case err == nil:
	case ctx.Err() != nil, errors.Is(err, ErrUnavailable):
		return fmt.Errorf("master of photo %v: %w", p.ID, err)
	default:
		o.x.missing = append(o.x.missing, missingPhoto{p.ID, originalName(p), "the original could not be read"})
		o.x.a.emit(Event{Kind: EventFault, Route: v1 + "/exports/{id}/archive", Account: p.Author, Err: fmt.Errorf("api: an export leaves out photo %v: %w", p.ID, err)})
		return nil
	}
	size := uint64(p.Master.Size)
	o.w, err = o.x.zip.CreateRaw(&zip.FileHeader{
		Name: originalName(p), Method: zip.Store, Modified: p.CreatedAt,
		CRC32: crc, CompressedSize64: size, UncompressedSize64: size,
	})
	o.size, o.off, o.fetch = p.Master.Size, 0, o.x.a.masterPieces(p.Master)
	if err == nil && o.size <= pieceBytes { // it is in space
		return o.write(o.space[:o.size])
	}
	return err
}

// check reads a master and returns its checksum of zip.
func (o *originals) check(ctx context.Context, m feed.Master) (uint32, error) {
	if o.space == nil {
		o.space = make([]byte, pieceBytes)
	}
	sum, fetch := crc32.NewIEEE(), o.x.a.masterPieces(m)
	for off := int64(0); off < m.Size; {
		piece := o.space[:min(pieceBytes, m.Size-off)]
		if err := fetch(ctx, off, piece); err != nil {
			return 0, err
		}
		sum.Write(piece)
		off += int64(len(piece))
	}
	return sum.Sum32(), nil
}

func (o *originals) copyPiece(ctx context.Context) error {
	piece := o.space[:min(pieceBytes, o.size-o.off)]
	if err := o.fetch(ctx, o.off, piece); err != nil {
		return err
	}
	return o.write(piece)
}

func (o *originals) write(piece []byte) error {
	if _, err := o.w.Write(piece); err != nil {
		return err
	}
	if o.off += int64(len(piece)); o.off == o.size {
		o.w = nil
	}
	return nil
}

func originalName(p feed.PhotoView) string {
	return "originals/" + p.CreatedAt.UTC().Format("2006-01-02") + "-" + p.ID.String() + "." + media.Ext(p.Master.ContentType)
}
