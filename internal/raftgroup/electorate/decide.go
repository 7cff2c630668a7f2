package electorate

import (
	"cmp"
	"slices"
	"time"
)

// Member is a member of the group as the leader knows it.
type Member struct {
	ID      string
	Voter   bool
	Leader  bool
	Away    time.Duration // since it was last heard of; 0: it is up
	Leaving bool          // it is to have no vote: its node is drained of this role, or gone
	Gone    bool          // it is to be no member any more
}

// Change is one step.
type Change struct {
	Kind Kind
	ID   string
	Why  string // one line
}

// Kind says what a Change does.
type Kind uint8

// The kinds of changes. None is nothing to do.
const (
	None     Kind = iota
	Promote       // give a member a vote
	Demote        // take it away; it goes on following
	Remove        // the member is none any more
	Transfer      // let another voter lead, so that the leader can leave
)

// Decide says what to do next, at most one thing. most is how many voters there
// may be, an odd number; patience is how long a voter may be away before another
// member takes its place.
func Decide(members []Member, most int, patience time.Duration) Change {
	members = slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	var voters, waiting []Member // waiting: up, without a vote, and may have one
	could := 0                   // have a vote: nobody who is merely away makes a group smaller
	for _, m := range members {
		if m.Voter {
			voters = append(voters, m)
		}
		if m.Leaving || m.Gone || m.Away > 0 && !m.Voter {
			continue
		}
		could++
		if !m.Voter {
			waiting = append(waiting, m)
		}
	}
	want := odd(min(most, could))
	switch {
	case len(voters) < want && len(waiting) > 0:
		return Change{Promote, waiting[0].ID, "the group is to have more voters"}
	case len(voters) == want && len(waiting) > 0:
		next := append(slices.Clone(voters), waiting[0])
		next[len(next)-1].Voter = true
		if i := replaceable(voters, patience); i >= 0 && mayLose(next, voters[i]) {
			return Change{Promote, waiting[0].ID, "it takes the place of a voter that is away or leaves"}
		}
	}
	if len(voters) > want {
		loses, why := spare(voters), "the group is to have fewer voters"
		if i := replaceable(voters, patience); i >= 0 {
			loses, why = voters[i], "it is away or leaves"
		}
		if mayLose(voters, loses) {
			return takeVote(loses, why)
		}
	}
	for _, m := range members {
		if m.Gone && !m.Voter {
			return Change{Remove, m.ID, "its node is gone"}
		}
	}
	return Change{}
}

// odd is the largest odd number that is not above n, at least 1.
func odd(n int) int { return max(1, n-(n+1)%2) }

// replaceable is the voter that should not be one, or -1: of several, one that is
// away, and the leader last.
func replaceable(voters []Member, patience time.Duration) int {
	best := -1
	for i, v := range voters {
		if !v.Leaving && !v.Gone && v.Away <= patience {
			continue
		}
		if best < 0 || missed(v, voters[best]) < 0 {
			best = i
		}
	}
	return best
}

// mayLose reports whether a voter can lose its vote, and the group works on.
func mayLose(voters []Member, m Member) bool { return m.Away > 0 || works(voters, m.ID) }

// works reports whether a majority of the voters is up when one has lost its vote.
func works(voters []Member, without string) bool {
	n, up := 0, 0
	for _, v := range voters {
		if v.ID == without {
			continue
		}
		n++
		if v.Away == 0 {
			up++
		}
	}
	return up > n/2
}

// spare is the voter that is missed least: one that is away, else a follower.
func spare(voters []Member) Member {
	return slices.MinFunc(voters, missed)
}

// missed orders voters by how much they would be missed.
func missed(a, b Member) int {
	return cmp.Or(cmp.Compare(b.Away, a.Away), cmp.Compare(bool2int(a.Leader), bool2int(b.Leader)), cmp.Compare(b.ID, a.ID))
}

func bool2int(b bool) int {
	if b {
		return 1
	}
	return 0
}

// takeVote takes a vote; from the leader only after it has handed over.
func takeVote(m Member, why string) Change {
	if m.Leader {
		return Change{Transfer, m.ID, "the leader is to leave"}
	}
	return Change{Demote, m.ID, why}
}
