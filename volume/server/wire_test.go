package server_test

import (
	"context"
	"strings"

	"hayloft/directory"
	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/server"
)

func (w *wire) NodeDisks() []server.NodeDisk {
	var out []server.NodeDisk
	for _, d := range w.d.Map().Disks() {
		if d.Node == w.node {
			out = append(out, server.NodeDisk{Disk: uint32(d.ID), UUID: d.UUID})
		}
	}
	return out
}

func (w *wire) Rows(disk uint32) []server.Row {
	m := w.d.Map()
	var out []server.Row
	for _, v := range m.Volumes() {
		if v.On(directory.DiskID(disk)) {
			out = append(out, rowOf(m, v))
		}
	}
	return out
}

func (w *wire) Row(v volume.ID) (server.Row, bool) {
	m := w.d.Map()
	row, ok := m.Volume(directory.VolumeID(v))
	return rowOf(m, row), ok
}

func (w *wire) FreshRow(ctx context.Context, v volume.ID) (server.Row, bool, error) {
	if err := w.gone(); err != nil {
		return server.Row{}, false, err
	}
	if _, err := w.d.Fresh(ctx); err != nil {
		return server.Row{}, false, err
	}
	row, ok := w.Row(v)
	return row, ok, nil
}

// ask makes a change, unless the directory is away. The answer can be lost.
func (w *wire) ask(what string, change func() (directory.Volume, error)) (server.Row, error) {
	if w.tell != nil {
		if err := w.tell(); err != nil {
			return server.Row{}, err
		}
	}
	w.mu.Lock()
	away, lose := w.away, w.lose == what
	if strings.Contains(w.stopAt, what) {
		away = errAway
	}
	if lose {
		w.lose = ""
	}
	w.mu.Unlock()
	if away != nil {
		return server.Row{}, away
	}
	row, err := change()
	if w.tell != nil {
		lose = w.tell() != nil || lose
	}
	if lose {
		return server.Row{}, errAway
	}
	return rowOf(w.d.Map(), row), err
}

func (w *wire) ConfirmVolume(ctx context.Context, v volume.ID, generation uint32) (server.Row, error) {
	return w.ask("confirm", func() (directory.Volume, error) {
		return w.d.ConfirmVolume(ctx, directory.VolumeID(v), generation, w.incarnation)
	})
}

func (w *wire) AbandonVolume(ctx context.Context, v volume.ID) (server.Row, error) {
	return w.ask("give up", func() (directory.Volume, error) { return w.d.AbandonVolume(ctx, directory.VolumeID(v)) })
}

func (w *wire) CloseVolume(ctx context.Context, v volume.ID) (server.Row, error) {
	return w.ask("close", func() (directory.Volume, error) {
		return w.d.CloseVolume(ctx, directory.VolumeID(v), w.node, w.incarnation)
	})
}

func (w *wire) SealVolume(ctx context.Context, v volume.ID, generation uint32, disks []uint32, s server.Sealed) (server.Row, error) {
	return w.ask("seal", func() (directory.Volume, error) {
		return w.d.SealVolume(ctx, directory.VolumeID(v), generation, diskIDs(disks), sealOf(s))
	})
}

func (w *wire) BeginCompaction(ctx context.Context, v volume.ID, generation uint32, digest volume.Digest, deletes uint32) (server.Row, error) {
	return w.ask("begin", func() (directory.Volume, error) {
		return w.d.BeginCompaction(ctx, directory.VolumeID(v), generation, digest, deletes, w.incarnation)
	})
}

func (w *wire) CommitCompaction(ctx context.Context, v volume.ID, generation uint32, disks []uint32, s server.Sealed) (server.Row, error) {
	return w.ask("commit", func() (directory.Volume, error) {
		return w.d.CommitCompaction(ctx, directory.VolumeID(v), generation, diskIDs(disks), sealOf(s))
	})
}

func (w *wire) AbandonCompaction(ctx context.Context, v volume.ID, generation uint32) (server.Row, error) {
	return w.ask("abandon", func() (directory.Volume, error) {
		return w.d.AbandonCompaction(ctx, directory.VolumeID(v), generation)
	})
}

func (w *wire) LeaveSync(ctx context.Context, v volume.ID, disk, sync uint32) (server.Row, error) {
	return w.ask("leave", func() (directory.Volume, error) {
		return w.d.LeaveSync(ctx, directory.VolumeID(v), directory.DiskID(disk), sync)
	})
}

func (w *wire) JoinSync(ctx context.Context, v volume.ID, disk, generation, sync uint32) (server.Row, error) {
	return w.ask("join", func() (directory.Volume, error) {
		return w.d.JoinSync(ctx, directory.VolumeID(v), directory.DiskID(disk), generation, sync, 0)
	})
}

func (w *wire) AddReplica(ctx context.Context, v volume.ID, disk, sync uint32) (server.Row, error) {
	return w.ask("add", func() (directory.Volume, error) {
		return w.d.AddReplica(ctx, directory.VolumeID(v), directory.DiskID(disk), sync)
	})
}

func (w *wire) RemoveReplica(ctx context.Context, v volume.ID, disk, sync uint32) (server.Row, error) {
	return w.ask("remove", func() (directory.Volume, error) {
		return w.d.RemoveReplica(ctx, directory.VolumeID(v), directory.DiskID(disk), sync)
	})
}

func numbers(disks []directory.DiskID) (out []uint32) {
	for _, d := range disks {
		out = append(out, uint32(d))
	}
	return out
}

func diskIDs(disks []uint32) (out []directory.DiskID) {
	for _, d := range disks {
		out = append(out, directory.DiskID(d))
	}
	return out
}

func rowOf(m *directory.Map, v directory.Volume) server.Row {
	row := server.Row{
		Volume: identity(v), State: server.State(v.State), Unconfirmed: v.Unconfirmed, Slot: v.Slot, From: v.From, To: v.To, Opened: v.Opened, Closed: v.Closed,
		Coding: v.Coding, Disks: numbers(v.Replicas), InSync: numbers(v.InSync), Sync: v.Sync, Target: int(v.Target), Keeper: uint32(v.Keeper), Term: v.Term,
	}
	for _, d := range v.Replicas {
		disk, _ := m.Disk(d)
		row.Replicas = append(row.Replicas, disk.UUID)
	}
	if s := v.Seal; s != nil {
		row.Seal = &server.Sealed{
			Digest: s.Digest, Needles: int64(s.Needles), Bytes: int64(s.Bytes), DataBytes: int64(s.DataBytes),
			Sealed: s.Sealed.Time(), Deletes: s.Deletes,
		}
	}
	if c := v.Compaction; c != nil {
		row.Attempt = &server.Attempt{Generation: c.Generation, Secret: c.Secret, Time: c.Time.Time(), Deletes: c.Deletes}
	}
	return row
}

func sealOf(s server.Sealed) directory.Seal {
	return directory.Seal{
		Digest: s.Digest, Needles: uint64(s.Needles), Bytes: uint64(s.Bytes), DataBytes: uint64(s.DataBytes),
		Sealed: id.MillisOf(s.Sealed), Deletes: s.Deletes,
	}
}
