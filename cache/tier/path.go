package tier

import (
	"slices"
	"strings"
	"sync"

	"hayloft/internal/id"
)

// Path knows by which tiers a process is asked about a blob, so that what it asks in
// turn names them: fills and questions belong to no single request. The Server and the
// Chain of one process share one; the zero value is ready.
type Path struct {
	mu  sync.Mutex               // guards via
	via map[id.ID]map[string]int // by blob and tier: how many questions are under way
}

// enter notes that the tiers named ask about a blob, until leave is called.
func (p *Path) enter(blob id.ID, tiers []string) (leave func()) {
	if len(tiers) == 0 {
		return func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.via == nil {
		p.via = make(map[id.ID]map[string]int)
	}
	m := p.via[blob]
	if m == nil {
		m = make(map[string]int)
		p.via[blob] = m
	}
	for _, t := range tiers {
		m[t]++
	}
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, t := range tiers {
			if m[t]--; m[t] == 0 {
				delete(m, t)
			}
		}
		if len(m) == 0 {
			delete(p.via, blob)
		}
	}
}

// of are the tiers that ask about a blob now, in no order that means anything. Of a
// photo that all want at once they are many: how many says nothing of how far a question
// has come. Beyond maxVia some are left out, so that the field has room in a header; a
// circle of these is ended by the time of its questions.
func (p *Path) of(blob id.ID) (tiers []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := range p.via[blob] {
		tiers = append(tiers, t)
	}
	slices.Sort(tiers)
	return tiers[:min(len(tiers), maxVia)]
}

// viaField is the field Via of a question that passed these tiers.
func viaField(tiers []string) string { return "1.1 " + strings.Join(tiers, ", 1.1 ") }

// viaTiers reads the field. What is not of that form is nobody's name.
func viaTiers(field string) (tiers []string) {
	for part := range strings.SplitSeq(field, ",") {
		if _, name, ok := strings.Cut(strings.TrimSpace(part), " "); ok && name != "" {
			tiers = append(tiers, name)
		}
	}
	return tiers
}
