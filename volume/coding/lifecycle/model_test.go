package lifecycle

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// The model: one volume with two replicas of its source on disks 0 and 1, coded
// 2+1 over disks 0, 1 and 2, by encoders that crash, go on, are replaced, and
// work at the same time. Every command is a message that may come late, twice or
// never; disks are lost, at most m at a time, and filled again. Every order of
// all of it is tried, within the bounds below.
//
// Holders may act on an old row. That needs no states of its own: every change
// of the row is checked to take no permission to remove back, so what an old row
// allows the newest one does, and that is what the holders of the model ask.

const (
	disks    = 3
	dataK    = 2
	replicas = 2 // of a source, on the first disks
	encoders = 2
)

// bounds of the search.
type bounds struct {
	epochs, generations, numbers, crashes, losses, clock uint8
	// fold leaves out what cannot matter any more under the real rules:
	// messages about epochs and generations that are past, and files of void
	// epochs that no encoder writes.
	fold bool
}

// rules are those under test: the methods of Row, or one of them broken.
type rules struct {
	begin           func(Row, Run) (Row, error)
	commit          func(Row, uint32, uint64, []Digest, time.Time) (Row, error)
	release         func(Row, uint32, []Digest, time.Time, time.Duration) (Row, error)
	replace         func(Row, Source) (Row, error)
	revoke          func(Row, uint32) (Row, error)
	mayRemoveShards func(Row, uint32) bool
	mayRemoveSource func(Row, uint32) bool

	blind bool // whoever asks for a release does not look at the shards
}

func realRules() rules {
	return rules{begin: Row.Begin, commit: Row.Commit, release: Row.Release, replace: Row.Replace, revoke: Row.Revoke,
		mayRemoveShards: Row.MayRemoveShards, mayRemoveSource: Row.MayRemoveSource}
}

// Phases of an encoder.
const (
	idle      uint8 = iota
	asked           // sent Begin
	making          // writes step files, then names them
	committed       // sent Commit
)

type encoder struct {
	number, phase, epoch, generation, step uint8
}

// Files of shards: absent, unfinished by a run, or whole by a run.
const (
	absent     uint8 = 0
	unfinished uint8 = 8  // + number
	whole      uint8 = 16 // + number
)

const (
	maxEpochs      = 3
	maxGenerations = 2
)

// world is one state of the search.
type world struct {
	row     Row
	clock   uint8
	enc     [encoders]encoder
	numbers uint8
	files   [maxEpochs + 1][disks]uint8
	sources [maxGenerations + 1][replicas]bool
	lost    [disks]bool // and not filled again
	crashes uint8
	losses  uint8
	sent    []message // sorted: a set
}

// message is a command under way. It may be delivered at any time, any number of
// times.
type message struct {
	kind    byte
	epoch   uint8
	number  uint8 // the encoder's; of Release, Revoke: 0
	gen     uint8
	clock   uint8
	writers [disks]uint8 // whose shards were verified
}

func source(gen uint8) Source {
	return Source{Generation: uint32(gen), Digest: Digest{gen}, Bytes: 1}
}

func digests(epoch uint8, writers [disks]uint8) []Digest {
	out := make([]Digest, disks)
	for i := range out {
		out[i] = Digest{epoch, byte(i), writers[i]}
	}
	return out
}

func at(clock uint8) time.Time { return time.Unix(int64(clock), 0) }

const grace = time.Second

func start() *world {
	w := &world{numbers: encoders}
	w.row.Source = source(1)
	w.sources[1] = [replicas]bool{true, true}
	for i := range w.enc {
		w.enc[i].number = uint8(i + 1)
	}
	return w
}

func (w *world) clone() *world {
	c := *w
	return &c
}

// send puts a message under way; it stays so.
func (w *world) send(m message) {
	at, found := slices.BinarySearchFunc(w.sent, m, func(a, b message) int { return bytes.Compare(a.bytes(), b.bytes()) })
	if !found {
		w.sent = slices.Insert(slices.Clone(w.sent), at, m)
	}
}

func (m message) bytes() []byte {
	return append([]byte{m.kind, m.epoch, m.number, m.gen, m.clock}, m.writers[:]...)
}

// fold forgets what cannot matter any more.
func (w *world) fold(r rules) {
	past := func(m message) bool {
		e := uint32(m.epoch)
		running := w.row.Run != nil && w.row.Run.Epoch == e
		counts := w.row.Committed != nil && w.row.Committed.Epoch == e
		switch m.kind {
		case 'B':
			return e <= w.row.Epoch
		case 'C':
			return e <= w.row.Epoch && !running
		case 'P':
			return uint32(m.gen) <= w.row.Source.Generation
		default:
			return e <= w.row.Epoch && !running && (!counts || w.row.Source.Generation <= w.row.Released)
		}
	}
	if slices.ContainsFunc(w.sent, past) {
		w.sent = slices.DeleteFunc(slices.Clone(w.sent), past)
	}
	for e := uint8(1); e <= maxEpochs; e++ {
		if r.mayRemoveShards(w.row, uint32(e)) && w.enc[0].epoch != e && w.enc[1].epoch != e {
			w.files[e] = [disks]uint8{}
		}
	}
}

// verified is which runs' shards of an epoch are whole on all disks.
func (w *world) verified(epoch uint8) (writers [disks]uint8, all bool) {
	for i, f := range w.files[epoch] {
		if f < whole {
			return writers, false
		}
		writers[i] = f - whole
	}
	return writers, true
}

// decodable tells whether the shards that a commit names give the source.
func (w *world) decodable(c *Commit) bool {
	if c == nil {
		return false
	}
	n := 0
	for i, f := range w.files[c.Epoch] {
		if f >= whole && c.Digests[i] == (Digest{byte(c.Epoch), byte(i), f - whole}) {
			n++
		}
	}
	return n >= dataK
}

// broken says which promise does not hold in a state.
func (w *world) broken() string {
	if err := w.row.Validate(); err != nil {
		return err.Error()
	}
	for _, c := range []*Commit{w.row.Committed, w.row.Before} {
		if c == nil {
			continue
		}
		for i, d := range c.Digests {
			if d != (Digest{byte(c.Epoch), byte(i), byte(c.Encoder)}) {
				return fmt.Sprintf("epoch %d is committed with a shard of another run", c.Epoch)
			}
		}
	}
	have := w.decodable(w.row.Committed) || w.decodable(w.row.Before)
	for g := uint8(1); g <= uint8(w.row.Source.Generation); g++ {
		for _, has := range w.sources[g] {
			have = have || has
		}
	}
	if !have {
		return "the volume cannot be read"
	}
	return ""
}

// adder adds a step.
type adder func(what func() string, change func(*world))

// say names a step when somebody wants to know.
func say(format string, args ...any) func() string {
	return func() string { return fmt.Sprintf(format, args...) }
}

// edge is one step of the search.
type edge struct {
	what func() string
	to   *world
	bad  string // a promise that the step breaks
	kind byte   // of a message that changed the row
}

func (w *world) deliver(r rules, m message) (Row, error) {
	switch m.kind {
	case 'B':
		return r.begin(w.row, Run{Epoch: uint32(m.epoch), Encoder: uint64(m.number), Data: dataK, Parity: disks - dataK,
			Source: source(m.gen), Homes: []Disk{0, 1, 2}})
	case 'C':
		return r.commit(w.row, uint32(m.epoch), uint64(m.number), digests(m.epoch, m.writers), at(m.clock))
	case 'L':
		return r.release(w.row, uint32(m.epoch), digests(m.epoch, m.writers), at(m.clock), grace)
	case 'P':
		return r.replace(w.row, source(m.gen))
	default:
		return r.revoke(w.row, uint32(m.epoch))
	}
}

// next lists every step out of a state.
func (w *world) next(r rules, b bounds) (out []edge) {
	add := func(what func() string, change func(c *world)) {
		c := w.clone()
		change(c)
		bad := c.broken()
		if b.fold {
			c.fold(r)
		}
		out = append(out, edge{what: what, to: c, bad: bad})
	}
	for _, m := range w.sent {
		row, err := w.deliver(r, m)
		if err != nil {
			continue
		}
		if bytes.Equal(appendRow(nil, w.row), appendRow(nil, row)) {
			continue
		}
		bad := forgets(r, w.row, row)
		switch {
		case bad != "":
		case m.kind == 'L' && m.clock < uint8(row.Committed.At.Unix())+1:
			bad = "a source is released before its grace is over"
		case m.kind == 'B' && w.row.Run != nil && w.row.Run.Epoch == row.Run.Epoch:
			bad = "two encoders have one epoch"
		}
		add(say("deliver %c%+v", m.kind, m), func(c *world) { c.row = row })
		last := &out[len(out)-1]
		last.kind = m.kind
		if bad != "" {
			last.bad = bad
		}
	}
	for i := range w.enc {
		w.encoderSteps(i, b, add)
	}
	w.directorySteps(r, b, add)
	w.holderSteps(r, add, &out)
	if w.losses < b.losses && w.lost == [disks]bool{} {
		for i := range disks {
			add(say("lose disk %d", i), func(c *world) {
				c.losses++
				c.lost[i] = true
				for e := range c.files {
					c.files[e][i] = absent
				}
				for g := range c.sources {
					if i < replicas {
						c.sources[g][i] = false
					}
				}
			})
		}
	}
	return out
}

// forgets says which permission to remove a change of the row takes back: a
// holder with the old row may have used it.
func forgets(r rules, old, row Row) string {
	for n := uint32(1); n <= maxEpochs; n++ {
		if r.mayRemoveShards(old, n) && !r.mayRemoveShards(row, n) {
			return fmt.Sprintf("epoch %d was void and is not any more", n)
		}
		if r.mayRemoveSource(old, n) && !r.mayRemoveSource(row, n) {
			return fmt.Sprintf("generation %d was released and is not any more", n)
		}
	}
	return ""
}

func (w *world) encoderSteps(i int, b bounds, add adder) {
	e := w.enc[i]
	name := func(what string) func() string { return say("encoder %d (%d) %s", i, e.number, what) }
	next := uint8(w.row.Epoch) + 1
	switch {
	case e.phase == idle && next <= b.epochs && w.row.State() != Released && w.row.State() != Coded:
		add(name("asks"), func(c *world) {
			gen := uint8(w.row.Source.Generation)
			c.enc[i] = encoder{number: e.number, phase: asked, epoch: next, generation: gen}
			c.send(message{kind: 'B', epoch: next, number: e.number, gen: gen})
		})
	case e.phase == asked && w.row.MayWrite(uint32(e.epoch), uint64(e.number)):
		add(name("begins"), func(c *world) { c.enc[i].phase, c.enc[i].step = making, 0 })
	case e.phase == asked && uint8(w.row.Epoch) >= e.epoch, e.phase == committed && w.row.Run == nil:
		add(name("ends"), func(c *world) { c.enc[i] = encoder{number: e.number} })
	case e.phase == making:
		w.making(i, name, add)
	}
	if e.phase != idle && w.crashes < b.crashes {
		add(name("crashes and goes on"), func(c *world) {
			c.crashes++
			c.enc[i].phase, c.enc[i].step = asked, 0
		})
		if w.numbers < b.numbers {
			add(name("crashes and is another one"), func(c *world) {
				c.crashes++
				c.numbers++
				c.enc[i] = encoder{number: c.numbers}
			})
		}
	}
}

// making is an encoder at work. It does not look at the row: it may be void.
// First it writes all shards, then it names one after another, then it commits.
func (w *world) making(i int, name func(string) func() string, add adder) {
	e := w.enc[i]
	files := &w.files[e.epoch]
	if e.step > 0 && e.step <= disks {
		disk := e.step - 1
		add(name("names a shard"), func(c *world) {
			switch files[disk] {
			case unfinished + e.number, whole + e.number:
				c.files[e.epoch][disk] = whole + e.number
				c.enc[i].step++
			default: // lost meanwhile
				c.enc[i].step = 0
			}
		})
		return
	}
	writers, all := w.verified(e.epoch)
	if e.step > disks {
		if !all {
			add(name("starts over"), func(c *world) { c.enc[i].step = 0 })
			return
		}
		add(name("commits"), func(c *world) {
			c.enc[i].phase = committed
			c.send(message{kind: 'C', epoch: e.epoch, number: e.number, gen: e.generation, clock: c.clock, writers: writers})
		})
		return
	}
	if s := w.sources[e.generation]; !s[0] && !s[1] && !all {
		return // nothing to read: the run ends, void or not
	}
	for _, f := range files {
		if f > whole && f != whole+e.number {
			return // another run's: never touched
		}
	}
	add(name("writes"), func(c *world) {
		c.enc[i].step = 1
		for d, f := range files {
			if f != whole+e.number {
				c.files[e.epoch][d] = unfinished + e.number
			}
		}
	})
}

// directorySteps are what the directory's keepers propose.
func (w *world) directorySteps(r rules, b bounds, add adder) {
	send := func(what string, m message) {
		if !slices.Contains(w.sent, m) {
			add(say("%s", what), func(c *world) { c.send(m) })
		}
	}
	if w.clock < b.clock {
		add(say("tick"), func(c *world) { c.clock++ })
	}
	c := w.row.Committed
	if w.row.State() == Coded {
		if writers, all := w.verified(uint8(c.Epoch)); all || r.blind {
			send("shards verified for the release", message{kind: 'L', epoch: uint8(c.Epoch), clock: w.clock, writers: writers})
		} else if !w.decodable(c) {
			send("epoch given up", message{kind: 'R', epoch: uint8(c.Epoch)})
		}
	}
	gen := uint8(w.row.Source.Generation) + 1
	if w.row.State() == Released && gen <= b.generations && w.decodable(c) {
		add(say("compacted out of the shards"), func(n *world) {
			n.sources[gen] = [replicas]bool{true, true}
			n.send(message{kind: 'P', gen: gen})
		})
	}
}

// holderSteps are what disks do with the row that they know.
func (w *world) holderSteps(r rules, add adder, out *[]edge) {
	for i := range disks {
		c := w.clone()
		if removed, bad := c.remove(r, i); removed {
			add(say("disk %d removes what it may", i), func(n *world) { *n = *c })
			if bad != "" {
				(*out)[len(*out)-1].bad = bad
			}
		}
		if w.lost[i] {
			add(say("disk %d is filled again", i), func(c *world) { c.fill(i) })
		}
	}
	// A shard that was lost before its epoch was committed.
	if c := w.row.Committed; c != nil && w.lost == [disks]bool{} && w.decodable(c) {
		for i, f := range w.files[c.Epoch] {
			if f == absent {
				add(say("shard %d is rebuilt", i), func(n *world) { n.files[c.Epoch][i] = whole + c.Digests[i][2] })
			}
		}
	}
}

// remove removes from disk i what the row lets it remove.
func (w *world) remove(r rules, i int) (removed bool, bad string) {
	for e := uint8(1); e <= maxEpochs; e++ {
		if w.files[e][i] == absent || !r.mayRemoveShards(w.row, uint32(e)) {
			continue
		}
		if w.row.Readable(uint32(e)) || w.row.Run != nil && w.row.Run.Epoch == uint32(e) {
			bad = "a shard was removed that the directory has not given up"
		}
		w.files[e][i] = absent
		removed = true
	}
	for g := uint8(1); g <= maxGenerations && i < replicas; g++ {
		if !w.sources[g][i] || !r.mayRemoveSource(w.row, uint32(g)) {
			continue
		}
		if w.row.Released < uint32(g) {
			bad = "a source was removed that the directory has not released"
		}
		w.sources[g][i] = false
		removed = true
	}
	return removed, bad
}

// fill makes again what the row says disk i should hold.
func (w *world) fill(i int) {
	w.lost[i] = false
	for _, c := range []*Commit{w.row.Committed, w.row.Before} {
		if w.decodable(c) {
			w.files[c.Epoch][i] = whole + c.Digests[i][2]
		}
	}
	g := w.row.Source.Generation
	if g > w.row.Released && i < replicas && w.sources[g][1-i] {
		w.sources[g][i] = true
	}
}

// appendRow writes a row in a few bytes.
func appendRow(b []byte, row Row) []byte {
	b = append(b, byte(row.Epoch), byte(row.Source.Generation), byte(row.Released))
	if row.Run == nil {
		b = append(b, 0)
	} else {
		b = append(b, byte(row.Run.Epoch), byte(row.Run.Encoder), byte(row.Run.Source.Generation))
	}
	for _, c := range []*Commit{row.Committed, row.Before} {
		if c == nil {
			b = append(b, 0)
			continue
		}
		b = append(b, byte(c.Epoch), byte(c.Encoder), byte(c.Source.Generation), byte(c.At.Unix()))
		for _, d := range c.Digests {
			b = append(b, d[2])
		}
	}
	return b
}

// id names a state.
func (w *world) id() []byte {
	b := appendRow(make([]byte, 0, 128), w.row)
	b = append(b, w.clock, w.numbers, w.crashes, w.losses)
	for _, e := range w.enc {
		b = append(b, e.number, e.phase, e.epoch, e.generation, e.step)
	}
	for _, f := range w.files {
		b = append(b, f[:]...)
	}
	bit := func(set bool) {
		b = append(b, 0)
		if set {
			b[len(b)-1] = 1
		}
	}
	for _, s := range w.sources {
		bit(s[0])
		bit(s[1])
	}
	for _, l := range w.lost {
		bit(l)
	}
	for _, m := range w.sent {
		b = append(b, m.bytes()...)
	}
	return b
}

// name is a state's id in two words: equal ids have equal names, and others do
// not in practice.
type name [2]uint64

var seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

func (w *world) name() name {
	id := w.id()
	return name{maphash.Bytes(seeds[0], id), maphash.Bytes(seeds[1], id)}
}

// result is what a search found.
type result struct {
	states  int
	reached map[State]bool
	kinds   map[byte]bool // of messages that changed the row
	trace   []string      // to a state that breaks a promise
}

// search tries everything.
func search(r rules, b bounds) result {
	first := start()
	from := map[name]name{first.name(): {}}
	queue := []*world{first}
	out := result{reached: map[State]bool{}, kinds: map[byte]bool{}}
	for len(queue) > 0 {
		w := queue[0]
		queue[0], queue = nil, queue[1:]
		out.reached[w.row.State()] = true
		here := w.name()
		for _, e := range w.next(r, b) {
			if e.bad != "" {
				out.trace = append(retrace(r, b, from, here), e.what(), e.bad)
				return out
			}
			out.kinds[e.kind] = true
			to := e.to.name()
			if _, seen := from[to]; !seen {
				from[to] = here
				queue = append(queue, e.to)
			}
		}
	}
	out.states = len(from)
	return out
}

// retrace finds the steps to a state.
func retrace(r rules, b bounds, from map[name]name, to name) (trace []string) {
	var names []name
	for ; to != (name{}); to = from[to] {
		names = append(names, to)
	}
	slices.Reverse(names)
	w := start()
	for _, n := range names[1:] {
		for _, e := range w.next(r, b) {
			if e.to.name() == n {
				w, trace = e.to, append(trace, e.what())
				break
			}
		}
	}
	return trace
}

// TestModel searches everything within several bounds.
func TestModel(t *testing.T) {
	t.Parallel()
	reached, kinds := map[State]bool{}, map[byte]bool{}
	for _, b := range []bounds{
		{epochs: 2, generations: 1, numbers: 2, crashes: 0, losses: 0, clock: 1},
		{epochs: 2, generations: 1, numbers: 3, crashes: 1, losses: 0, clock: 1, fold: true},
		{epochs: 1, generations: 1, numbers: 2, crashes: 1, losses: 2, clock: 1, fold: true},
		{epochs: 2, generations: 1, numbers: 2, crashes: 0, losses: 1, clock: 1, fold: true},
		{epochs: 2, generations: 2, numbers: 2, crashes: 0, losses: 1, clock: 2, fold: true},
	} {
		got := search(realRules(), b)
		if got.trace != nil {
			t.Fatalf("%+v: a promise is broken:\n%s", b, strings.Join(got.trace, "\n"))
		}
		t.Logf("%+v: %d states", b, got.states)
		maps.Copy(reached, got.reached)
		maps.Copy(kinds, got.kinds)
	}
	for _, s := range []State{Sealed, Coding, Coded, Released} {
		if !reached[s] {
			t.Errorf("no state is %s: the search looks in the wrong place", s)
		}
	}
	for _, kind := range []byte("BCLPR") {
		if !kinds[kind] {
			t.Errorf("no command %c ever changed the row", kind)
		}
	}
}

// TestModelFindsBrokenRules breaks one rule at a time: the search must see it.
func TestModelFindsBrokenRules(t *testing.T) {
	t.Parallel()
	small := bounds{epochs: 2, generations: 1, numbers: 2, crashes: 0, losses: 0, clock: 1}
	lossy := bounds{epochs: 1, generations: 1, numbers: 2, crashes: 0, losses: 2, clock: 1}
	for what, tt := range map[string]struct {
		b     bounds
		spoil func(r *rules)
		want  string
	}{
		"a void epoch is committed": {small, func(r *rules) {
			r.commit = func(row Row, epoch uint32, encoder uint64, d []Digest, now time.Time) (Row, error) {
				if row.Run != nil && epoch < row.Run.Epoch {
					row.Run = &Run{Epoch: epoch, Encoder: encoder, Data: dataK, Parity: 1, Source: row.Source, Homes: row.Run.Homes}
				}
				return row.Commit(epoch, encoder, d, now)
			}
		}, "was void and is not"},
		"unverified shards are released": {lossy, func(r *rules) {
			r.release = func(row Row, epoch uint32, _ []Digest, now time.Time, grace time.Duration) (Row, error) {
				if row.Committed == nil {
					return row, ErrRefused
				}
				return row.Release(epoch, row.Committed.Digests, now, grace)
			}
			// Nobody looks before it asks.
			r.blind = true
		}, "cannot be read"},
		"released before the grace is over": {small, func(r *rules) {
			r.release = func(row Row, epoch uint32, d []Digest, now time.Time, _ time.Duration) (Row, error) {
				return row.Release(epoch, d, now, 0)
			}
		}, "before its grace"},
		"shards of younger epochs go": {small, func(r *rules) {
			r.mayRemoveShards = func(row Row, epoch uint32) bool { return epoch > row.Epoch || row.MayRemoveShards(epoch) }
		}, "was void and is not"},
		"shards of the run go": {small, func(r *rules) {
			r.mayRemoveShards = func(row Row, epoch uint32) bool { return epoch <= row.Epoch && !row.Readable(epoch) }
		}, "has not given up"},
		"the source goes at the commit": {small, func(r *rules) {
			r.mayRemoveSource = func(row Row, g uint32) bool {
				return row.Committed != nil && g <= row.Committed.Source.Generation
			}
		}, "has not released"},
		"the source goes when coding begins": {small, func(r *rules) {
			r.mayRemoveSource = func(row Row, g uint32) bool { return row.Epoch > 0 && g == 1 }
		}, "has not released"},
		"two encoders have one epoch": {small, func(r *rules) {
			r.begin = func(row Row, want Run) (Row, error) {
				if row.Run != nil && want.Epoch == row.Epoch {
					row.Run = &want
					return row, nil
				}
				return row.Begin(want)
			}
		}, "two encoders"},
	} {
		t.Run(what, func(t *testing.T) {
			r := realRules()
			tt.spoil(&r)
			got := search(r, tt.b)
			if got.trace == nil {
				t.Fatalf("%d states, and nothing is wrong", got.states)
			}
			if last := got.trace[len(got.trace)-1]; !strings.Contains(last, tt.want) {
				t.Errorf("found %q, want %q", strings.Join(got.trace, "\n"), tt.want)
			}
		})
	}
}
