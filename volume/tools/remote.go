package tools

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"hayloft/internal/admin"
	"hayloft/volume"
	"hayloft/volume/server"
)

// Remote are the volumes of a server, through its admin listener.
type Remote struct{ c *admin.Client }

var _ Keeper = (*Remote)(nil)

// NewRemote returns a Keeper that asks c.
func NewRemote(c *admin.Client) *Remote { return &Remote{c} }

// List implements Source.
func (r *Remote) List(ctx context.Context) ([]Row, error) {
	var a listAnswer
	err := r.c.Get(ctx, base, &a)
	return a.Volumes, named(err)
}

// Show implements Source.
func (r *Remote) Show(ctx context.Context, v volume.ID) ([]Detail, error) {
	var a showAnswer
	err := r.c.Get(ctx, path(v, ""), &a)
	return a.Replicas, named(err)
}

func path(v volume.ID, verb string) string {
	p := fmt.Sprintf("%s/%d", base, v)
	if verb != "" {
		p += "/" + verb
	}
	return p
}

// named gives a problem the error that it was at the other end.
func named(err error) error {
	p, ok := err.(*admin.Problem)
	if !ok {
		return err
	}
	for name, is := range map[string]error{
		"no-such-volume": volume.ErrNoVolume, "not-sealed": volume.ErrNotSealed, "not-coded": ErrNotCoded, "too-few-disks": server.ErrPlacement,
	} {
		if p.Named(name) {
			return remoteError{p, is}
		}
	}
	return p
}

// remoteError reads as the problem does.
type remoteError struct {
	*admin.Problem
	is error
}

func (e remoteError) Unwrap() error { return e.is }

// into fills v from a line and gives it to fn.
func into[T any](value json.RawMessage, fn func(T) error) error {
	var v T
	if err := json.Unmarshal(value, &v); err != nil {
		return err
	}
	return fn(v)
}

// unknown is a line that a newer server sends: it is passed over.
func unknown() error { return nil }

// Dump implements Source.
func (r *Remote) Dump(ctx context.Context, v volume.ID, q Query, s DumpSink) error {
	p := path(v, "dump")
	if query := q.values().Encode(); query != "" {
		p += "?" + query
	}
	return named(r.c.Stream(ctx, http.MethodGet, p, &struct{}{}, func(kind string, value json.RawMessage, _ []byte) error {
		switch kind {
		case kindFile:
			return into(value, s.File)
		case kindRecord:
			return into(value, s.Record)
		}
		return unknown()
	}))
}

// Verify implements Source.
func (r *Remote) Verify(ctx context.Context, v volume.ID, report func(Progress)) ([]Verified, error) {
	var rows []Verified
	err := r.c.Stream(ctx, http.MethodPost, path(v, "verify"), &struct{}{}, func(kind string, value json.RawMessage, _ []byte) error {
		switch kind {
		case admin.KindProgress:
			return into(value, reporting(report))
		case kindReplica:
			return into(value, func(row Verified) error { rows = append(rows, row); return nil })
		}
		return unknown()
	})
	return rows, named(err)
}

func reporting(report func(Progress)) func(Progress) error {
	return func(p Progress) error { report(p); return nil }
}

// Export implements Source. It compares every needle with its ETag: what was
// damaged on its way ends the export.
func (r *Remote) Export(ctx context.Context, v volume.ID, s ExportSink) error {
	return named(r.c.Stream(ctx, http.MethodGet, path(v, "export"), &struct{}{}, func(kind string, value json.RawMessage, raw []byte) error {
		switch kind {
		case kindNeedle:
			return into(value, func(e Exported) error {
				if len(raw) != e.Size || fmt.Sprintf("%08x", checksum(raw)) != e.ETag {
					return fmt.Errorf("blob %v alt %d was damaged on its way here", e.Blob, e.Alt)
				}
				return s.Needle(e, raw)
			})
		case kindDamaged:
			return into(value, s.Damaged)
		}
		return unknown()
	}))
}

// Seal implements Keeper.
func (r *Remote) Seal(ctx context.Context, v volume.ID, report func(Progress)) error {
	return r.job(ctx, v, "seal", &struct{}{}, report)
}

// Compact implements Keeper.
func (r *Remote) Compact(ctx context.Context, v volume.ID, report func(Progress)) (c Compacted, err error) {
	err = r.job(ctx, v, "compact", &c, report)
	return c, err
}

func (r *Remote) job(ctx context.Context, v volume.ID, verb string, result any, report func(Progress)) error {
	return named(r.c.Stream(ctx, http.MethodPost, path(v, verb), result, func(kind string, value json.RawMessage, _ []byte) error {
		if kind == admin.KindProgress {
			return into(value, reporting(report))
		}
		return unknown()
	}))
}
