package server

// What else lives on a disk than volume files hears here that the disk goes out
// and comes back. Both are called on the goroutine that watches the disk, one
// after the other for one data directory, never with a lock held. They must not
// touch the disk's files and must return soon: what they owe the directory or other disks
// they leave to goroutines of their own, which end with disk.life.

// diskGone is called when a disk went out of service. From then on d.usable and
// d.takesWrites say why. When d.removed is true it is for good: d is in no
// snapshot of Server.all any more, its life has ended and its files are being closed; should the
// same disk come back it is another *disk. Else d stays, its files stay open,
// and diskBack may follow.
func (s *Server) diskGone(d *disk) { s.coder.diskGone(d) }

// diskBack is called when a disk is in service again, or for the first time after
// Open: an adopted one is a new *disk, registered, with its volumes open.
func (s *Server) diskBack(d *disk) { s.coder.diskBack(d) }
