package timeline

import (
	"sync"

	"hayloft/internal/id"
)

// pullers remember of which authors all posts are in push mode, so that a page does
// not ask the source for each of thousands of followees. That ends with a Published
// event in pull mode alone. The writer notes those before it moves the cursor; what
// lies beyond the cursor a page looks at itself.
type pullers struct {
	limit int // authors kept

	mu         sync.RWMutex // guards those below
	generation uint64       // how often everything was forgotten
	may        map[id.ID]bool
}

func (p *pullers) init(limit int) { p.limit, p.may = limit, map[id.ID]bool{} }

// begin is called before a snapshot is taken; what is found there is noted with what
// it returns.
func (p *pullers) begin() uint64 {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.generation
}

// published notes that author has a post in pull mode.
func (p *pullers) published(author id.ID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room()
	p.may[author] = true
}

// note keeps what a snapshot said, unless the writer knows better: it may have gone
// on since the snapshot was taken.
func (p *pullers) note(generation uint64, found map[id.ID]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for author, may := range found {
		if p.room(); p.generation != generation {
			return
		}
		if _, known := p.may[author]; !known {
			p.may[author] = may
		}
	}
}

// room forgets everything when there is too much. It is called under mu.
func (p *pullers) room() {
	if len(p.may) >= p.limit {
		p.forget()
	}
}

// forget is called under mu.
func (p *pullers) forget() {
	p.generation++
	p.may = map[id.ID]bool{}
}

// reset forgets everything: the writer begins at another place.
func (p *pullers) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget()
}

// among returns those of authors, ascending, that may have posts in pull mode.
func (p *pullers) among(snap Snapshot, generation uint64, authors []id.ID) ([]id.ID, error) {
	var out, ask []id.ID
	p.mu.RLock()
	same := p.generation == generation
	for _, a := range authors {
		may, known := p.may[a]
		switch {
		case !same || !known:
			ask = append(ask, a)
		case may:
			out = append(out, a)
		}
	}
	p.mu.RUnlock()
	if len(ask) == 0 {
		return out, nil
	}
	found := make(map[id.ID]bool, len(ask))
	for _, a := range ask {
		may, err := snap.HasPull(a)
		if err != nil {
			return nil, err
		}
		if found[a] = may; may {
			out = append(out, a)
		}
	}
	p.note(generation, found)
	return out, nil
}
