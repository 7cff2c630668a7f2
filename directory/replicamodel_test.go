package directory

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hayloft/internal/id"
)

// toy is one volume with toy replicas on four nodes of a disk each, which follow the
// protocol of blob servers around the real machine. Each node knows the row as it was
// at some time. Messages are lost, commands come late, twice or never, and nobody who
// sent one knows. What must hold after every step is check.
type toy struct {
	r                                   *runner
	rand                                *rand.Rand
	v                                   VolumeID
	slot                                id.Slot
	nodes                               map[DiskID]*toyNode
	busy                                int // of four steps, so many are the primary's
	late                                []lateCommand
	row                                 Volume         // as the machine has it
	puts                                map[id.ID]bool // acknowledged
	deletes                             map[id.ID]bool // acknowledged
	last                                []string
	next                                id.ID          // key
	holder                              []DiskID       // that the writer writes to
	events                              map[string]int // how often things happened
	acceptOld, openGate, anyLeave, deaf bool           // ways to break the protocol
}

// toyNode is a node and the replica on its disk.
type toyNode struct {
	disk  DiskID
	up    bool
	knows Volume

	needles    map[id.ID]bool
	tombs      map[id.ID]bool
	log        []id.ID // delete log
	generation uint32
	made       uint32 // generation that lies there too, unserved
	fenced     bool
	sealed     bool // with the digest of the row

	deleting *toyDelete // passes the gate
	joining  *joinSync  // what the gate is shut for, until there is an answer
}

// has tells whether a sealed generation lies there.
func (n *toyNode) has(generation uint32) bool { return n.sealed && n.generation == generation }

// toyDelete is a delete that a primary has begun.
type toyDelete struct {
	key  id.ID
	sync uint32
	left []DiskID // that are to be told yet
}

type lateCommand struct {
	op uint8
	c  command
}

var errLost = errors.New("no answer")

func newToy(t *testing.T, seed uint64) *toy {
	y := &toy{r: newRunner(t), rand: rand.New(rand.NewPCG(seed, 5)), nodes: map[DiskID]*toyNode{}, puts: map[id.ID]bool{}, deletes: map[id.ID]bool{}, events: map[string]int{}}
	for n := range byte(4) {
		y.r.must(opNameNode, &nameNode{registerNode: registerNode{name: fmt.Sprint(n)}, roles: AllRoles})
		d := y.r.must(opRegisterDisk, &registerDisk{node: NodeID(n + 1), uuid: [16]byte{1 + n}}).(Disk)
		y.nodes[d.ID] = &toyNode{disk: d.ID, up: true, needles: map[id.ID]bool{}, tombs: map[id.ID]bool{}}
	}
	g := y.r.must(opAcquire, &acquire{node: 1, incarnation: 9, kind: Originals, now: 1000, length: 100_000}).(granted)
	y.holder, y.slot = []DiskID{2, 1, 3}, g.slot
	y.row = y.r.must(opOpenReplicated, &openReplicated{g.slot, 9, g.w.From, y.holder, 3, g.w.From, 1}).(Volume)
	y.row = y.r.must(opConfirmVolume, &confirmVolume{y.row.ID, 1, 9}).(Volume)
	y.v, y.busy = y.row.ID, y.rand.IntN(3)
	for _, d := range y.holder {
		y.nodes[d].generation = 1
	}
	for _, n := range y.nodes {
		n.knows = y.row
	}
	return y
}

func (y *toy) some() *toyNode { return y.nodes[DiskID(1+y.rand.IntN(len(y.nodes)))] }

// ask proposes a command for a node. The command or its answer may be lost, and the
// command may come later, or again.
func (y *toy) ask(n *toyNode, op uint8, c command) error {
	fate := y.rand.IntN(12)
	if fate < 2 {
		y.late = append(y.late, lateCommand{op, c})
	}
	if fate == 0 || fate == 2 {
		return errLost // before it got there
	}
	err := y.apply(op, c)
	if fate == 3 {
		return errLost // behind it
	}
	if err == nil || !y.deaf {
		n.knows = y.row // whoever is answered, by a refusal too, has a table that shows it
	}
	return err
}

// apply gives the machine a command and looks at what it did to the row.
func (y *toy) apply(op uint8, c command) error {
	before, version := y.row, y.r.m.next.version
	rows := []byte(nil)
	if y.rand.IntN(20) == 0 {
		rows = dump(y.r.t, y.r.db)
	}
	_, err := y.r.do(op, c)
	y.say("%T %+v: %v", c, c, err)
	y.row, _ = y.r.m.next.Volume(y.v)
	moved := !slices.Equal(before.Replicas, y.row.Replicas) || !slices.Equal(before.InSync, y.row.InSync)
	switch {
	case err != nil && (y.r.m.next.version != version || rows != nil && !bytes.Equal(rows, dump(y.r.t, y.r.db))):
		y.r.t.Fatalf("%+v was refused and changed something: %v", c, err)
	case moved && y.row.Sync != before.Sync+1, !moved && y.row.Sync != before.Sync:
		y.r.t.Fatalf("%+v made of %+v %+v", c, before, y.row)
	}
	if errors.Is(err, ErrStale) {
		y.events["stale"]++
	}
	return err
}

// say keeps what happened last.
func (y *toy) say(format string, args ...any) {
	if len(y.last) >= 40 {
		y.last = y.last[1:]
	}
	y.last = append(y.last, fmt.Sprintf(format, args...))
}

// check is what must hold at every moment.
func (y *toy) check() error {
	if !y.row.syncedInOrder() || len(y.row.InSync) == 0 {
		return fmt.Errorf("replicas of %+v", y.row)
	}
	for _, d := range y.row.InSync {
		n := y.nodes[d]
		if n.generation != y.row.Generation && n.made != y.row.Generation {
			return fmt.Errorf("disk %d is in sync with generation %d, made %d, the row is %+v", d, n.generation, n.made, y.row)
		}
		for key := range y.puts {
			if !n.needles[key] {
				return fmt.Errorf("disk %d is in sync without put %d; the row is %+v", d, key, y.row)
			}
		}
		for key := range y.deletes {
			if !n.tombs[key] && !slices.Contains(n.log, key) {
				return fmt.Errorf("disk %d is in sync without delete %d; the row is %+v", d, key, y.row)
			}
		}
	}
	return nil
}

func (y *toy) step() {
	n := y.some()
	if p, ok := y.row.Primary(); ok && y.rand.IntN(4) < y.busy {
		n = y.nodes[p] // which has the most to do
	}
	switch y.rand.IntN(19) {
	case 0:
		n.up = y.rand.IntN(5) > 0
	case 1, 2, 3:
		y.learn(n)
	case 4, 5, 6, 7, 8, 9:
		if y.row.State == StateOpen && y.rand.IntN(2) == 0 {
			y.put()
		} else {
			y.delete(n)
		}
	case 10:
		if len(y.late) > 0 { // it comes at last, or once more
			l := y.late[y.rand.IntN(len(y.late))]
			if y.apply(l.op, l.c) == nil {
				y.events["late"]++
			}
		}
	case 11:
		if y.rand.IntN(3) == 0 {
			y.voteOut(n)
		}
	case 12:
		y.seal(n)
	case 13, 14:
		y.fill(n)
	case 15, 16:
		y.admit(n)
	case 17:
		y.compact(n)
	default:
		y.steward(n)
	}
}

// run is one life of a volume. It ends with the first thing that is wrong.
func (y *toy) run(steps int) error {
	for n := range steps {
		y.step()
		if err := y.check(); err != nil {
			return fmt.Errorf("step %d: %w; what happened last:\n%s", n, err, strings.Join(y.last, "\n"))
		}
	}
	return nil
}

// TestReplicasHaveWhatWasAcknowledged: at every moment every replica in sync has every
// put and delete that was acknowledged, whoever acts on what he knew once.
func TestReplicasHaveWhatWasAcknowledged(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d (repeat: put it in place of the clock's in TestReplicasHaveWhatWasAcknowledged)", seed)
	all := map[string]int{}
	for round := range uint64(100) {
		y := newToy(t, seed+round)
		if err := y.run(600); err != nil {
			t.Fatalf("round %d, %v", round, err)
		}
		for k, n := range y.events {
			all[k] += n
		}
	}
	for _, k := range []string{"put", "tombstone", "delete", "stale", "late", "left", "voted out", "sealed", "joined", "join without an answer", "compacted", "added", "removed"} {
		if all[k] < 5 {
			t.Errorf("%q happened %d times only", k, all[k])
		}
	}
	t.Logf("%v", all)
}

// TestReplicaModelHasTeeth: with a protocol that heeds less, the model finds a delete
// that comes back. The searches begin shortly before a life in which it does.
func TestReplicaModelHasTeeth(t *testing.T) {
	for name, c := range map[string]struct {
		from  uint64
		spoil func(*toy)
	}{
		"deletes of an old sync epoch are taken":         {1300, func(y *toy) { y.acceptOld = true }},
		"whoever is out is taken to have left by this":   {1900, func(y *toy) { y.anyLeave = true }},
		"a refusal does not tell how the row is now":     {3750, func(y *toy) { y.deaf = true }},
		"deletes pass while a join is without an answer": {0, func(y *toy) { y.openGate = true }},
	} {
		found := false
		for seed := c.from; !found && seed < c.from+3000; seed++ {
			y := newToy(t, seed)
			c.spoil(y)
			found = y.run(600) != nil
		}
		if !found {
			t.Errorf("%s: nothing was found", name)
		}
	}
}
