package main

import (
	"context"
	"time"

	"hayloft/directory"
	"hayloft/internal/id"
	"hayloft/volume"
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

func (p placement) OpenVolume(ctx context.Context, l id.Lease, disk uint32, from id.Millis) (volume.Identity, error) {
	row, err := p.d.OpenVolume(ctx, l, directory.DiskID(disk), from)
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
	place := server.Place{Volume: identityOf(row), Slot: t.Slot, From: t.From, To: t.To}
	for _, d := range row.Replicas {
		place.Disks = append(place.Disks, uint32(d))
	}
	return place, true
}

func identityOf(row directory.Volume) volume.Identity {
	return volume.Identity{Volume: volume.ID(row.ID), Generation: row.Generation, Class: volume.Class(row.Class)}
}

// openBlobs takes the disks into use.
func (n *node) openBlobs(ctx context.Context) (err error) {
	n.blobs, err = server.Open(ctx, server.Options{
		Dirs:      n.s.data,
		Directory: placement{n.directory, n.nodeID, n.incarnation},
		Clock:     n.clock, VolumeBytes: int64(n.s.volumeSize), KeepFree: int64(n.s.diskReserve),
		DirectoryTimeout: 5 * time.Second, Events: n.blobEvent,
	})
	return err
}
