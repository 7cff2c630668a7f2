package server

import (
	"fmt"
	"slices"

	"hayloft/volume"
)

// NodeDisk is the directory's row of a disk of this node.
type NodeDisk struct {
	Disk uint32
	UUID [16]byte
}

// MissingDisk is a disk of this node that has volumes and is not in service: it
// is dead, not mounted, or no data directory of this process.
type MissingDisk struct {
	Disk    uint32 // the directory's number
	UUID    string
	Volumes int // that are out of service with it
}

// absent is a missing disk with its volumes, none of them empty.
type absent struct {
	NodeDisk
	why  error // it went out, or nil
	rows []Row
}

func (a absent) err() error {
	err := fmt.Errorf("disk %s is in none of the data directories in service: %w", hexOf(a.UUID), ErrMissing)
	if a.why != nil {
		err = fmt.Errorf("%w: %w", err, a.why)
	}
	return err
}

func (s *Server) hasDisk(number uint32) bool { return s.diskByNumber(number) != nil }

// coded: shards hold all that the volume's files hold.
func (r Row) coded() bool { return r.Coding.Committed != nil }

// absent returns the disks of this node that have volumes and are not in service.
func (s *Server) absent() (out []absent) {
	for _, nd := range s.o.Directory.NodeDisks() {
		if s.hasDisk(nd.Disk) {
			continue
		}
		rows := slices.DeleteFunc(s.o.Directory.Rows(nd.Disk), func(r Row) bool { return r.empty() || r.coded() })
		if len(rows) > 0 {
			out = append(out, absent{nd, s.whyGone(nd.Disk), rows})
		}
	}
	return out
}

func (a absent) infos() (out []VolumeInfo) {
	for _, r := range a.rows {
		out = append(out, missingInfo(r, a.Disk, hexOf(a.UUID), a.err()))
	}
	return out
}

// missingInfo describes a volume that the directory has on a disk and the disk
// has not.
func missingInfo(r Row, disk uint32, uuid string, why error) VolumeInfo {
	return VolumeInfo{
		Volume: r.Volume.Volume, Class: r.Volume.Class, Generation: r.Volume.Generation,
		Disk: disk, UUID: uuid, State: "sick", Sick: why,
	}
}

// tellMissing reports the disks that a start does without.
func (s *Server) tellMissing() {
	for _, a := range s.absent() {
		s.o.Events(Event{Kind: EventDiskMissing, Err: fmt.Errorf("%d volumes: %w", len(a.rows), a.err())})
	}
}

// nowhere is the error for a volume of which no replica is in service on a disk,
// or on this node when disk is 0.
func (s *Server) nowhere(v volume.ID, disk uint32) error {
	row, known := s.o.Directory.Row(v)
	if !known || row.empty() {
		return unknown(v)
	}
	if h := s.codedHandle(v); h != nil && h.vol == nil && disk == 0 {
		return unavailable("volume %d: %w", v, h.sick)
	}
	for _, nd := range s.o.Directory.NodeDisks() {
		if !slices.Contains(row.Disks, nd.Disk) || disk != 0 && disk != nd.Disk {
			continue
		}
		if s.hasDisk(nd.Disk) {
			return unavailable("volume %d: %w", v, ErrMissing)
		}
		return unavailable("volume %d: %w", v, absent{NodeDisk: nd, why: s.whyGone(nd.Disk)}.err())
	}
	if disk != 0 {
		return fmt.Errorf("%w: %d on disk %d", volume.ErrNoVolume, v, disk)
	}
	return lost(v)
}
