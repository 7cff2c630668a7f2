package electorate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestDecide: what each rule of the package comment says.
func TestDecide(t *testing.T) {
	const long, short = time.Hour, time.Second
	leader := Member{ID: "a", Voter: true, Leader: true}
	voter := func(id string, away time.Duration) Member { return Member{ID: id, Voter: true, Away: away} }
	learner := func(id string, away time.Duration) Member { return Member{ID: id, Away: away} }
	for _, tt := range []struct {
		name    string
		members []Member
		want    Change
	}{
		{"alone", []Member{leader}, Change{}},
		{"a second one follows", []Member{leader, learner("b", 0)}, Change{}},
		{"a third makes voters", []Member{leader, learner("b", 0), learner("c", 0)}, Change{Kind: Promote, ID: "b"}},
		{"and again", []Member{leader, voter("b", 0), learner("c", 0)}, Change{Kind: Promote, ID: "c"}},
		{"a fourth follows", []Member{leader, voter("b", 0), voter("c", 0), learner("d", 0)}, Change{}},
		{"one that is away is no third", []Member{leader, learner("b", 0), learner("c", short)}, Change{}},
		{"away for a while", []Member{leader, voter("b", 0), voter("c", short), learner("d", 0)}, Change{}},
		{"away for long", []Member{leader, voter("b", 0), voter("c", long), learner("d", 0)}, Change{Kind: Promote, ID: "d"}},
		{"then it loses its vote", []Member{leader, voter("b", 0), voter("c", long), voter("d", 0)}, Change{Kind: Demote, ID: "c"}},
		{"nobody to replace it", []Member{leader, voter("b", 0), voter("c", long)}, Change{}},
		{"a leader that leaves hands over", []Member{{ID: "a", Voter: true, Leader: true, Leaving: true}, voter("b", 0), voter("c", 0), voter("d", 0)}, Change{Kind: Transfer, ID: "a"}},
		{"a learner that is gone", []Member{leader, {ID: "b", Gone: true, Away: long}}, Change{Kind: Remove, ID: "b"}},
		{"a voter that is gone", []Member{leader, voter("b", 0), {ID: "c", Voter: true, Gone: true, Away: long}}, Change{Kind: Demote, ID: "c"}},
		{"no more than most", []Member{leader, voter("b", 0), voter("c", 0), learner("d", 0), learner("e", 0)}, Change{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Decide(tt.members, 3, time.Minute)
			if got.Why != "" {
				got.Why = ""
			}
			if got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestDecideSettles plays random comings and goings: the changes come to an end,
// then there is an odd number of voters whenever enough members are up, and no
// change ever leaves a group that had a majority up without one.
func TestDecideSettles(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for round := range 2000 {
		most := []int{1, 3, 5}[r.IntN(3)]
		members := []Member{{ID: "m0", Voter: true, Leader: true}}
		for i := 1 + r.IntN(7); i > 0; i-- {
			members = append(members, Member{ID: fmt.Sprintf("m%d", len(members))})
		}
		for range 6 {
			for i := range members {
				if members[i].Leader {
					continue
				}
				members[i].Away = []time.Duration{0, 0, 0, time.Second, time.Hour}[r.IntN(5)]
				members[i].Gone = members[i].Gone || r.IntN(20) == 0
			}
			members = settle(t, members, most, round)
		}
	}
}

func settle(t *testing.T, members []Member, most, round int) []Member {
	t.Helper()
	for step := 0; ; step++ {
		if step > 50 {
			t.Fatalf("round %d: no end: %+v", round, members)
		}
		before := majorityUp(members)
		c := Decide(members, most, time.Minute)
		i := slices.IndexFunc(members, func(m Member) bool { return m.ID == c.ID })
		switch c.Kind {
		case None:
			check(t, members, most, round)
			return members
		case Promote:
			members[i].Voter = true
		case Demote:
			members[i].Voter = false
		case Remove:
			if members[i].Voter {
				t.Fatalf("round %d: a voter is removed", round)
			}
			members = slices.Delete(members, i, i+1)
		case Transfer:
			members[i].Leader = false
			j := slices.IndexFunc(members, func(m Member) bool { return m.Voter && m.Away == 0 && m.ID != c.ID })
			if j < 0 {
				t.Fatalf("round %d: nobody to lead", round)
			}
			members[j].Leader = true
		}
		if before && !majorityUp(members) {
			t.Fatalf("round %d: %+v cost the majority: %+v", round, c, members)
		}
	}
}

func majorityUp(members []Member) bool {
	up, voters := 0, 0
	for _, m := range members {
		if m.Voter {
			voters++
			if m.Away == 0 {
				up++
			}
		}
	}
	return up > voters/2
}

func voting(members []Member) []Member {
	return slices.DeleteFunc(slices.Clone(members), func(m Member) bool { return !m.Voter })
}

func check(t *testing.T, members []Member, most, round int) {
	t.Helper()
	voters, may := 0, 0
	for _, m := range members {
		if m.Voter {
			voters++
			if m.Gone && majorityUp(members) && works(voting(members), m.ID) {
				t.Fatalf("round %d: a member that is gone votes: %+v", round, members)
			}
		}
		if !m.Gone && m.Away == 0 {
			may++
		}
	}
	if voters > most {
		t.Fatalf("round %d: %d voters of at most %d", round, voters, most)
	}
	if voters < odd(min(most, may)) {
		t.Fatalf("round %d: %d voters, %d could: %+v", round, voters, may, members)
	}
}
