// Package electorate decides who votes in a Raft group: one, three or five of its
// members, whoever else has a copy. It runs beside every member of a group and
// acts on the one that leads.
//
// Rules. A group has as many voters as the largest odd number that is neither
// above Options.Most nor above the number of members that are up. A member that
// votes goes on voting while it is away, since its log may come back with what
// was acknowledged; only when it has been away for longer than Options.Patience
// and another member is up that does not vote yet, that one takes its place:
// first it is given its vote, then the other loses his. A member that is to leave
// loses its vote first, the leader last of all. One change at a time, each looked
// at again after the former is committed.
//
// Two voters are never what is aimed at: the loss of either would stop the group,
// so the second machine of a cluster only follows until there is a third. On the
// way from one to three there are two for a moment.
//
// Threads: Decide is a pure function. Run is one goroutine.
package electorate
