package server_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"hayloft/directory"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

func (h *house) volumes() []server.VolumeInfo {
	h.t.Helper()
	all, err := h.s.Volumes()
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// A disk of this node whose directory is empty, dead or not named takes its
// volumes out of service, and each of them is said to be missing.
func TestMissingDisk(t *testing.T) {
	for name, lose := range map[string]func(h *house, away func()){
		"not mounted": func(h *house, _ func()) { h.opts.Dirs = []string{"/a", "/empty"} },
		"not named":   func(h *house, _ func()) { h.opts.Dirs = []string{"/a"} },
		"dead":        func(_ *house, away func()) { away() },
	} {
		t.Run(name, func(t *testing.T) {
			dead := false
			mem := vfs.NewMem(1)
			fault := &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
				if dead && strings.HasPrefix(op.Name, "/b") {
					return vfs.Outcome{Err: unix.EIO}
				}
				return vfs.Outcome{}
			}}
			h := newHouse(t, server.Options{FS: fault, Dirs: []string{"/a", "/b"}})
			var all []stored
			for range 4 {
				all = append(all, h.mustPut(variants, 1000, 1))
			}
			whole := h.volumes()
			gone := h.info(func(i server.VolumeInfo) bool { return i.Dir == "/b" })
			if len(whole) != 2 || len(h.s.Stats().Missing) != 0 || h.saw(server.EventDiskMissing) != 0 {
				t.Fatalf("%+v", whole)
			}
			h.stop()
			dirs := h.opts.Dirs
			lose(h, func() { dead = true })
			h.start()
			h.missing(gone)
			h.stop()
			dead, h.opts.Dirs = false, dirs
			h.start()
			if h.saw(server.EventDiskMissing) != 1 || len(h.s.Stats().Missing) != 0 || len(h.volumes()) != 2 {
				t.Errorf("%+v", h.volumes())
			}
			h.both(all, nil)
		})
	}
}

// missing checks everything that is said of a volume whose disk is away.
func (h *house) missing(gone server.VolumeInfo) {
	h.t.Helper()
	i := h.info(is(gone.Volume))
	if i.State != "sick" || !errors.Is(i.Sick, server.ErrMissing) || i.Disk != gone.Disk || i.UUID != gone.UUID || i.Dir != "" || i.Class != variants {
		h.t.Errorf("%+v", i)
	}
	st := h.s.Stats()
	if st.Classes[0].Sick != 1 || st.Classes[0].Open != 1 || len(st.Missing) != 1 || st.Missing[0] != (server.MissingDisk{Disk: gone.Disk, UUID: gone.UUID, Volumes: 1}) {
		h.t.Errorf("%+v, %+v", st.Classes, st.Missing)
	}
	if h.saw(server.EventDiskMissing) != 1 {
		h.t.Error("nothing was said at the start")
	}
	_, compacted := h.s.Compact(h.t.Context(), gone.Volume, nil)
	_, verified := h.s.Verify(h.t.Context(), gone.Volume, 0, nil, nil)
	for what, err := range map[string]error{
		"seal":    h.s.Seal(h.t.Context(), gone.Volume, nil),
		"compact": compacted, "verify": verified,
		"use":         h.s.Use(gone.Volume, 0, func(*volume.Volume) error { return nil }),
		"use of disk": h.s.Use(gone.Volume, gone.Disk, func(*volume.Volume) error { return nil }),
	} {
		if !errors.Is(err, server.ErrUnavailable) || !errors.Is(err, server.ErrMissing) || errors.Is(err, volume.ErrNoVolume) || !strings.Contains(err.Error(), gone.UUID) {
			h.t.Errorf("%s: %v", what, err)
		}
	}
}

// While a server stops, it does not say that it has no volumes.
func TestVolumesOfAClosedServer(t *testing.T) {
	h := newHouse(t, server.Options{})
	h.mustPut(variants, 100, 1)
	s := h.s
	h.stop()
	if all, err := s.Volumes(); !errors.Is(err, server.ErrClosed) || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// machine replaces the machine by a new one, with an empty disk: a node of its
// own, which misses none of the former one's disks.
func (h *house) machine(seed uint64) {
	h.t.Helper()
	node, err := h.dir.RegisterNode(h.t.Context(), directory.NodeSpec{Name: fmt.Sprint("machine ", seed)})
	if err != nil {
		h.t.Fatal(err)
	}
	h.mem, h.wire.node = vfs.NewMem(seed), node.ID
}
