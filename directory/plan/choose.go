package plan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"hayloft/directory"
)

// ErrTooFew: there are not as many disks, far enough apart, as there must be.
var ErrTooFew = errors.New("plan: too few disks for the replicas")

// Request asks for the disks of a new volume.
type Request struct {
	Home  directory.DiskID // is the first one if it can take the volume; 0: any
	Want  int              // replicas
	Floor int              // fewer are no volume; at least 1
	Avoid []directory.DiskID
	Bytes int64 // that each disk must have room for
}

// Choose names disks for the replicas of a new volume: Want of them, each in a
// failure domain of its own and as far from the others as the cluster allows; as
// many as there are domains when these are fewer. Less than Floor is ErrTooFew,
// which says what is lacking.
//
// Of disks that are equally far away one is drawn so that all fill evenly and the
// load spreads: two at random, with the chances of their free room, and of these
// the one with the larger part of it free.
func (c *Cluster) Choose(r Request, random *rand.Rand) ([]directory.DiskID, error) {
	fits := func(d *disk) bool { return d.taking() && d.room >= r.Bytes && !slices.Contains(r.Avoid, d.ID) }
	var chosen []*disk
	if d := c.byID[r.Home]; d != nil && r.Want > 0 && fits(d) {
		chosen = append(chosen, d)
	}
	for len(chosen) < r.Want {
		d := c.draw(chosen, fits, func(d *disk) int64 { return d.room }, random)
		if d == nil {
			break
		}
		chosen = append(chosen, d)
	}
	if len(chosen) < max(r.Floor, 1) {
		return nil, fmt.Errorf("%w: %s wanted, at least %d, and there %s: %s", ErrTooFew, c.domains(r.Want), max(r.Floor, 1), isAre(len(chosen)), c.lacking(r))
	}
	out := make([]directory.DiskID, len(chosen))
	for i, d := range chosen {
		out[i] = d.ID
	}
	return out, nil
}

// draw picks a disk that fits and is in none of the domains of the others, as far
// from them as there is one; nil when there is none.
func (c *Cluster) draw(others []*disk, fits func(*disk) bool, room func(*disk) int64, random *rand.Rand) *disk {
	var best []*disk
	far := int(c.apart)
	for _, d := range c.disks {
		if n := novelty(d, others); n >= far && fits(d) {
			if n > far {
				best, far = best[:0], n
			}
			best = append(best, d)
		}
	}
	if len(best) == 0 {
		return nil
	}
	a, b := weighted(best, room, random), weighted(best, room, random)
	if part(b, room) > part(a, room) {
		return b
	}
	return a
}

// part is how much of a disk is free, from 0 to 1.
func part(d *disk, room func(*disk) int64) float64 {
	return float64(max(room(d), 0)) / float64(d.capacity)
}

func weighted(disks []*disk, room func(*disk) int64, random *rand.Rand) *disk {
	sum := 0.0
	for _, d := range disks {
		sum += float64(max(room(d), 1))
	}
	at := random.Float64() * sum
	for _, d := range disks {
		if at -= float64(max(room(d), 1)); at < 0 {
			return d
		}
	}
	return disks[len(disks)-1]
}

func (c *Cluster) domains(n int) string {
	switch {
	case n == 1:
		return "1 disk"
	case c.apart == ByDisk:
		return fmt.Sprintf("%d disks", n)
	}
	return fmt.Sprintf("%d disks on different %ss", n, c.apart)
}

func isAre(n int) string {
	if n == 1 {
		return "is 1"
	}
	return fmt.Sprintf("are %d", n)
}

// lacking says why disks do not fit, at most some of them.
func (c *Cluster) lacking(r Request) string {
	const most = 8
	var out []string
	whole := 0
	for _, d := range c.disks {
		why := ""
		switch {
		case d.gone:
			continue
		case !d.Up:
			why = "is away"
		case d.leaving:
			why = "is draining"
		case d.room < r.Bytes:
			why = fmt.Sprintf("has room for %d bytes of %d", d.room, r.Bytes)
		case slices.Contains(r.Avoid, d.ID):
			why = "is avoided"
		default:
			whole++
			continue
		}
		out = append(out, fmt.Sprintf("disk %d of %s %s", d.ID, d.node.Name, why))
	}
	if n := len(out); n > most {
		out = append(out[:most], fmt.Sprintf("and %d more", n-most))
	}
	if len(out) == 0 {
		return fmt.Sprintf("the cluster has %d disks", whole)
	}
	return strings.Join(out, ", ")
}
