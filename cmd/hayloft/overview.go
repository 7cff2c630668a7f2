package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"hayloft/directory"
	"hayloft/directory/fleet"
	"hayloft/feed"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
	"hayloft/volume"
	"hayloft/volume/server"
	"hayloft/volume/tools"
)

// keeper are the volumes of this process.
func (n *node) keeper() *tools.Local {
	o := tools.LocalOptions{
		Blobs: n.blobs, Clock: n.clock, Replicas: n.replicas, Policy: n.s.ec, Directory: overview{placement{n.directory, n.nodeID, n.incarnation}, n.view, n.wire == nil},
		Metadata: n.metadata,
	}
	if n.theFeed() != nil { // not on the way of a command that works offline
		o.Photo, o.Access = n.photo, n.accessTo
	}
	return tools.NewLocal(o)
}

// replicas is how many replicas the directory names of a volume.
func (n *node) replicas(v volume.ID) int {
	row, _ := n.directory.Map().Volume(directory.VolumeID(v))
	return len(row.Replicas)
}

// metadata says how many disks and nodes may be lost, whichever, and the metadata is
// still there. Of other voters it is known only that they have one disk at least: a
// majority is lost with as many disks as it takes to lose each of its voters.
func (n *node) metadata() tools.Metadata {
	voters := 1
	if members, err := n.directory.Members(); err == nil {
		voters = max(len(slices.DeleteFunc(members, func(m raftgroup.Member) bool { return !m.Voter })), 1)
	}
	disks, where := n.ownMetadata()
	if voters == 1 {
		return tools.Metadata{Disks: disks, Where: where}
	}
	return tools.Metadata{Disks: voters / 2, Hosts: (voters - 1) / 2, Where: fmt.Sprintf("%d nodes vote; here %s", voters, where)}
}

// ownMetadata says how many disks of this node may be lost without its metadata, and
// where that is.
func (n *node) ownMetadata() (survives int, where string) {
	groups := [][]raftgroup.MirrorState{n.directory.Mirrors()}
	if n.group != nil {
		groups = append(groups, n.group.Mirrors())
	}
	var least []string
	for i, g := range groups {
		dirs := []string{}
		for _, m := range g {
			if m.Mirror && !m.Copying && m.Lost == nil {
				dirs = append(dirs, filepath.Dir(filepath.Dir(m.Dir))) // the data directory
			}
		}
		if i == 0 || len(dirs) < len(least) {
			least = dirs
		}
	}
	if len(least) == 1 {
		return 0, "it lies in " + least[0] + " alone"
	}
	return max(len(least)-1, 0), fmt.Sprintf("%d copies: %s", len(least), strings.Join(least, ", "))
}

// overview is the directory as the tools ask it.
type overview struct {
	placement
	view  func() *fleet.View
	alone bool // there is no other node
}

var _ tools.Directory = overview{}

func (o overview) Leader() string {
	leader, _ := o.d.Leader() // members have the names of their nodes
	return leader
}

func (o overview) Nodes() []tools.Node {
	out := []tools.Node{}
	leader := o.Leader()
	view := o.view()
	for _, n := range o.d.Map().Nodes() {
		row := tools.Node{ID: uint32(n.ID), Name: n.Name, Addr: n.Addr, Duty: n.State.String(), Leads: n.Name == leader, Here: n.ID == o.node, Registered: n.Registered.Time()}
		heard, _ := view.Node(n.Name)
		row.Up, row.Away = heard.Up || o.alone, heard.Away.Seconds()
		for _, r := range everyRole {
			if n.Roles&roleBits[r] != 0 {
				row.Roles = append(row.Roles, string(r))
			}
		}
		out = append(out, row)
	}
	return out
}

func (o overview) Disks() []tools.Disk {
	out := []tools.Disk{}
	m, view := o.d.Map(), o.view()
	for _, d := range m.Disks() {
		row := tools.Disk{Disk: uint32(d.ID), UUID: hex.EncodeToString(d.UUID[:]), Node: uint32(d.Node), Duty: d.State.String(), Capacity: int64(d.Capacity)}
		if n, ok := m.NodeOf(d.ID); ok {
			row.State, row.Free = heardOf(view, n.Name, uint32(d.ID))
		}
		out = append(out, row)
	}
	return out
}

// heardOf is how a disk of another node is, as the fleet has it.
func heardOf(view *fleet.View, node string, disk uint32) (state string, free int64) {
	n, ok := view.Node(node)
	if !ok {
		return "", 0
	}
	for _, d := range n.Disks {
		switch {
		case d.Disk.Disk != disk:
		case !n.Up:
			return tools.StateAway, d.Free
		case !d.InService:
			return tools.StateOut, d.Free
		default:
			return tools.StateOK, d.Free
		}
	}
	return "", 0
}

func (o overview) Rows() []server.Row {
	m := o.d.Map()
	var out []server.Row
	for _, v := range m.Volumes() {
		if v.State != directory.StateVoid {
			out = append(out, rowOf(m, v))
		}
	}
	return out
}

// photo finds the blobs of a photo.
func (n *node) photo(ctx context.Context, photo id.ID) (tools.Photo, bool, error) {
	row, err := n.theFeed().PhotoRow(ctx, photo)
	if errors.Is(err, feed.ErrNotFound) {
		return tools.Photo{}, false, nil
	}
	if err != nil {
		return tools.Photo{}, false, err
	}
	p := tools.Photo{ID: row.ID, Status: photoStatus(row.Status), Master: row.Master.Blob}
	if row.Rendition.Blob != 0 {
		p.Group = &row.Rendition.Blob
	}
	if !row.DeletedAt.IsZero() {
		p.Deleted = &row.DeletedAt
	}
	return p, true, nil
}

func photoStatus(s feed.Status) string {
	names := map[feed.Status]string{
		feed.Reserved: "reserved", feed.Stored: "stored", feed.Pending: "pending", feed.Ready: "ready", feed.Failed: "failed", feed.Deleted: "deleted",
	}
	if name, ok := names[s]; ok {
		return name
	}
	return fmt.Sprintf("status-%d", s)
}

// accessTo says who a blob is served to.
func (n *node) accessTo(ctx context.Context, blob id.ID) (string, error) {
	v, err := n.theFeed().Access(ctx, blob)
	if err != nil {
		return "", err
	}
	return map[feed.Access]string{feed.AccessGone: "gone", feed.AccessPublic: "public", feed.AccessSigned: "signed"}[v.Access], nil
}
