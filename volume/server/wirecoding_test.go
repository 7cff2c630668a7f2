package server_test

import (
	"context"
	"time"

	"hayloft/directory"
	"hayloft/volume"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
)

func (w *wire) CodedRows() []server.Row {
	w.listed.Add(1)
	m := w.d.Map()
	here := func(d lifecycle.Disk) bool {
		disk, ok := m.Disk(directory.DiskID(d))
		return ok && disk.Node == w.node
	}
	var out []server.Row
	for _, v := range m.Volumes() {
		if v.Coding.Homed(here) {
			out = append(out, rowOf(m, v))
		}
	}
	return out
}

func (w *wire) BeginCoding(ctx context.Context, v volume.ID, run lifecycle.Run) (server.Row, error) {
	return w.ask("code", func() (directory.Volume, error) { return w.d.BeginCoding(ctx, directory.VolumeID(v), run) })
}

func (w *wire) CommitCoding(ctx context.Context, v volume.ID, epoch uint32, encoder uint64, digests []lifecycle.Digest, term uint32) (server.Row, error) {
	return w.ask("shards", func() (directory.Volume, error) {
		return w.d.CommitCoding(ctx, directory.VolumeID(v), epoch, encoder, digests, term)
	})
}

func (w *wire) AbortCoding(ctx context.Context, v volume.ID, epoch uint32, encoder uint64) (server.Row, error) {
	return w.ask("abort", func() (directory.Volume, error) {
		return w.d.AbortCoding(ctx, directory.VolumeID(v), epoch, encoder)
	})
}

func (w *wire) RevokeCoding(ctx context.Context, v volume.ID, epoch, term uint32) (server.Row, error) {
	return w.ask("revoke", func() (directory.Volume, error) {
		return w.d.RevokeCoding(ctx, directory.VolumeID(v), epoch, term)
	})
}

func (w *wire) ReleaseSource(ctx context.Context, v volume.ID, epoch uint32, verified []lifecycle.Digest, grace time.Duration, term uint32) (server.Row, error) {
	return w.ask("release", func() (directory.Volume, error) {
		return w.d.ReleaseSource(ctx, directory.VolumeID(v), epoch, verified, grace, term)
	})
}

func (w *wire) MoveShard(ctx context.Context, v volume.ID, epoch uint32, shard int, to uint32, verified lifecycle.Digest, term uint32) (server.Row, error) {
	return w.ask("move", func() (directory.Volume, error) {
		return w.d.MoveShard(ctx, directory.VolumeID(v), epoch, shard, directory.DiskID(to), verified, term)
	})
}

func (w *wire) KeepCoded(ctx context.Context, v volume.ID, disk, term uint32) (server.Row, error) {
	return w.ask("keep", func() (directory.Volume, error) {
		return w.d.KeepCoded(ctx, directory.VolumeID(v), directory.DiskID(disk), term)
	})
}
