package tools

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"hayloft/internal/admin"
	"hayloft/volume"
)

// Coded implements Keeper.
func (r *Remote) Coded(ctx context.Context) (a CodedList, err error) {
	err = r.c.Get(ctx, codedPath, &a)
	return a, named(err)
}

// Cluster implements Keeper.
func (r *Remote) Cluster(ctx context.Context) (a Cluster, err error) {
	err = r.c.Get(ctx, clusterPath, &a)
	return a, named(err)
}

// Why implements Keeper.
func (r *Remote) Why(ctx context.Context, what string) (a Why, err error) {
	err = r.c.Get(ctx, whyPath+"/"+url.PathEscape(what), &a)
	return a, named(err)
}

// Encode implements Keeper.
func (r *Remote) Encode(ctx context.Context, v volume.ID, report func(Progress)) error {
	return r.job(ctx, v, "encode", &struct{}{}, report)
}

// Rebuild implements Keeper.
func (r *Remote) Rebuild(ctx context.Context, v volume.ID, report func(Progress)) error {
	return r.job(ctx, v, "rebuild", &struct{}{}, report)
}

// Decode implements Keeper. It compares every piece with its checksum: what was
// damaged on its way ends it.
func (r *Remote) Decode(ctx context.Context, v volume.ID, s DecodeSink) (d Decoded, err error) {
	err = named(r.c.Stream(ctx, http.MethodGet, path(v, "decode"), &d, func(kind string, value json.RawMessage, raw []byte) error {
		switch kind {
		case admin.KindProgress:
			return into(value, reporting(s.Report))
		case kindPiece:
			return into(value, func(p decodedPiece) error {
				if fmt.Sprintf("%08x", checksum(raw)) != p.CRC {
					return fmt.Errorf("a piece of volume %d was damaged on its way here", v)
				}
				return s.Part(p.Part, raw)
			})
		}
		return unknown()
	}))
	return d, err
}
