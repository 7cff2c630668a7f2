package fleet

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Fleet is one node's part.
type Fleet struct {
	o    Options
	view atomic.Pointer[View] // what was told last

	mu     sync.Mutex // guards all below
	number uint64     // of the last beat
	ledger *ledger    // while this node leads, else nil
	table  sureness   // of the table here
	heard  moment     // when the leader last answered, or this node led
}

// New makes a Fleet. It beats as long as Run runs, and is told of nobody before.
func New(o Options) (*Fleet, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	f := &Fleet{o: o}
	f.view.Store(&View{})
	return f, nil
}

// Run beats until ctx ends.
func (f *Fleet) Run(ctx context.Context) {
	for {
		f.beat(ctx)
		select {
		case <-ctx.Done():
			return
		case <-f.o.Clock.After(f.o.Every):
		}
	}
}

// View is how everybody was when the leader last said so: while there is none, or
// it is not reached, it stays as it was. Nobody is in it before the first answer.
func (f *Fleet) View() *View { return f.view.Load() }

// Heard tells how long ago the leader said so, if it ever did.
func (f *Fleet) Heard() (time.Duration, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.heard.age(f.o.Clock.Elapsed())
}

// HeardFresh tells how old the table here may be at most: that long ago it had
// everything that was committed. false: that was never certain since the start.
func (f *Fleet) HeardFresh() (time.Duration, bool) {
	own := f.o.Table.Version()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table.look(own)
	return f.table.sure.age(f.o.Clock.Elapsed())
}

// Carry has the fleet keep a text, in place of what it kept: whoever leads next
// knows it. Only the leader may say so; what a node is told that never led or heard
// of one is lost with the last of those that did.
func (f *Fleet) Carry(text string) error {
	if len(text) > maxText {
		return fmt.Errorf("%w: a text of %d bytes", ErrInvalid, len(text))
	}
	leads := f.o.Table.Leading()
	f.mu.Lock()
	defer f.mu.Unlock()
	if !leads || f.ledger == nil {
		return ErrNotLeader
	}
	if f.ledger.carried != text {
		f.ledger.carried, f.ledger.made = text, nil
	}
	return nil
}

// Carried is the text.
func (f *Fleet) Carried() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ledger != nil {
		return f.ledger.carried
	}
	return f.view.Load().carried
}

// Serve answers a beat of another node, whose name the caller has made sure of.
func (f *Fleet) Serve(_ context.Context, from string, request []byte) ([]byte, error) {
	b, err := decodeBeat(request)
	switch {
	case err != nil:
		return nil, err
	case b.Node != from:
		return nil, fmt.Errorf("%w: %q speaks for %q", ErrInvalid, from, b.Node)
	case !f.o.Table.Leading():
		return nil, ErrNotLeader
	}
	_, known := f.o.Table.Nodes()[from]
	if !known {
		return nil, fmt.Errorf("%w: %q", ErrUnknown, from)
	}
	f.mu.Lock()
	events := f.lead()
	now := f.o.Clock.Elapsed()
	if f.ledger.nodes[from] == nil {
		f.ledger.match(now)
	}
	events = append(events, f.ledger.take(&b, now)...)
	view, answer := f.ledger.tell(now)
	f.view.Store(view)
	f.mu.Unlock()
	f.report(events)
	return answer, nil
}

// lead makes sure that this node has a ledger. The caller holds mu.
func (f *Fleet) lead() []Event {
	if f.ledger != nil {
		return nil
	}
	f.ledger = takeOver(&f.o, f.view.Load(), f.o.Clock.Elapsed())
	return []Event{{Kind: EventLeads, Node: f.o.Node}}
}

func (f *Fleet) report(events []Event) {
	for _, e := range events {
		f.o.Events(e)
	}
}

// beat tells how this node is, and hears how all are.
func (f *Fleet) beat(ctx context.Context) {
	own := beat{V: wireVersion, Node: f.o.Node, Incarnation: f.o.Incarnation, Version: f.o.Table.Version(), Disks: f.o.Self()}
	leads := f.o.Table.Leading()
	f.mu.Lock()
	f.number++
	own.Number = f.number
	if !leads {
		f.ledger = nil
	}
	f.mu.Unlock()
	if leads {
		f.beatHere(ctx, &own)
		return
	}
	if leader, ok := f.o.Table.Leader(); ok && leader != f.o.Node && f.o.Peers != nil {
		f.beatThere(ctx, leader, &own)
	}
}

// patience is how long one beat may take. Its answer says how old it is.
func (f *Fleet) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, f.o.AwayAfter/2)
}

// beatHere is the beat of the node that leads.
func (f *Fleet) beatHere(ctx context.Context, own *beat) {
	f.mu.Lock()
	events := f.lead()
	now := f.o.Clock.Elapsed()
	f.ledger.match(now)
	if f.ledger.nodes[own.Node] != nil {
		events = append(events, f.ledger.take(own, now)...)
	}
	events = append(events, f.ledger.miss(now)...)
	view, _ := f.ledger.tell(now)
	f.view.Store(view)
	f.heard.atLeast(now)
	f.mu.Unlock()
	f.report(events)

	ctx, cancel := f.patience(ctx)
	defer cancel()
	version, err := f.o.Table.Fresh(ctx)
	if err != nil {
		return // the group says so itself
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.table.told(version, now, f.o.Table.Version())
	if f.ledger != nil {
		f.ledger.sure.atLeast(now)
		f.ledger.version, f.ledger.made = version, nil
	}
}

// beatThere is the beat of any other. An answer that does not come is none: the next
// beat is soon.
func (f *Fleet) beatThere(ctx context.Context, leader string, own *beat) {
	ctx, cancel := f.patience(ctx)
	defer cancel()
	sent := f.o.Clock.Elapsed()
	b, err := f.o.Peers.Call(ctx, leader, encode(own))
	if err != nil {
		return
	}
	a, err := decodeAnswer(b)
	if err != nil {
		return
	}
	version := f.o.Table.Version()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ledger != nil {
		return // this node leads by now
	}
	f.view.Store(viewOf(&a, sent))
	f.heard.atLeast(sent)
	if a.VerifiedMS > 0 {
		f.table.told(a.Version, sent-span(a.VerifiedMS), version)
	}
}
