package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"hayloft/directory"
	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/tools"

	"golang.org/x/sync/errgroup"
)

// rebuildDirectory makes the directory that a survey tells. Everything it commits
// follows from the disks, so it may be done again after a crash: what is there
// already is a repetition.
func (n *node) rebuildDirectory(ctx context.Context, s *tools.Survey) error {
	if err := n.openData(ctx); err != nil {
		return err
	}
	if wholeDirectory(n.s.data) == nil { // it begins here
		if err := setAside(n.s.data, n.clock.Now()); err != nil {
			return err
		}
	}
	for _, dir := range n.s.data {
		if err := vfs.WriteFile(vfs.OS{}, filepath.Join(dir, rebuildingName), []byte("see docs/operations.md\n")); err != nil {
			return err
		}
	}
	if err := n.openDirectoryAlone(ctx); err != nil {
		return err
	}
	disks := make([]directory.DiskID, len(s.Disks))
	for i, d := range s.Disks {
		// The server says how large it is when it starts.
		row, err := n.directory.RegisterDisk(ctx, directory.DiskSpec{Node: n.nodeID, UUID: d.UUID})
		if err != nil {
			return err
		}
		disks[i] = row.ID
	}
	for _, v := range s.Volumes {
		if _, err := n.directory.RestoreVolume(ctx, restoredRow(&v, disks)); err != nil {
			return fmt.Errorf("volume %d: %w", v.ID, err)
		}
	}
	return n.pastEverything(ctx, s.Newest)
}

// restoredRow is the row of a volume.
func restoredRow(v *tools.SurveyedVolume, disks []directory.DiskID) directory.Volume {
	row := directory.Volume{
		ID: directory.VolumeID(v.ID), Class: directory.Class(v.Class), State: directory.StateClosing,
		Generation: v.Generation, LastGeneration: v.LastGeneration, Opened: id.MillisOf(v.Opened),
		Slot: v.Slot, From: v.From, To: v.To, Closed: v.Closed,
	}
	for _, d := range v.Disks {
		row.Replicas = append(row.Replicas, disks[d])
	}
	for _, d := range v.InSync {
		row.InSync = append(row.InSync, disks[d])
	}
	row.Target = uint8(v.Target)
	r := v.Seal
	if r == nil {
		return row
	}
	row.State = directory.StateSealed
	row.Seal = &directory.Seal{Digest: r.Digest, Needles: uint64(r.Needles), Bytes: uint64(r.End), DataBytes: uint64(r.DataBytes),
		Sealed: id.MillisOf(r.Sealed), Deletes: r.Deletes}
	row.Coding.Epoch = v.LastEpoch
	e := v.Epoch
	if e == nil {
		return row
	}
	// When it was committed nobody knows. Its grace begins with the seal, and what is
	// released after it is verified before.
	c := &lifecycle.Commit{At: v.Closed.Time(), Run: lifecycle.Run{
		Epoch: e.Plan.Epoch, Encoder: e.Plan.Encoder, Data: e.Plan.Data, Parity: e.Plan.Parity, IndexBytes: e.Plan.IndexBytes,
		Source: lifecycle.Source{Generation: e.Plan.Generation, Digest: lifecycle.Digest(e.Plan.SourceDigest), Bytes: e.Plan.SourceBytes},
	}}
	for i, d := range e.Digests {
		c.Digests = append(c.Digests, lifecycle.Digest(d))
		c.Homes = append(c.Homes, lifecycle.Disk(disks[e.Homes[i]]))
	}
	row.Coding.Committed = c
	if v.Released() || e.Plan.Generation < v.Generation {
		row.Coding.Released = e.Plan.Generation
	}
	return row
}

// pastEverything sees to it that no id is minted twice: every window of every slot is
// to begin after all that the lost directory may have leased. It does, by the clock,
// unless the clock is behind or the last ids are a moment old.
func (n *node) pastEverything(ctx context.Context, newest id.Millis) error {
	past := newest + id.Millis(leaseMargin/time.Millisecond)
	if id.MillisOf(n.clock.Now()) > past {
		return nil
	}
	if past > id.MaxMillis {
		return fmt.Errorf("ids up to %s are in use: there are no more", idTime(newest))
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(64)
	for _, kind := range []directory.Kind{directory.IDs, directory.Variants, directory.Originals} {
		lo, hi := kind.Slots()
		for worker := range uint16(hi - lo) { // each is given another slot
			group.Go(func() error {
				l, err := n.directory.AcquireSlot(ctx, directory.AcquireRequest{
					Node: n.nodeID, Incarnation: n.incarnation, Worker: worker, Kind: kind, Want: time.Millisecond, Now: past,
				})
				if errors.Is(err, id.ErrNoSlot) {
					return nil // used up
				}
				if err == nil {
					err = n.directory.SurrenderLease(ctx, l, l.To)
				}
				return err
			})
		}
	}
	return group.Wait()
}
