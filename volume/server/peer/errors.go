package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// ErrVersion: the other node does not speak this version of the protocol.
var ErrVersion = errors.New("peer: version not spoken")

// code is an error on the wire; see docs/peer-protocol.md. Numbers are never used
// for another one.
type code uint16

const codeUnavailable code = 1

// table has every error that callers of a server.Peer may ask for.
var table = []struct {
	code code
	err  error
}{
	{codeUnavailable, server.ErrUnavailable},
	{2, server.ErrMoved},
	{3, server.ErrNoSpace},
	{4, server.ErrDisk},
	{5, server.ErrMissing},
	{6, server.ErrPlacement},
	{7, server.ErrDiskOut},
	{8, server.ErrLate},
	{20, volume.ErrNotFound},
	{21, volume.ErrCorrupt},
	{22, volume.ErrFull},
	{23, volume.ErrPoisoned},
	{24, volume.ErrConflict},
	{25, volume.ErrTombstoned},
	{26, volume.ErrUnsupported},
	{27, volume.ErrTooLarge},
	{28, volume.ErrExists},
	{29, volume.ErrNoVolume},
	{30, volume.ErrHung},
	{31, volume.ErrInvalid},
	{32, volume.ErrSealed},
	{33, volume.ErrNotSealed},
	{34, volume.ErrNoSpace},
	{35, volume.ErrNotFenced},
	{50, fs.ErrNotExist},
	{51, fs.ErrExist},
	{52, io.EOF},
	{53, vfs.ErrNoDirect},
	{54, vfs.ErrLocked},
	{55, unix.ENOSPC},
	{56, unix.EDQUOT},
	{57, unix.EIO},
	{58, unix.EINVAL},
	{59, unix.EROFS},
	{60, server.ErrShelf},
	{codeCancelled, context.Canceled},
	{codeDeadline, context.DeadlineExceeded},
}

const (
	codeCancelled code = 40
	codeDeadline  code = 41
)

// silent say nothing about a replica, whatever they are about: they come together
// with server.ErrUnavailable.
var silent = []error{context.Canceled, context.DeadlineExceeded, server.ErrClosed, volume.ErrClosed}

// codesOf lists what err is.
func codesOf(err error) []code {
	var out []code
	for _, e := range table {
		if errors.Is(err, e.err) {
			out = append(out, e.code)
		}
	}
	known := len(out) > 0
	for _, e := range silent {
		known = known && !errors.Is(err, e)
	}
	if !known && !errors.Is(err, server.ErrUnavailable) {
		out = append(out, codeUnavailable)
	}
	return out
}

const maxMessage = 1024

// appendError appends err, which may be nil, with a text of at most so many bytes.
func appendError(b []byte, err error, most int) []byte {
	if err == nil {
		return append(b, 0, 0, 0)
	}
	codes := codesOf(err)
	b = append(b, byte(len(codes)))
	for _, c := range codes {
		b = le.AppendUint16(b, uint16(c))
	}
	text := err.Error()
	text = text[:min(len(text), most)]
	return append(le.AppendUint16(b, uint16(len(text))), text...)
}

// remoteError is an error that a Peer on another node returned.
type remoteError struct {
	text string
	is   []error
}

func (e *remoteError) Error() string   { return e.text }
func (e *remoteError) Unwrap() []error { return e.is }

// takeError is the inverse of appendError.
func takeError(p *parser) *remoteError {
	n := int(p.u8())
	e := &remoteError{}
	for range n {
		if p.bad {
			return nil
		}
		e.is = append(e.is, errorOf(code(p.u16())))
	}
	l := int(p.u16())
	p.bad = p.bad || l > maxMessage || n == 0 && l > 0
	e.text = string(p.text(l))
	if n == 0 {
		return nil
	}
	return e
}

// errorOf returns the error of a code. One that is not known says nothing.
func errorOf(c code) error {
	for _, e := range table {
		if e.code == c {
			return e.err
		}
	}
	return server.ErrUnavailable
}

// callError is why a call to a node has no good answer.
type callError struct {
	node string
	call call
	err  error
}

func (e *callError) Error() string { return fmt.Sprintf("node %s: %s: %v", e.node, e.call, e.err) }
func (e *callError) Unwrap() error { return e.err }

// unavailable marks an error that says nothing about a replica.
func unavailable(err error) error { return fmt.Errorf("%w: %w", server.ErrUnavailable, err) }
