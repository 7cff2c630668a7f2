package tools

import (
	"fmt"

	"hayloft/internal/id"
	"hayloft/volume"
)

// Verified is what verifying one replica found.
type Verified struct {
	ID       volume.ID `json:"id"`
	Data     string    `json:"data"`
	Needles  int64     `json:"needles"`          // whole, deleted ones too
	Shards   int       `json:"shards,omitempty"` // that were checked by themselves
	Bytes    int64     `json:"bytes"`            // verified
	Findings []Finding `json:"findings"`
	Omitted  int64     `json:"findings_omitted,omitempty"` // beyond maxFindings
	Notes    []string  `json:"notes"`                      // no damage, but worth knowing
}

// Place is where it is, for people.
func (r *Verified) Place() string {
	if r.Shards == 0 {
		return r.Data
	}
	return fmt.Sprintf("%d shards", r.Shards)
}

// maxFindings bounds what is kept of one replica: who has more replaces it.
const maxFindings = 10_000

// Finding is one thing that is wrong.
type Finding struct {
	Kind   string `json:"kind"`
	File   string `json:"file,omitempty"` // name, when it is not the volume's own
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Key    *id.ID `json:"key,omitempty"`
	Alt    *uint8 `json:"alt,omitempty"`
	Error  string `json:"error"`
}

// String is one line.
func (f Finding) String() string {
	s := f.Kind
	if f.File != "" {
		s += " in " + f.File
	}
	if f.Length > 0 {
		s += fmt.Sprintf(" at %d, %d bytes", f.Offset, f.Length)
	}
	if f.Key != nil {
		s += " key " + f.Key.String()
	}
	if f.Alt != nil {
		s += fmt.Sprintf(" alt %d", *f.Alt)
	}
	return s + ": " + f.Error
}

// found adds what the engine's check reports.
func (r *Verified) found(f volume.Finding) {
	g := Finding{Kind: f.Kind.String(), File: f.File, Offset: f.Offset, Length: f.Length, Error: "?"}
	if f.Key != 0 {
		key, alt := f.Key, f.Alt
		g.Key, g.Alt = &key, &alt
	}
	if f.Err != nil {
		g.Error = OneLine(f.Err)
	}
	r.add(g)
}

func (r *Verified) add(f Finding) {
	if len(r.Findings) >= maxFindings {
		r.Omitted++
		return
	}
	r.Findings = append(r.Findings, f)
}

// opening adds what opening the volume reported and the check does not. marked
// says that the poison was there before.
func (r *Verified) opening(events []volume.Event, marked bool) {
	superblocks := 0 // found by the check, though the opening may have mended them
	for _, f := range r.Findings {
		if f.Kind == volume.FindingSuperblock.String() {
			superblocks++
		}
	}
	for _, e := range events {
		switch e.Kind {
		case volume.EventRot, volume.EventCorruptRead: // the check finds them
		case volume.EventSuperblock:
			if superblocks--; superblocks < 0 {
				r.Notes = append(r.Notes, "one copy of the superblock is damaged: the next start writes it again from the other")
			}
		case volume.EventScanning, volume.EventPageCache: // no word on the volume
		case volume.EventPoisoned:
			if marked {
				r.Notes = append(r.Notes, "poisoned: a write or sync failed earlier; it is read-only, and verified up to its last good sync")
				continue
			}
			r.add(Finding{Kind: "open", Offset: e.Offset, Error: OneLine(e.Err)})
		case volume.EventVoid:
			r.Notes = append(r.Notes, fmt.Sprintf("%d bytes at %d were never acknowledged: the next start drops them", e.Length, e.Offset))
		case volume.EventRecovered:
			r.Notes = append(r.Notes, fmt.Sprintf("it was not closed: the next start keeps %d bytes from %d on", e.Length, e.Offset))
		default:
			r.Notes = append(r.Notes, eventText(e))
		}
	}
}
