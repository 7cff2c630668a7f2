package main

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"hayloft/directory"
	"hayloft/directory/steward"
	"hayloft/internal/admin"
	"hayloft/volume/tools"
)

// clusterCalls begins the calls about placement.
const clusterCalls = "/admin/cluster"

// placementCalls are the calls of a node's admin listener about placement.
type placementCalls struct{ n *node }

// serve adds them to a door.
func (p placementCalls) serve(d *admin.Door) {
	d.Look(http.MethodGet, clusterCalls+"/work", p.work)
	d.Look(http.MethodGet, clusterCalls+"/plan", p.plan)
	d.Guard(http.MethodPost, clusterCalls+"/drain", p.drain)
	d.Guard(http.MethodPost, clusterCalls+"/keep", p.keep)
	d.Guard(http.MethodPost, clusterCalls+"/balance", p.balance)
	d.Guard(http.MethodPost, clusterCalls+"/repair", p.repair)
}

// problemOf names the errors of all calls of the admin listener.
func problemOf(err error) *admin.Problem {
	switch {
	case errors.Is(err, steward.ErrInvalid), errors.Is(err, directory.ErrInvalid), errors.Is(err, directory.ErrUnknown):
		return admin.Invalid("%s", tools.OneLine(err))
	case errors.Is(err, steward.ErrNoLeader), errors.Is(err, directory.ErrUnavailable):
		return admin.NewProblem("unavailable", http.StatusServiceUnavailable, "Not now", "%s", tools.OneLine(err))
	}
	return tools.ProblemOf(err)
}

// work answers how far the steward is.
func (p placementCalls) work(c *admin.Call) error {
	if _, err := c.Query(); err != nil {
		return err
	}
	return c.Answer(p.n.steward.Status())
}

// plan answers what would be done.
func (p placementCalls) plan(c *admin.Call) error {
	q, err := c.Query("node", "disk", "balance", "now")
	if err != nil {
		return err
	}
	what := steward.Whatif{Now: q.Has("now")}
	if q.Has("balance") {
		if what.Balance, err = balanceOf(q); err != nil {
			return err
		}
	}
	if q.Has("node") || q.Has("disk") {
		if what.Node, what.Disk, err = p.target(q); err != nil {
			return err
		}
	}
	return c.Answer(p.n.steward.Foresee(what))
}

func balanceOf(q url.Values) (float64, error) {
	b, err := strconv.ParseFloat(q.Get("balance"), 64)
	if err != nil || !(b >= 0 && b < 1) {
		return 0, admin.Invalid("balance=%q is not a part from 0 to 1", q.Get("balance"))
	}
	return b, nil
}

// target is the one node or disk that a call names: a node by its name or number.
func (p placementCalls) target(q url.Values) (directory.NodeID, directory.DiskID, error) {
	m := p.n.directory.Map()
	if q.Has("node") == q.Has("disk") {
		return 0, 0, admin.Invalid("one node or one disk is wanted")
	}
	if q.Has("disk") {
		d, err := strconv.ParseUint(q.Get("disk"), 10, 32)
		if _, ok := m.Disk(directory.DiskID(d)); err != nil || !ok {
			return 0, 0, admin.NewProblem("no-such-disk", http.StatusNotFound, "There is no such disk", "there is no disk %q", q.Get("disk"))
		}
		return 0, directory.DiskID(d), nil
	}
	for _, n := range m.Nodes() {
		if n.Name == q.Get("node") || strconv.Itoa(int(n.ID)) == q.Get("node") {
			return n.ID, 0, nil
		}
	}
	return 0, 0, admin.NewProblem("no-such-node", http.StatusNotFound, "There is no such node", "there is no node %q", q.Get("node"))
}

// drain has a node or a disk emptied, and then=gone declared gone after that.
func (p placementCalls) drain(c *admin.Call) error {
	q, err := c.Query("node", "disk", "then")
	if err != nil {
		return err
	}
	if q.Has("then") && q.Get("then") != directory.Gone.String() {
		return admin.Invalid("then=%q: only %v is there", q.Get("then"), directory.Gone)
	}
	return p.set(c, q, directory.Draining, q.Has("then"))
}

// keep takes a drain back.
func (p placementCalls) keep(c *admin.Call) error {
	q, err := c.Query("node", "disk")
	if err != nil {
		return err
	}
	return p.set(c, q, directory.Active, false)
}

// set sets the state of a node or a disk, and what it is to become after that.
func (p placementCalls) set(c *admin.Call, q url.Values, state directory.Duty, gone bool) error {
	node, disk, err := p.target(q)
	if err != nil {
		return err
	}
	ctx := c.Context()
	if node != 0 {
		_, err = p.n.directory.SetNodeState(ctx, node, state)
	} else {
		_, err = p.n.directory.SetDiskState(ctx, disk, state)
	}
	if err != nil {
		return err
	}
	return p.ask(c, steward.Change{Node: node, Disk: disk, Keep: !gone})
}

// balance has disks made equally full, or, with 0, that ended.
func (p placementCalls) balance(c *admin.Call) error {
	q, err := c.Query("balance")
	if err != nil {
		return err
	}
	b, err := balanceOf(q)
	if err != nil {
		return err
	}
	return p.ask(c, steward.Change{Balance: &b})
}

// repair has what disks have that are away now made elsewhere without waiting.
func (p placementCalls) repair(c *admin.Call) error {
	if _, err := c.Query(); err != nil {
		return err
	}
	return p.ask(c, steward.Change{Lost: p.n.steward.Away()})
}

// ask changes the intent and answers it.
func (p placementCalls) ask(c *admin.Call, change steward.Change) error {
	i, err := p.n.steward.Ask(c.Context(), change)
	if err != nil {
		return err
	}
	return c.Stream().Send(admin.KindResult, i)
}
