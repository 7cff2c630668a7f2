package server

// DiskRoom is how a disk of this process is, in short.
type DiskRoom struct {
	Disk      uint32 // the directory's number
	InService bool   // it is read and, as far as there is room, written
	Free      int64  // bytes above the reserve, as last asked; 0 when nothing is written there
	Capacity  int64  // bytes
}

// Rooms tells how the disks are. It waits for none of them: the room of one that
// hangs is what it said last.
func (s *Server) Rooms() []DiskRoom {
	var out []DiskRoom
	for _, d := range s.all() {
		if d.usable() == nil && d.asking.CompareAndSwap(false, true) {
			s.burying.Go(func() {
				d.left()
				d.asking.Store(false)
			})
		}
		r := DiskRoom{Disk: d.number, InService: d.usable() == nil}
		if sp := d.said.Load(); sp != nil {
			r.Free, r.Capacity = max(sp.Free-s.o.KeepFree, 0), sp.Capacity
		}
		if d.readOnly.Load() != nil {
			r.Free = 0
		}
		out = append(out, r)
	}
	return out
}
