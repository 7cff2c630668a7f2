package server

import (
	"sync"
	"sync/atomic"
	"time"

	"hayloft/volume"
)

// handle is a generation of a volume in service, or a volume that cannot be.
// Who uses vol holds a pin: when another generation takes its place, the volume
// is closed as soon as the last pin is gone.
type handle struct {
	disk      *disk          // nil when coded
	coded     *codedVolume   // the shards that vol is read from, or nil
	vol       *volume.Volume // nil when sick
	sick      error
	opened    uint64      // of a coded one: changes of the disks that were known then
	sickSince time.Time   // of a coded one that cannot be served
	void      atomic.Bool // of a coded one: its epoch was to be revoked, and may be
	gate      *gate       // of its deletes; all generations on a disk that follow one another share one
	shipments shipments   // of its deletes, while it is the primary
	left      atomic.Bool // a writer of this process has left it
	rotten    atomic.Bool // what is damaged in its file cannot be restored in place
	// heir is the generation that this process made of a poisoned vol and does not
	// serve yet; 0 without one.
	heir atomic.Uint32

	mu      sync.Mutex // guards all below
	pins    int
	retired chan struct{} // made by retire, closed when the last pin is gone
}

// pin returns the replica on a disk, pinned when it is in service; nil when there
// is none.
func (s *Server) pin(disk uint32, v volume.ID) *handle {
	for {
		h := s.handle(disk, v)
		if h == nil || h.vol == nil || h.hold() {
			return h
		}
		// Replaced since it was looked up: the map has another by now.
	}
}

func (h *handle) hold() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.retired != nil {
		return false
	}
	h.pins++
	return true
}

// repin pins again what the caller holds a pin of.
func (h *handle) repin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.pins++
}

func (h *handle) unpin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pins--; h.pins == 0 && h.retired != nil {
		close(h.retired)
	}
}

// retire refuses new pins and returns a channel that is closed when the last one
// is gone. It may be called once, after another handle took the place of h.
func (h *handle) retire() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.retired = make(chan struct{})
	if h.pins == 0 {
		close(h.retired)
	}
	return h.retired
}

// blame is disk.blame. Of a coded volume the shards have said it.
func (h *handle) blame(err error) error {
	if h.disk == nil {
		return err
	}
	return h.disk.blame(err)
}

// answersFor reports whether the file holds what the table means, although its
// generation may be another: while generations change, the table of this node
// and its disk are not of the same moment. All generations that compaction made
// hold the same, and go by one delete log.
func (h *handle) answersFor(meant volume.Identity) bool {
	have := h.vol.Identity()
	if have == meant || have.Volume != meant.Volume || have.Class != meant.Class {
		return have == meant
	}
	rec, sealed := h.vol.Sealed()
	// As long as the heir of a poisoned one is not served, it took no deletes.
	return h.heir.Load() == meant.Generation || sealed && (have.Generation < meant.Generation || rec.Source >= meant.Generation)
}

// appendable reports whether puts can go to the volume.
func (h *handle) appendable() bool {
	return h != nil && h.vol != nil && h.vol.Stats().Poisoned == nil && !h.vol.Fenced()
}
