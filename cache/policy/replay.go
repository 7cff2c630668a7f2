package policy

// Replay is a cache of keys without bytes, which makes room as the photo cache
// does: what a trace would have found.
type Replay struct {
	policy Policy
	budget int64
	used   int64
	held   map[uint64]*Node
	free   *Node // nodes to be used again, linked by next
}

// NewReplay returns an empty cache with the policy of that name, one of Names.
func NewReplay(name string, budget int64) *Replay {
	return &Replay{policy: New(name, budget), budget: budget, held: make(map[uint64]*Node)}
}

// Get asks for an object that takes cost from the budget, and takes it in when it
// was not there; unless it is so large that the photo cache would not keep it, a
// third of the budget. It reports whether it was there.
func (r *Replay) Get(key uint64, cost int64) (hit bool) {
	if n := r.held[key]; n != nil {
		r.policy.Hit(n)
		return true
	}
	if cost > r.budget/3 {
		return false
	}
	for r.used+r.policy.Overhead()+cost > r.budget {
		n := r.policy.Evict()
		if n == nil {
			return false
		}
		r.drop(n)
	}
	n := r.free
	if n == nil {
		n = new(Node)
	} else {
		r.free = n.next
	}
	*n = Node{Hash: key, Cost: cost}
	r.held[key] = n
	r.used += cost
	r.policy.Add(n)
	return false
}

// Remove forgets a key, as a purge does.
func (r *Replay) Remove(key uint64) {
	if n := r.held[key]; n != nil {
		r.policy.Remove(n)
		r.drop(n)
	}
}

func (r *Replay) drop(n *Node) {
	delete(r.held, n.Hash)
	r.used -= n.Cost
	n.next, r.free = r.free, n
}

// Used are the bytes that are taken from the budget.
func (r *Replay) Used() int64 { return r.used + r.policy.Overhead() }
