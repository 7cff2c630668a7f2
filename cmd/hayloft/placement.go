package main

import (
	"context"
	"time"

	"hayloft/directory"
	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
)

// placement is the directory as this node's blob server sees it.
type placement struct {
	d           *directory.Directory
	node        directory.NodeID
	incarnation uint64
}

var _ server.Directory = placement{}

func (p placement) RegisterDisk(ctx context.Context, uuid [16]byte, capacity uint64) (uint32, error) {
	row, err := p.d.RegisterDisk(ctx, directory.DiskSpec{Node: p.node, UUID: uuid, Capacity: capacity})
	return uint32(row.ID), err
}

func (p placement) Leaser(class volume.Class, worker uint16, disk uint32) id.Leaser {
	kind := directory.Originals
	if class == volume.ClassVariants {
		kind = directory.Variants
	}
	return p.d.Leaser(directory.AcquireRequest{
		Node: p.node, Incarnation: p.incarnation, Worker: worker, Kind: kind, Disk: directory.DiskID(disk),
	})
}

func (p placement) OpenVolume(ctx context.Context, l id.Lease, disks []uint32, target int, from id.Millis) (volume.Identity, error) {
	row, err := p.d.OpenVolume(ctx, l, diskIDs(disks), target, from)
	return identityOf(row), err
}

func (p placement) CloseTile(ctx context.Context, l id.Lease, at id.Millis) error {
	return p.d.CloseTile(ctx, l, at)
}

func (p placement) OpenTile(slot id.Slot) (server.Place, bool) {
	m := p.d.Map()
	t, ok := m.OpenTile(slot)
	if !ok {
		return server.Place{}, false
	}
	return placeOf(m, t)
}

func (p placement) Locate(blob id.ID) (server.Place, bool) { return locate(p.d.Map(), blob) }

func (p placement) LocateFresh(ctx context.Context, blob id.ID) (server.Place, bool, error) {
	m, err := p.d.Fresh(ctx)
	if err != nil {
		return server.Place{}, false, err
	}
	place, ok := locate(m, blob)
	return place, ok, nil
}

func locate(m *directory.Map, blob id.ID) (server.Place, bool) {
	t, ok := m.TileAt(blob.Slot(), blob.Millis())
	if !ok {
		return server.Place{}, false
	}
	return placeOf(m, t)
}

// placeOf joins a tile with its volume's row.
func placeOf(m *directory.Map, t directory.Tile) (server.Place, bool) {
	row, ok := m.Volume(t.Volume)
	if !ok {
		return server.Place{}, false
	}
	return server.Place{
		Volume: identityOf(row), Disks: diskNumbers(row.Replicas), InSync: diskNumbers(row.InSync), Sync: row.Sync, Target: int(row.Target),
		Keeper: server.KeeperOf(row.Coding, uint32(row.Keeper)), State: server.State(row.State), Slot: t.Slot, From: t.From, To: t.To,
	}, true
}

// diskNumbers are disks as the blob server names them, diskIDs as the directory does.
func diskNumbers(disks []directory.DiskID) []uint32 {
	out := make([]uint32, len(disks))
	for i, d := range disks {
		out[i] = uint32(d)
	}
	return out
}

func diskIDs(disks []uint32) []directory.DiskID {
	out := make([]directory.DiskID, len(disks))
	for i, d := range disks {
		out[i] = directory.DiskID(d)
	}
	return out
}

func identityOf(row directory.Volume) volume.Identity {
	return volume.Identity{Volume: volume.ID(row.ID), Generation: row.Generation, Class: volume.Class(row.Class)}
}

func (p placement) NodeDisks() []server.NodeDisk {
	var out []server.NodeDisk
	for _, d := range p.d.Map().Disks() {
		if d.Node == p.node {
			out = append(out, server.NodeDisk{Disk: uint32(d.ID), UUID: d.UUID})
		}
	}
	return out
}

func (p placement) Rows(disk uint32) []server.Row {
	m := p.d.Map()
	var out []server.Row
	for _, v := range m.Volumes() {
		if v.On(directory.DiskID(disk)) {
			out = append(out, rowOf(m, v))
		}
	}
	return out
}

func (p placement) Row(v volume.ID) (server.Row, bool) {
	m := p.d.Map()
	row, ok := m.Volume(directory.VolumeID(v))
	return rowOf(m, row), ok
}

func (p placement) FreshRow(ctx context.Context, v volume.ID) (server.Row, bool, error) {
	if _, err := p.d.Fresh(ctx); err != nil {
		return server.Row{}, false, err
	}
	row, ok := p.Row(v)
	return row, ok, nil
}

func (p placement) ConfirmVolume(ctx context.Context, v volume.ID, generation uint32) (server.Row, error) {
	return p.changed(p.d.ConfirmVolume(ctx, directory.VolumeID(v), generation, p.incarnation))
}

func (p placement) AbandonVolume(ctx context.Context, v volume.ID) (server.Row, error) {
	return p.changed(p.d.AbandonVolume(ctx, directory.VolumeID(v)))
}

func (p placement) CloseVolume(ctx context.Context, v volume.ID) (server.Row, error) {
	return p.changed(p.d.CloseVolume(ctx, directory.VolumeID(v), p.node, p.incarnation))
}

func (p placement) SealVolume(ctx context.Context, v volume.ID, generation uint32, disks []uint32, s server.Sealed) (server.Row, error) {
	return p.changed(p.d.SealVolume(ctx, directory.VolumeID(v), generation, diskIDs(disks), commitOf(s)))
}

func (p placement) BeginCompaction(ctx context.Context, v volume.ID, generation uint32, digest volume.Digest, deletes uint32) (server.Row, error) {
	return p.changed(p.d.BeginCompaction(ctx, directory.VolumeID(v), generation, digest, deletes, p.incarnation))
}

func (p placement) BeginSalvage(ctx context.Context, v volume.ID, generation, disk uint32) (server.Row, error) {
	return p.changed(p.d.BeginSalvage(ctx, directory.VolumeID(v), generation, directory.DiskID(disk), p.incarnation))
}

func (p placement) CommitCompaction(ctx context.Context, v volume.ID, generation uint32, disks []uint32, s server.Sealed) (server.Row, error) {
	return p.changed(p.d.CommitCompaction(ctx, directory.VolumeID(v), generation, diskIDs(disks), commitOf(s)))
}

func (p placement) AbandonCompaction(ctx context.Context, v volume.ID, generation uint32) (server.Row, error) {
	return p.changed(p.d.AbandonCompaction(ctx, directory.VolumeID(v), generation))
}

func (p placement) LeaveSync(ctx context.Context, v volume.ID, disk, sync uint32) (server.Row, error) {
	return p.changed(p.d.LeaveSync(ctx, directory.VolumeID(v), directory.DiskID(disk), sync))
}

func (p placement) JoinSync(ctx context.Context, v volume.ID, disk, generation, sync uint32) (server.Row, error) {
	return p.changed(p.d.JoinSync(ctx, directory.VolumeID(v), directory.DiskID(disk), generation, sync, p.incarnation))
}

func (p placement) AddReplica(ctx context.Context, v volume.ID, disk, sync uint32) (server.Row, error) {
	return p.changed(p.d.AddReplica(ctx, directory.VolumeID(v), directory.DiskID(disk), sync))
}

func (p placement) RemoveReplica(ctx context.Context, v volume.ID, disk, sync uint32) (server.Row, error) {
	return p.changed(p.d.RemoveReplica(ctx, directory.VolumeID(v), directory.DiskID(disk), sync))
}

func (p placement) CodedRows() []server.Row {
	m := p.d.Map()
	here := func(d lifecycle.Disk) bool {
		disk, ok := m.Disk(directory.DiskID(d))
		return ok && disk.Node == p.node
	}
	var out []server.Row
	for _, v := range m.Volumes() {
		if v.Coding.Homed(here) || v.Coding.Committed != nil && here(lifecycle.Disk(v.Keeper)) {
			out = append(out, rowOf(m, v))
		}
	}
	return out
}

func (p placement) BeginCoding(ctx context.Context, v volume.ID, run lifecycle.Run) (server.Row, error) {
	return p.changed(p.d.BeginCoding(ctx, directory.VolumeID(v), run))
}

func (p placement) CommitCoding(ctx context.Context, v volume.ID, epoch uint32, encoder uint64, digests []lifecycle.Digest, term uint32) (server.Row, error) {
	return p.changed(p.d.CommitCoding(ctx, directory.VolumeID(v), epoch, encoder, digests, term))
}

func (p placement) AbortCoding(ctx context.Context, v volume.ID, epoch uint32, encoder uint64) (server.Row, error) {
	return p.changed(p.d.AbortCoding(ctx, directory.VolumeID(v), epoch, encoder))
}

func (p placement) RevokeCoding(ctx context.Context, v volume.ID, epoch, term uint32) (server.Row, error) {
	return p.changed(p.d.RevokeCoding(ctx, directory.VolumeID(v), epoch, term))
}

func (p placement) ReleaseSource(ctx context.Context, v volume.ID, epoch uint32, verified []lifecycle.Digest, grace time.Duration, term uint32) (server.Row, error) {
	return p.changed(p.d.ReleaseSource(ctx, directory.VolumeID(v), epoch, verified, grace, term))
}

func (p placement) MoveShard(ctx context.Context, v volume.ID, epoch uint32, shard int, to uint32, verified lifecycle.Digest, term uint32) (server.Row, error) {
	return p.changed(p.d.MoveShard(ctx, directory.VolumeID(v), epoch, shard, directory.DiskID(to), verified, term))
}

func (p placement) KeepCoded(ctx context.Context, v volume.ID, disk, term uint32) (server.Row, error) {
	return p.changed(p.d.KeepCoded(ctx, directory.VolumeID(v), directory.DiskID(disk), term))
}

// changed is the answer to a change of a volume's row.
func (p placement) changed(row directory.Volume, err error) (server.Row, error) {
	if err != nil {
		return server.Row{}, err
	}
	return rowOf(p.d.Map(), row), nil
}

// rowOf joins a volume's row with the disks it names.
func rowOf(m *directory.Map, v directory.Volume) server.Row {
	row := server.Row{
		Volume: identityOf(v), State: server.State(v.State), Unconfirmed: v.Unconfirmed, Slot: v.Slot, From: v.From, To: v.To, Opened: v.Opened, Closed: v.Closed,
		Coding: v.Coding, Disks: diskNumbers(v.Replicas), InSync: diskNumbers(v.InSync), Sync: v.Sync, Target: int(v.Target),
		Keeper: uint32(v.Keeper), Term: v.Term,
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

func commitOf(s server.Sealed) directory.Seal {
	return directory.Seal{
		Digest: s.Digest, Needles: uint64(s.Needles), Bytes: uint64(s.Bytes), DataBytes: uint64(s.DataBytes),
		Sealed: id.MillisOf(s.Sealed), Deletes: s.Deletes,
	}
}

// openBlobs takes the disks into use.
func (n *node) openBlobs(ctx context.Context) (err error) {
	began := n.clock.Elapsed()
	var near server.Peers // none: there is one disk
	if n.mesh != nil || len(n.s.data) > 1 || n.s.targetReplicas() > 1 {
		near = n.newNeighbours()
	}
	look := time.Duration(0) // the server's own
	if n.mesh != nil {
		look = 10 * time.Second // nodes go away without a word
	}
	var dirs []string
	if n.plays(roleVolume) {
		dirs = n.s.data
	}
	n.blobs, err = server.Open(ctx, server.Options{
		Dirs: dirs, Node: n.who.name, Peers: near, Replicas: n.s.targetReplicas(), MaxStale: time.Duration(n.s.maxStale), Heard: n.heard, UpkeepEvery: look,
		Directory: placement{n.directory, n.nodeID, n.incarnation},
		Clock:     n.clock, VolumeBytes: int64(n.s.volumeSize), KeepFree: int64(n.s.diskReserve),
		DirectoryTimeout: 5 * time.Second, Events: n.blobEvent, DiskChanged: n.diskChanged,
		Neighbours:  []string{nodeFile, adminTokenFile, demoFile, directoryGroup[0], timelines[0], searchIndex[0]},
		OpenPerDisk: n.s.openVolumes, SealAfter: time.Duration(n.s.sealAfter),
		CompactShare: n.s.compactGarbage, Maintenance: int64(n.s.maintenanceRate), NoUpkeep: n.onRequest,
		Coding: n.s.ec, CodeAfter: time.Duration(n.s.ecAfter), SourceGrace: time.Duration(n.s.ecGrace), RepairDelay: time.Duration(n.s.repairDelay),
		ScrubEvery: time.Duration(n.s.scrubEvery),
	})
	if err == nil {
		n.serveReplicas()
		n.tellOpened(n.clock.Elapsed() - began)
	}
	return err
}

// heard is how old what this node knows of the directory is at most; false before the
// first word since the start. A node that is alone knows it all.
func (n *node) heard() (time.Duration, bool) {
	if n.wire == nil {
		return 0, true
	}
	f := n.fleetNow.Load()
	if f == nil || n.foreign.Load() { // numbers of volumes and disks mean other ones to those who ask
		return 0, false
	}
	return f.HeardFresh()
}
