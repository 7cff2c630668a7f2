package server

import (
	"slices"
	"sync"

	"hayloft/internal/id"
	"hayloft/volume"
)

// damaged is a blob of which a read met damage in a replica of this process.
type damaged struct {
	v    volume.ID
	blob id.ID
}

// damageList holds what reads have found damaged on a disk, for its upkeep.
type damageList struct {
	mu  sync.Mutex // guards all
	all []damaged
}

// damageListed bounds the list of a disk: the scrub finds the rest.
const damageListed = 1024

// repairFrom notes that a blob cannot be read from the replica on a disk of this
// process, and has the disk's upkeep look at it.
func (s *Server) repairFrom(d *disk, v volume.ID, blob id.ID) {
	l := &d.damage
	l.mu.Lock()
	found := damaged{v, blob}
	news := len(l.all) < damageListed && !slices.Contains(l.all, found)
	if news {
		l.all = append(l.all, found)
	}
	l.mu.Unlock()
	if news {
		d.kick()
	}
}

// takeDamage returns what was found damaged on the disk since the last call.
func (d *disk) takeDamage() []damaged {
	d.damage.mu.Lock()
	defer d.damage.mu.Unlock()
	all := d.damage.all
	d.damage.all = nil
	return all
}
