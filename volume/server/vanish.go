package server

import (
	"context"

	"hayloft/volume"
)

// vanished takes a disk out for good: what was claimed is not there any more. What
// of it is open is closed as soon as nobody uses it, and that may be never: nobody
// waits for it. Nothing that is late reaches what is put in its place.
func (w *watcher) vanished(d *disk, why error) {
	if d.removed.Swap(true) {
		return
	}
	w.health.vanish(why)
	w.publish()
	w.vacancy = vacancy{}
	gone := outError(d.dir, ReasonVanished, why)
	d.seen.gone.Store(&gone)
	w.s.fleet.change(func(all []*disk) []*disk {
		var rest []*disk
		for _, other := range all {
			if other != d {
				rest = append(rest, other)
			}
		}
		return rest
	})
	w.out(d)
	d.end()
	for _, ws := range d.writers {
		for _, writer := range ws {
			w.s.burying.Go(writer.resign)
		}
	}
	w.s.burying.Go(func() {
		defer close(d.buried)
		w.s.closeAll(d)
		_ = d.lock.Close() // nothing was written through it
	})
}

// closeAll takes the volumes of a disk that vanished out of service and closes
// them. What they say is nobody's business: their files are gone.
func (s *Server) closeAll(d *disk) {
	var all []*handle
	s.mu.Lock()
	for at, h := range s.volumes {
		if h.disk == d {
			all = append(all, h)
			delete(s.volumes, at)
		}
	}
	s.mu.Unlock()
	for _, vol := range s.made.on(d.number) {
		s.bury(vol)
	}
	ended := make(chan struct{}, len(all))
	for _, h := range all {
		go func() {
			defer func() { ended <- struct{}{} }()
			if h.vol != nil {
				<-h.retire()
				_ = h.vol.Close()
			}
		}()
	}
	for range all {
		<-ended
	}
}

// bury closes a volume that came too late to be served.
func (s *Server) bury(vol *volume.Volume) {
	s.burying.Go(func() { _ = vol.Close() }) // it has nobody to tell
}

// resign ends a writer whose disk is gone: its tile is closed, and its slot given
// back. When the directory does not hear of it, both end with the lease.
func (w *writer) resign() {
	ctx, cancel := context.WithTimeout(context.Background(), w.s.o.DirectoryTimeout)
	defer cancel()
	if _, held := w.keeper.Lease(); held {
		lease, fence, err := w.keeper.Fence(ctx)
		if err == nil {
			err = w.s.o.Directory.CloseTile(ctx, lease, fence)
		}
		if err != nil {
			w.s.o.Events(Event{Kind: EventLease, Dir: w.dir(), Err: err})
		}
	}
	if err := w.keeper.Close(ctx); err != nil {
		w.s.o.Events(Event{Kind: EventLease, Dir: w.dir(), Err: err})
	}
}
