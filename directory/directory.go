package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/raftgroup"
)

// Errors of a Directory. Each may come wrapped. id.ErrNoSlot and
// id.ErrLeaseLost are returned as they are.
var (
	ErrInvalid     = errors.New("directory: invalid request")                          // it breaks a rule and changed nothing
	ErrUnknown     = errors.New("directory: no such row")                              // node, disk …
	ErrStale       = errors.New("directory: the row has moved on")                     // the request builds on a generation or epoch that is not the volume's any more, or not yet
	ErrUnavailable = errors.New("directory: unavailable, the request may be repeated") // no leader, no member, stopped, or the outcome is unknown
)

// DefaultLease is how long a window is, in id time, when the request does not
// say.
const DefaultLease = 60 * time.Second

// Options configure a Directory. Dirs and Member must be given.
type Options struct {
	Dirs    []string    // of the Raft group, see raftgroup.Options
	Mirrors int         // in how many of Dirs it is kept; 0: 1
	Member  string      // this member of the group
	Clock   clock.Clock // nil: the machine's
	Events  func(raftgroup.Event)

	// Transport and Peers connect the members, whose names are those of their nodes; see
	// raftgroup.Options. Nil: this one is alone. Join waits to be added when there is
	// nothing in Dirs. Bootstrap lists the first voters of a new group; empty: this one.
	Transport raftgroup.Transport
	Peers     raftgroup.Peers
	Join      bool
	Bootstrap []raftgroup.Voter
}

// Validate lists every fault of o.
func (o *Options) Validate() error {
	var errs []error
	if len(o.Dirs) == 0 {
		errs = append(errs, errors.New("directory: Dirs is empty"))
	}
	if o.Member == "" {
		errs = append(errs, errors.New("directory: Member is empty"))
	}
	return errors.Join(errs...)
}

// Directory is one member of the directory's group.
type Directory struct {
	clock   clock.Clock
	machine *machine
	group   *raftgroup.Group
}

// Open opens the directory in o.Dirs, a new one when there is none. ctx bounds
// Open alone.
func Open(ctx context.Context, o Options) (*Directory, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	d := &Directory{clock: o.Clock, machine: newMachine()}
	g, err := raftgroup.Open(ctx, raftgroup.Options{
		Dirs: o.Dirs, Mirrors: o.Mirrors, Name: "directory", NodeID: o.Member, Machine: d.machine, Events: o.Events,
		Scratch:   func() raftgroup.Machine { return newMachine() },
		Transport: o.Transport, Peers: o.Peers, Join: o.Join, Bootstrap: o.Bootstrap,
	})
	if err != nil {
		return nil, err
	}
	d.group = g
	return d, nil
}

// Close stops this member.
func (d *Directory) Close() error { return d.group.Close() }

// Ready tells at once whether this member works: nil when it leads, or follows a
// leader that it hears, and shows what was answered up to a few seconds ago. Otherwise
// it is ErrUnavailable with the reason, which wraps raftgroup.ErrStopped when only a
// restart can help. It is cheap enough for every probe.
func (d *Directory) Ready() error { return unavailable(d.group.Working()) }

// Lost tells that the disk of one of Dirs is gone, see raftgroup.Group.Lost.
func (d *Directory) Lost(dir string, why error) { d.group.Lost(dir, why) }

// Usable tells that one of Dirs may be used again.
func (d *Directory) Usable(dir string) { d.group.Usable(dir) }

// Mirrors describes each of Dirs.
func (d *Directory) Mirrors() []raftgroup.MirrorState { return d.group.Mirrors() }

// Stats describes the group.
func (d *Directory) Stats() raftgroup.Stats { return d.group.Stats() }

// Map returns the table as this node knows it.
func (d *Directory) Map() *Map { return d.machine.current.Load() }

// Wait returns a table of a version greater than after as soon as there is one.
func (d *Directory) Wait(ctx context.Context, after uint64) (*Map, error) {
	for {
		moved := d.machine.movedChan()
		if m := d.Map(); m.Version() > after {
			return m, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Fresh returns a table that shows every change that was answered, by any
// member, before the call. It is ErrUnavailable when that is not certain: then
// "not found" must not be said.
func (d *Directory) Fresh(ctx context.Context) (*Map, error) {
	if err := d.group.Fresh(ctx); err != nil {
		return nil, unavailable(err)
	}
	return d.Map(), nil
}

// AcquireRequest asks for a slot. The same node, incarnation, worker and kind
// get the slot they hold, with a longer window.
type AcquireRequest struct {
	Node        NodeID
	Incarnation uint64 // random, drawn when the process started, not zero
	Worker      uint16 // which of the process's writers of this kind
	Kind        Kind
	Disk        DiskID        // prefer a slot that goes on with a volume there; 0: none
	Want        time.Duration // length of the window; 0: DefaultLease
	Now         id.Millis     // the holder's clock, when it is not this process's; the window reaches beyond it
}

// AcquireSlot leases a slot. The lease names the table's version to mint under.
// When every slot is held it is id.ErrNoSlot.
func (d *Directory) AcquireSlot(ctx context.Context, r AcquireRequest) (id.Lease, error) {
	now := d.now()
	v, version, err := propose[granted](ctx, d, opAcquire, &acquire{
		node: r.Node, incarnation: r.Incarnation, worker: r.Worker, kind: r.Kind, disk: r.Disk,
		now: now, holderNow: max(now, min(r.Now, id.MaxMillis)), length: length(r.Want),
	})
	return v.lease(version), err
}

// RenewLease lengthens the window of l so that it ends want (0: DefaultLease)
// after now, the holder's clock. It is id.ErrLeaseLost when l is over.
func (d *Directory) RenewLease(ctx context.Context, l id.Lease, now id.Millis, want time.Duration) (id.Lease, error) {
	own := d.now()
	v, version, err := propose[granted](ctx, d, opRenew, &renew{
		slot: l.Slot, incarnation: l.Holder, leased: l.From,
		now: own, holderNow: max(own, min(now, id.MaxMillis)), length: length(want),
	})
	return v.lease(version), err
}

// SurrenderLease gives the slot back. The holder has minted nothing at or after
// at and never will: Minter.Surrender tells.
func (d *Directory) SurrenderLease(ctx context.Context, l id.Lease, at id.Millis) error {
	_, _, err := propose[any](ctx, d, opSurrender, &surrender{l.Slot, l.Holder, l.From, at})
	return err
}

// ConfirmVolume says that the file of a volume that OpenVolume made lies on all its
// disks for good. Nothing is written there before: until then the volume holds
// nothing, and it becomes void when its tile ends. One that is void is ErrStale. incarnation is that of the slot's holder.
func (d *Directory) ConfirmVolume(ctx context.Context, v VolumeID, generation uint32, incarnation uint64) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opConfirmVolume, &confirmVolume{v, generation, incarnation})
	return row, err
}

// AbandonVolume makes a volume void that nobody has confirmed. One that was
// confirmed stays as it is, and is the answer.
func (d *Directory) AbandonVolume(ctx context.Context, v VolumeID) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opAbandonVolume, &abandonVolume{v, d.now()})
	return row, err
}

// CloseTile ends the slot's open tile at the holder's fence without opening
// another.
func (d *Directory) CloseTile(ctx context.Context, l id.Lease, at id.Millis) error {
	_, _, err := propose[any](ctx, d, opCloseTile, &closeTile{l.Slot, l.Holder, l.From, at, d.now()})
	return err
}

// CloseSilent ends the open tile of a slot whose holder is silent, at the end of
// its lease. While the lease runs it is ErrInvalid.
func (d *Directory) CloseSilent(ctx context.Context, slot id.Slot) error {
	_, _, err := propose[any](ctx, d, opCloseTile, &closeTile{slot: slot, now: d.now()})
	return err
}

// CloseVolume ends the open tile of a volume for a process of node that does not
// hold its slot: when the lease is over, or its holder is an earlier incarnation
// of node. A volume that is not open stays as it is.
func (d *Directory) CloseVolume(ctx context.Context, v VolumeID, node NodeID, incarnation uint64) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opCloseVolume, &closeVolume{v, node, incarnation, d.now()})
	return row, err
}

// BeginCompaction gives out the number of the generation that is made from a
// sealed one, over the deletes up to a number, and all else its file depends on.
// One that is under way is the answer, with the numbers it was begun with. When
// the volume has another generation by now it is ErrStale.
func (d *Directory) BeginCompaction(ctx context.Context, v VolumeID, generation uint32, digest [32]byte, deletes uint32, incarnation uint64) (Volume, error) {
	c := &beginCompaction{volume: v, generation: generation, digest: digest, deletes: deletes, incarnation: incarnation, now: d.now()}
	if _, err := rand.Read(c.secret[:]); err != nil {
		return Volume{}, err
	}
	row, _, err := propose[Volume](ctx, d, opBeginCompaction, c)
	return row, err
}

// AbandonCompaction says that a generation will never be committed. Its number
// is not given out again. One that was committed is ErrStale.
func (d *Directory) AbandonCompaction(ctx context.Context, v VolumeID, generation uint32) (Volume, error) {
	row, _, err := propose[Volume](ctx, d, opAbandonCompaction, &abandonCompaction{v, generation})
	return row, err
}

// EnsureKey returns the versions of a secret, oldest first, and makes the first
// one when there is none.
func (d *Directory) EnsureKey(ctx context.Context, purpose string) ([]Key, error) {
	if keys := d.Map().Keys(purpose); len(keys) > 0 {
		return keys, nil
	}
	return d.addKey(ctx, purpose, 1)
}

// RotateKey adds the version after current and returns all. When it exists
// already, nothing is added.
func (d *Directory) RotateKey(ctx context.Context, purpose string, current uint32) ([]Key, error) {
	return d.addKey(ctx, purpose, current+1)
}

func (d *Directory) addKey(ctx context.Context, purpose string, version uint32) ([]Key, error) {
	if err := texts(purpose); err != nil {
		return nil, err
	}
	c := &addKey{purpose: purpose, version: version, now: d.now()}
	if _, err := rand.Read(c.secret[:]); err != nil {
		return nil, err
	}
	v, _, err := propose[[]Key](ctx, d, opAddKey, c)
	return v, err
}

func (d *Directory) now() id.Millis { return id.MillisOf(d.clock.Now()) }

// propose runs a command through the group and returns its typed answer and the
// version of the table that shows it.
func propose[T any](ctx context.Context, d *Directory, op uint8, c command) (v T, version uint64, err error) {
	got, err := d.group.Propose(ctx, encodeCommand(op, c))
	if err != nil {
		return v, 0, unavailable(err)
	}
	a := got.(answer) // what machine.Apply returns
	if a.value != nil {
		v = a.value.(T)
	}
	return v, a.version, nil
}

// unavailable marks the errors of the group that say nothing about the request.
func unavailable(err error) error {
	for _, e := range []error{raftgroup.ErrNotLeader, raftgroup.ErrStopped, raftgroup.ErrOutcomeUnknown, raftgroup.ErrNotMember} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	return err
}

func texts(ts ...string) error {
	for _, t := range ts {
		if len(t) > maxText {
			return fmt.Errorf("%w: a text of %d bytes, at most %d", ErrInvalid, len(t), maxText)
		}
	}
	return nil
}

func length(want time.Duration) id.Millis {
	if want <= 0 {
		want = DefaultLease
	}
	return min(millis(want), id.MaxMillis)
}
