package api

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/media"
)

const (
	deletedMeanwhile = "deleted meanwhile" // a reason

	originalPause = time.Second // before a store that could not be reached is asked again
	originalTries = 30          // until the first original that it does not give is left out; later ones have one
)

// originals writes the masters, a piece at each step. Each is read to its end before its
// entry begins: so what is in the archive is whole, and its header says so. One that is
// longer than a piece is read once more for that.
type originals struct {
	x     *archive
	after id.ID
	begun bool // the first page was read
	queue []feed.PhotoView

	photo feed.PhotoView // the one that is under way
	off   int64          // so far its bytes are checked, or written
	crc   uint32         // of those that are checked
	tries int            // in a row that the store could not be reached
	given bool           // an original was left out for that
	fetch fetchFunc      // nil: none is under way
	w     io.Writer      // nil: it is being checked
	space []byte
}

func (o *originals) step(ctx context.Context) (bool, error) {
	switch {
	case o.w != nil:
		return false, o.copyPiece(ctx)
	case o.fetch != nil:
		return false, o.checkPiece(ctx)
	case len(o.queue) > 0:
		o.photo, o.queue, o.tries = o.queue[0], o.queue[1:], 0
		o.x.passed(o.photo.ID)
		o.begin()
		return false, nil
	case o.begun && o.after == 0:
		o.x.passed(^id.ID(0))
		return true, nil
	}
	rows, next, err := o.x.a.opt.Feed.Owned(ctx, o.x.me.ID, Page{After: o.after, Limit: archiveRows})
	o.queue, o.after, o.begun = rows, next, true
	return false, err
}

// begin starts a reading of the photo's original.
func (o *originals) begin() {
	if o.space == nil {
		o.space = make([]byte, pieceBytes)
	}
	o.off, o.crc, o.fetch = 0, 0, o.x.a.masterPieces(o.photo.Master)
}

// there looks again whether the photo is its owner's still. The error is that of an account
// which is suspended or gone by now.
func (o *originals) there(ctx context.Context) (bool, error) {
	rows, _, err := o.x.a.opt.Feed.Owned(ctx, o.x.me.ID, Page{After: o.photo.ID - 1, Limit: 1})
	return len(rows) > 0 && rows[0].ID == o.photo.ID, err
}

// piece reads what follows of the original; again says that the store was away, and may be back
// by the next step.
func (o *originals) piece(ctx context.Context) (piece []byte, again bool, err error) {
	piece = o.space[:min(pieceBytes, o.photo.Master.Size-o.off)]
	if err = o.fetch(ctx, o.off, piece); err != nil {
		return nil, o.awaits(ctx, err), err
	}
	o.off, o.tries = o.off+int64(len(piece)), 0
	return piece, false, nil
}

// awaits waits a little for a store that could not be reached; false: not any more.
func (o *originals) awaits(ctx context.Context, why error) bool {
	if o.tries++; !errors.Is(why, ErrUnavailable) && ctx.Err() == nil || o.tries == originalTries || o.given {
		return false
	}
	select {
	case <-o.x.a.opt.Clock.After(originalPause):
	case <-ctx.Done():
	}
	return o.x.a.base.Err() == nil
}

// checkPiece reads on in an original that is not in the archive yet.
func (o *originals) checkPiece(ctx context.Context) error {
	there, err := o.there(ctx)
	if err != nil {
		return err
	}
	if !there {
		o.leaveOut(deletedMeanwhile)
		return nil
	}
	piece, again, err := o.piece(ctx)
	switch {
	case again:
		return nil
	case o.x.a.base.Err() != nil:
		return o.x.a.base.Err()
	case err != nil:
		o.unread(ctx, err)
		return nil
	}
	o.crc = crc32.Update(o.crc, crc32.IEEETable, piece)
	if o.off < o.photo.Master.Size {
		return nil
	}
	return o.open(piece)
}

// unread leaves out an original that cannot be read. Those after one that its store did not
// give are not waited for.
func (o *originals) unread(ctx context.Context, why error) {
	o.x.a.emit(Event{Kind: EventFault, Route: archiveRoute, Account: o.photo.Author, Err: fmt.Errorf("api: an export leaves out photo %v: %w", o.photo.ID, why)})
	if errors.Is(why, ErrUnavailable) || ctx.Err() != nil {
		o.given = true
		o.leaveOut("not available now")
		return
	}
	o.leaveOut("damaged or lost")
}

func (o *originals) leaveOut(reason string) {
	o.x.missing = append(o.x.missing, missingPhoto{o.photo.ID, originalName(o.photo), reason})
	o.fetch = nil
}

// open begins the entry of an original that is whole; last is its last piece.
func (o *originals) open(last []byte) error {
	m := o.photo.Master
	w, err := o.x.zip.CreateRaw(rawHeader(originalName(o.photo), o.photo.CreatedAt, o.crc, m.Size))
	if err != nil {
		return err
	}
	if m.Size == int64(len(last)) {
		o.fetch = nil
		_, err := w.Write(last)
		return err
	}
	o.begin()
	o.w = w
	return nil
}

// copyPiece writes what follows of the original. Its entry has begun: whatever comes between
// ends the archive.
func (o *originals) copyPiece(ctx context.Context) error {
	there, err := o.there(ctx)
	if err == nil && !there {
		err = feed.ErrNotFound
	}
	if err != nil {
		return err
	}
	piece, again, err := o.piece(ctx)
	if again {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := o.w.Write(piece); err != nil {
		return err
	}
	if o.off == o.photo.Master.Size {
		o.w, o.fetch = nil, nil
	}
	return nil
}

// rawHeader is the header of a file that is stored as it is. Nothing but CreateHeader makes
// one complete.
func rawHeader(name string, at time.Time, crc uint32, size int64) *zip.FileHeader {
	at = at.UTC()
	return &zip.FileHeader{
		Name: name, Method: zip.Store, CRC32: crc, CompressedSize64: uint64(size), UncompressedSize64: uint64(size),
		CreatorVersion: 20, ReaderVersion: 20,
		//lint:ignore SA1019 CreateRaw writes the date from nothing else
		ModifiedDate: uint16(at.Day() + int(at.Month())<<5 + (at.Year()-1980)<<9),
		//lint:ignore SA1019 the same
		ModifiedTime: uint16(at.Second()/2 + at.Minute()<<5 + at.Hour()<<11),
	}
}

func originalName(p feed.PhotoView) string {
	return "originals/" + p.CreatedAt.UTC().Format(time.DateOnly) + "-" + p.ID.String() + "." + media.Ext(p.Master.ContentType)
}
