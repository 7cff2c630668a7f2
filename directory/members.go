package directory

import (
	"context"
	"time"

	"hayloft/internal/raftgroup"
)

// The calls about the group itself. A member's name is its node's.

// Serve answers a request of another member, whose name from is proven. It is what
// Options.Peers of that member reaches.
func (d *Directory) Serve(ctx context.Context, from string, req []byte) ([]byte, error) {
	return d.group.Serve(ctx, from, req)
}

// Members returns the members of the group as this one knows them, by name.
func (d *Directory) Members() ([]raftgroup.Member, error) {
	members, err := d.group.Members()
	return members, unavailable(err)
}

// AddVoter and the three that follow change the members, on any of them. Each may be
// repeated. AddVoter waits until the member has caught up, as long as ctx lasts.
func (d *Directory) AddVoter(ctx context.Context, member string) error {
	return unavailable(d.group.AddVoter(ctx, member))
}

// AddLearner has a member follow without a vote.
func (d *Directory) AddLearner(ctx context.Context, member string) error {
	return unavailable(d.group.AddLearner(ctx, member))
}

// Demote makes a voter a learner.
func (d *Directory) Demote(ctx context.Context, member string) error {
	return unavailable(d.group.Demote(ctx, member))
}

// TakeIn makes a member that waits to be added a learner; see raftgroup.Group.TakeIn.
func (d *Directory) TakeIn(ctx context.Context, member string) error {
	return unavailable(d.group.TakeIn(ctx, member))
}

// RemoveMember takes a member out.
func (d *Directory) RemoveMember(ctx context.Context, member string) error {
	return unavailable(d.group.Remove(ctx, member))
}

// TransferLeadership gives the lead to a voter; "" is whoever is most up to date.
func (d *Directory) TransferLeadership(ctx context.Context, to string) error {
	return unavailable(d.group.TransferLeadership(ctx, to))
}

// Progress is how far a member has applied the log, as it says itself.
func (d *Directory) Progress(ctx context.Context, member string) (uint64, error) {
	at, err := d.group.Progress(ctx, member)
	return at, unavailable(err)
}

// Leader returns the member that leads, as far as this one knows.
func (d *Directory) Leader() (member string, ok bool) { return d.group.Leader() }

// Staleness is how old the Map may be at most: every change that was answered longer
// ago is in it. It is the greatest duration before this process has heard anything.
func (d *Directory) Staleness() time.Duration { return d.group.Staleness() }
