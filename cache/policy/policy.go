package policy

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Policy decides what leaves when room is needed.
type Policy interface {
	// Add takes in a node that is in no policy, whose Hash and Cost are set.
	Add(n *Node)
	// Hit notes that the node's entry was served.
	Hit(n *Node)
	// Evict chooses a node and gives it up; nil when it has none.
	Evict() *Node
	// Remove gives up a node that leaves for another reason.
	Remove(n *Node)
	// Overhead is the memory that the policy takes apart from the nodes, in bytes.
	Overhead() int64
	// All are the nodes that it has. Nothing may be changed meanwhile.
	All() iter.Seq[*Node]
}

// Default is the policy of who names none.
const Default = "s3fifo"

// policies by name. Each is made for a budget in bytes.
var policies = map[string]func(budget int64) Policy{
	"fifo":   func(int64) Policy { return new(fifo) },
	"lru":    func(int64) Policy { return new(lru) },
	"s4lru":  func(budget int64) Policy { return newS4LRU(budget) },
	"sieve":  func(int64) Policy { return new(sieve) },
	"s3fifo": func(budget int64) Policy { return newS3FIFO(budget) },
}

// Names are the policies, from the oldest to the newest.
func Names() []string { return []string{"fifo", "lru", "s4lru", "sieve", "s3fifo"} }

// Check reports what is wrong with a name.
func Check(name string) error {
	if slices.Contains(Names(), name) {
		return nil
	}
	return fmt.Errorf("%q is none of %s", name, strings.Join(Names(), ", "))
}

// New returns the policy of that name, which must be one of Names, for entries
// of budget bytes in all.
func New(name string, budget int64) Policy { return policies[name](budget) }

// Node is what a policy keeps inside each entry. Hash and Cost are set by the
// caller before Add and do not change until the node has left.
type Node struct {
	prev, next *Node
	Hash       uint64 // of the key: by it ghosts are known
	Cost       int64  // bytes of budget
	freq       uint8  // hits, as far as the policy counts
	part       uint8  // queue of the policy that it is in
}

// queue is a list of nodes, oldest first.
type queue struct {
	oldest, newest *Node
	bytes          int64
	count          int
}

func (q *queue) push(n *Node) {
	n.prev, n.next = q.newest, nil
	if q.newest != nil {
		q.newest.next = n
	} else {
		q.oldest = n
	}
	q.newest = n
	q.bytes += n.Cost
	q.count++
}

func (q *queue) take(n *Node) {
	if n.prev != nil {
		n.prev.next = n.next
	} else {
		q.oldest = n.next
	}
	if n.next != nil {
		n.next.prev = n.prev
	} else {
		q.newest = n.prev
	}
	n.prev, n.next = nil, nil
	q.bytes -= n.Cost
	q.count--
}

// pop takes the oldest; nil when there is none.
func (q *queue) pop() *Node {
	n := q.oldest
	if n != nil {
		q.take(n)
	}
	return n
}

// each calls yield for every node, oldest first, until it says false.
func (q *queue) each(yield func(*Node) bool) bool {
	for n := q.oldest; n != nil; n = n.next {
		if !yield(n) {
			return false
		}
	}
	return true
}
