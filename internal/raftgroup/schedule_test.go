package raftgroup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2"
)

// access is one operation of a history: an addition, or a fresh reading.
type access struct {
	key  string
	add  uint64 // zero: a reading
	read bool
}

// effect is what came of it.
type effect struct {
	value   uint64
	unknown bool // an addition that may have happened, now or later
}

// adder is what porcupine holds a history to.
var adder = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		by := map[string][]porcupine.Operation{}
		for _, o := range history {
			k := o.Input.(access).key
			by[k] = append(by[k], o)
		}
		return slices.Collect(maps.Values(by))
	},
	Init: func() any { return uint64(0) },
	Step: func(state, in, out any) (bool, any) {
		have, a, e := state.(uint64), in.(access), out.(effect)
		if a.read {
			return e.value == have, have
		}
		return e.unknown || e.value == have+a.add, have + a.add
	},
	Equal: func(a, b any) bool { return a == b },
}

// schedule works on a cluster while it is disturbed.
type schedule struct {
	*cluster
	rand  *rand.Rand
	begin time.Time

	hist    sync.Mutex // guards the fields below
	history []porcupine.Operation
	asked   map[string]uint64 // additions that were tried
	done    map[string]uint64 // and those that were acknowledged

	members sync.RWMutex // held for reading while a member is used
}

// work adds and reads until it ends.
func (s *schedule) work(client int, seed uint64, stop <-chan struct{}) {
	r := rand.New(rand.NewPCG(uint64(client), seed))
	for {
		select {
		case <-stop:
			return
		default:
		}
		s.members.RLock()
		ids := slices.Sorted(maps.Keys(s.open))
		g := s.open[ids[r.IntN(len(ids))]]
		s.members.RUnlock()
		key := fmt.Sprintf("k%d", r.IntN(4))
		ctx, cancel := context.WithTimeout(s.t.Context(), time.Duration(200+r.IntN(3000))*time.Millisecond)
		if r.IntN(3) == 0 {
			s.read(ctx, client, g, key)
		} else {
			s.add(ctx, client, g, key, r.IntN(10) == 0)
		}
		cancel()
	}
}

func (s *schedule) note(client int, in access, out effect, from, to time.Duration) {
	s.hist.Lock()
	defer s.hist.Unlock()
	s.history = append(s.history, porcupine.Operation{ClientId: client, Input: in, Output: out, Call: int64(from), Return: int64(to)})
}

func (s *schedule) add(ctx context.Context, client int, g *Group, key string, refuse bool) {
	if refuse {
		_, err := g.Propose(ctx, []byte("r"+key))
		if err == nil || !errors.Is(err, errRefused) && !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrStopped) &&
			!errors.Is(err, ErrOutcomeUnknown) && ctx.Err() == nil {
			s.t.Errorf("a refusal became %v", err)
		}
		return
	}
	s.hist.Lock()
	s.asked[key]++
	s.hist.Unlock()
	from := time.Since(s.begin)
	v, err := g.Propose(ctx, addCmd(key, 1))
	to := time.Since(s.begin)
	switch {
	case err == nil:
		s.note(client, access{key: key, add: 1}, effect{value: v.(uint64)}, from, to)
		s.hist.Lock()
		s.done[key]++
		s.hist.Unlock()
	case errors.Is(err, ErrOutcomeUnknown):
		s.note(client, access{key: key, add: 1}, effect{unknown: true}, from, 1<<62)
	case errors.Is(err, ErrNotLeader), errors.Is(err, ErrStopped), ctx.Err() != nil:
		s.hist.Lock()
		s.asked[key]-- // it had no effect
		s.hist.Unlock()
	default:
		s.t.Errorf("add: %v", err)
	}
}

func (s *schedule) read(ctx context.Context, client int, g *Group, key string) {
	from := time.Since(s.begin)
	if g.Fresh(ctx) != nil {
		return
	}
	var v uint64
	err := g.View(func(r pebble.Reader) error {
		b, c, err := r.Get([]byte(key))
		if err == nil {
			v = binary.BigEndian.Uint64(b)
			return c.Close()
		}
		if errors.Is(err, pebble.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return // closed meanwhile
	}
	s.note(client, access{key: key, read: true}, effect{value: v}, from, time.Since(s.begin))
}

// disturb does something to the cluster, and mostly undoes it later.
func (s *schedule) disturb() string {
	ids := slices.Clone(s.ids)
	s.rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	a, b := ids[0], ids[1]
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Second)
	defer cancel()
	via := func() *Group { return s.open[s.other(a)] }
	switch s.rand.IntN(9) {
	case 0:
		s.net.isolate(true, a, s.ids)
		return "isolate " + a
	case 1:
		s.net.set(true, a, b)
		return "cut " + a + " to " + b
	case 2: // bridge: a hears everybody, and two others do not hear each other
		s.net.set(true, b, ids[2])
		s.net.set(true, ids[2], b)
		return "bridge"
	case 3, 4:
		for _, x := range s.ids {
			s.net.isolate(false, x, s.ids)
		}
		return "heal"
	case 5:
		if s.open[a] == nil || len(s.open) < 3 {
			return "nothing"
		}
		s.members.Lock()
		s.stop(a)
		s.members.Unlock()
		return "stop " + a
	case 6:
		for _, x := range s.ids {
			if s.open[x] == nil {
				s.members.Lock()
				s.start(x)
				s.members.Unlock()
				return "start " + x
			}
		}
		return "nothing"
	case 7:
		if g := via(); s.rand.IntN(2) == 0 {
			return fmt.Sprintf("demote %s: %v", a, g.Demote(ctx, a))
		}
		return fmt.Sprintf("promote %s: %v", a, via().AddVoter(ctx, a))
	}
	return fmt.Sprintf("transfer to %s: %v", a, via().TransferLeadership(ctx, a))
}

// TestRandomSchedule disturbs a working group at random: members stop and start,
// links break in one or both directions, requests arrive twice, answers get lost,
// voters become learners and back. What was acknowledged is there exactly once,
// and fresh readings on any member are linearizable.
//
// RAFTGROUP_SEED repeats a schedule, as far as the scheduler of the machine lets
// it; RAFTGROUP_ROUNDS sets its length.
func TestRandomSchedule(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if v := os.Getenv("RAFTGROUP_SEED"); v != "" {
		seed, _ = strconv.ParseUint(v, 10, 64)
	}
	rounds, _ := strconv.Atoi(os.Getenv("RAFTGROUP_ROUNDS"))
	if rounds <= 0 {
		rounds = 12
	}
	t.Logf("repeat: RAFTGROUP_SEED=%d RAFTGROUP_ROUNDS=%d go test -run TestRandomSchedule ./internal/raftgroup", seed, rounds)
	for n, tcp := range map[int]bool{3: true, 5: false} {
		t.Run(fmt.Sprintf("%d members, tcp=%v", n, tcp), func(t *testing.T) { t.Parallel(); runSchedule(t, seed, n, tcp, rounds) })
	}
}

func runSchedule(t *testing.T, seed uint64, n int, tcp bool, rounds int) {
	s := &schedule{cluster: newCluster(t, tcp), rand: rand.New(rand.NewPCG(seed, uint64(n))), begin: time.Now(), asked: map[string]uint64{}, done: map[string]uint64{}}
	s.net.rand, s.net.doubt = rand.New(rand.NewPCG(seed, 2)), 5
	s.tune = func(_ string, o *Options) { o.SnapshotEntries, o.TrailingLogs = 40, 10 }
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("n%d", i+1))
	}
	s.voters(ids...)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for c := range 6 {
		wg.Go(func() { s.work(c, seed, stop) })
	}
	var log []string
	for range rounds {
		log = append(log, s.disturb())
		s.settle(time.Duration(100+s.rand.IntN(900)) * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	for _, x := range s.ids {
		s.net.isolate(false, x, s.ids)
	}
	for _, x := range s.ids {
		if s.open[x] == nil {
			s.start(x)
		}
	}
	s.check(log)
}

// settle lets the clients work for a while.
func (s *schedule) settle(d time.Duration) {
	select {
	case <-time.After(d):
	case <-s.t.Context().Done():
	}
}

func (s *schedule) check(log []string) {
	from := int64(time.Since(s.begin))
	have := s.same()
	s.hist.Lock()
	defer s.hist.Unlock()
	unsure := 0
	for _, o := range s.history {
		if o.Output.(effect).unknown {
			unsure++
		}
	}
	s.t.Logf("%d operations, %d of them unknown: %s", len(s.history), unsure, strings.Join(log, "; "))
	for key, n := range s.asked {
		if have[key] < s.done[key] || have[key] > n {
			s.t.Errorf("%s is %d; acknowledged %d, asked for %d", key, have[key], s.done[key], n)
		}
	}
	end := int64(time.Since(s.begin))
	for key, v := range have { // a last reading
		s.history = append(s.history, porcupine.Operation{ClientId: 99, Input: access{key: key, read: true}, Output: effect{value: v}, Call: from, Return: end})
	}
	for i := range s.history {
		if s.history[i].Output.(effect).unknown {
			s.history[i].Return = end + 2
		}
	}
	if got, _ := porcupine.CheckOperationsVerbose(adder, s.history, 60*time.Second); got != porcupine.Ok {
		s.t.Errorf("the history is not linearizable: %s", got)
	}
}
