package electorate

import (
	"context"
	"time"

	"hayloft/internal/clock"
)

// Group is what is changed. Each call returns when the change is committed, may be
// repeated, and is refused when this member does not lead.
type Group interface {
	AddVoter(ctx context.Context, id string) error
	Demote(ctx context.Context, id string) error
	Remove(ctx context.Context, id string) error
	// TransferLeadership hands over to another voter; "": to whichever is most up to date.
	TransferLeadership(ctx context.Context, to string) error
}

// Options configure Run. Group and Look must be given.
type Options struct {
	Group Group
	// Look describes the members; none when this one does not lead, or does not
	// know yet who is up.
	Look     func() []Member
	Most     int           // voters there may be; 0: 5
	Patience time.Duration // with a voter that is away; 0: 10 minutes
	Every    time.Duration // between looks; 0: 1 second
	Clock    clock.Clock   // nil: the machine's
	Events   func(Change, error)
}

// changeTimeout bounds one change: a member that does not catch up is tried again
// later.
const changeTimeout = 10 * time.Second

// Run looks and changes until ctx ends.
func Run(ctx context.Context, o Options) error {
	o = o.withDefaults()
	for {
		wait := o.Every
		if c := Decide(o.Look(), o.Most, o.Patience); c.Kind != None {
			err := o.change(ctx, c)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			o.Events(c, err)
			if err != nil {
				wait = changeTimeout
			}
		}
		select {
		case <-o.Clock.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (o Options) withDefaults() Options {
	if o.Most == 0 {
		o.Most = 5
	}
	if o.Patience == 0 {
		o.Patience = 10 * time.Minute
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Events == nil {
		o.Events = func(Change, error) {}
	}
	return o
}

func (o Options) change(ctx context.Context, c Change) error {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	switch c.Kind {
	case Promote:
		return o.Group.AddVoter(ctx, c.ID)
	case Demote:
		return o.Group.Demote(ctx, c.ID)
	case Remove:
		return o.Group.Remove(ctx, c.ID)
	default:
		return o.Group.TransferLeadership(ctx, "")
	}
}
