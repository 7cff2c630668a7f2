package directory

import (
	"errors"
	"maps"
	"slices"

	"hayloft/internal/id"
)

// What the nodes of a toy do.

// learn is what a node does when it hears of a row: it serves a generation that it
// has made.
func (y *toy) learn(n *toyNode) {
	n.knows = y.row
	if n.made == y.row.Generation {
		n.generation = n.made
	}
}

// put writes to all replicas that the volume was opened with.
func (y *toy) put() {
	y.next++
	all := true
	for _, d := range y.holder {
		n := y.nodes[d]
		if ok := n.up && !n.fenced && y.rand.IntN(10) > 0; ok {
			n.needles[y.next] = true
		} else {
			all = false
		}
	}
	if all {
		y.puts[y.next] = true
		y.events["put"]++
	}
	if y.rand.IntN(12) == 0 && y.row.State == StateOpen { // the writer moves on
		y.r.must(opCloseTile, &closeTile{y.slot, 9, y.row.From, y.row.From + 5, 1200})
		y.row, _ = y.r.m.next.Volume(y.v)
	}
}

// delete goes on with the delete that a node has begun, or begins one.
func (y *toy) delete(n *toyNode) {
	switch {
	case n.deleting != nil:
		y.goOn(n)
	case n.joining != nil && !y.openGate:
		y.askJoin(n)
	case n.knows.State == StateOpen:
		y.entomb(n)
	case n.up && len(n.knows.InSync) > 0 && n.knows.InSync[0] == n.disk: // as far as it knows
		n.fenced = true
		n.deleting = &toyDelete{y.key(), n.knows.Sync, slices.Clone(n.knows.InSync[1:])}
		n.log = append(n.log, n.deleting.key)
		y.say("disk %d begins delete %d, %v", n.disk, n.deleting.key, n.deleting)
	}
}

// key is one that nobody has deleted yet.
func (y *toy) key() id.ID {
	y.next++
	return y.next
}

// entomb deletes in an open volume: on every replica that is in sync as far as n
// knows.
func (y *toy) entomb(n *toyNode) {
	key, row := y.key(), n.knows
	for _, d := range row.InSync {
		to := y.nodes[d]
		switch {
		case to.fenced:
			return
		case to.up && y.rand.IntN(8) > 0:
			to.tombs[key] = true
		case y.ask(n, opLeaveSync, &leaveSync{y.v, d, n.knows.Sync}) != nil:
			return
		}
	}
	y.deletes[key] = true
	y.events["tombstone"]++
}

// goOn tells one more replica of a delete, and acknowledges it behind the last one.
func (y *toy) goOn(n *toyNode) {
	c := n.deleting
	if len(c.left) == 0 {
		y.deletes[c.key] = true
		y.say("disk %d acknowledges delete %d", n.disk, c.key)
		y.events["delete"]++
		n.deleting = nil
		return
	}
	to := y.nodes[c.left[0]]
	c.left = c.left[1:]
	if to.up && y.rand.IntN(10) > 0 && y.logDeletes(to, n.log, c.sync) {
		return
	}
	err := y.ask(n, opLeaveSync, &leaveSync{y.v, to.disk, c.sync})
	if y.anyLeave && errors.Is(err, ErrStale) && !y.row.Synced(to.disk) {
		err = nil
	}
	if err != nil {
		n.deleting = nil // not acknowledged
		return
	}
	c.sync = n.knows.Sync
	y.events["left"]++
}

// logDeletes is a replica that is told of the log of who believes to be the primary.
func (y *toy) logDeletes(to *toyNode, log []id.ID, sync uint32) bool {
	if sync > to.knows.Sync {
		y.learn(to)
	}
	if sync < to.knows.Sync && !y.acceptOld || len(log) < len(to.log) || !slices.Equal(log[:len(to.log)], to.log) {
		return false
	}
	to.fenced, to.log = true, slices.Clone(log)
	y.say("disk %d has deletes %v", to.disk, log)
	return true
}

// voteOut is somebody who does not reach the primary.
func (y *toy) voteOut(n *toyNode) {
	if p, ok := n.knows.Primary(); ok && p != n.disk && y.ask(n, opLeaveSync, &leaveSync{y.v, p, n.knows.Sync}) == nil {
		y.events["voted out"]++
	}
}

// seal fences and unites the replicas that are in sync as far as a node knows, and
// commits those that answer: at once, or, as one that was paused, later.
func (y *toy) seal(n *toyNode) {
	var named []DiskID
	needles, tombs := map[id.ID]bool{}, map[id.ID]bool{}
	if n.knows.State != StateClosing {
		return
	}
	for _, d := range n.knows.InSync {
		if to := y.nodes[d]; to.up && to.generation == 1 {
			to.fenced = true
			named = append(named, d)
			for k := range to.needles {
				needles[k] = true
			}
			for k := range to.tombs {
				tombs[k] = true
			}
		}
	}
	if len(named) < y.rand.IntN(len(n.knows.InSync)+1) {
		return
	}
	for _, d := range named {
		y.nodes[d].sealed = true
		for k := range needles {
			y.nodes[d].needles[k] = true
		}
		for k := range tombs {
			y.nodes[d].tombs[k] = true
		}
	}
	if len(named) > 0 && y.ask(n, opSealReplicas, &sealReplicas{y.v, 1, named, Seal{Digest: [32]byte{1}, Bytes: 10}}) == nil {
		y.events["sealed"]++
	}
}

// fill makes the replica of a node right by that of the primary, as far as it knows.
// No delete of its own is under way.
func (y *toy) fill(n *toyNode) {
	p, ok := n.knows.Primary()
	from := y.nodes[p]
	if !n.up || n.deleting != nil || n.joining != nil || !ok || !from.up || p == n.disk || n.knows.State != StateSealed || !n.knows.On(n.disk) || n.knows.Synced(n.disk) {
		return
	}
	if from.has(n.knows.Generation) { // the file, and the log as it is now
		n.generation, n.fenced, n.sealed = from.generation, true, true // one that is under way stays
		y.say("disk %d is filled from %d", n.disk, p)
		n.needles, n.tombs, n.log = maps.Clone(from.needles), maps.Clone(from.tombs), slices.Clone(from.log)
		return
	}
	y.events["cannot fill"]++
}

// admit is a primary that lets a replica in. While it does, no delete passes.
func (y *toy) admit(p *toyNode) {
	row := p.knows
	if !p.up || p.deleting != nil || p.joining != nil || row.State != StateSealed || len(row.InSync) == 0 || row.InSync[0] != p.disk || !p.has(row.Generation) {
		return
	}
	for _, d := range row.Replicas {
		n := y.nodes[d]
		if row.Synced(d) || !n.up || !n.has(row.Generation) || !y.logDeletes(n, p.log, row.Sync) {
			continue
		}
		p.joining = &joinSync{y.v, d, row.Generation, row.Sync}
		y.askJoin(p)
		return
	}
}

// askJoin asks until there is an answer. Then the gate opens.
func (y *toy) askJoin(p *toyNode) {
	err := y.ask(p, opJoinSync, p.joining)
	switch {
	case errors.Is(err, errLost):
		y.events["join without an answer"]++
		if !y.openGate {
			return
		}
	case err == nil:
		y.events["joined"]++
	}
	p.joining = nil
}

// compact begins or commits a generation, as the primary.
func (y *toy) compact(p *toyNode) {
	row := p.knows
	if !p.up || row.State != StateSealed || len(row.InSync) == 0 || row.InSync[0] != p.disk || !p.has(row.Generation) {
		return
	}
	if row.Compaction == nil {
		c := &beginCompaction{y.v, row.Generation, row.Seal.Digest, row.Seal.Deletes, [32]byte{1}, 1, 1}
		_ = y.ask(p, opBeginCompaction, c) // lost or refused, it looks again
		return
	}
	made := []DiskID{}
	for _, d := range row.InSync {
		if n := y.nodes[d]; n.up && n.has(row.Generation) && y.rand.IntN(6) > 0 {
			n.made = row.Compaction.Generation
			made = append(made, d)
		}
	}
	seal := Seal{Digest: [32]byte{byte(row.Compaction.Generation)}, Bytes: 10, Deletes: row.Compaction.Deletes}
	if len(made) > 0 && y.ask(p, opCommitReplicas, &commitReplicas{y.v, row.Compaction.Generation, made, seal}) == nil {
		y.learn(p)
		y.events["compacted"]++
	}
}

// steward adds and removes replicas by what it knows.
func (y *toy) steward(n *toyNode) {
	d := DiskID(1 + y.rand.IntN(len(y.nodes)))
	if y.rand.IntN(2) == 0 {
		if y.ask(n, opAddReplica, &addReplica{y.v, d, n.knows.Sync}) == nil {
			y.events["added"]++
		}
	} else if len(y.row.InSync) > 2 && y.ask(n, opRemoveReplica, &removeReplica{y.v, d, n.knows.Sync}) == nil {
		y.events["removed"]++
	}
}
