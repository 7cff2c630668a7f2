package raftgroup

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
)

// Peers carries requests to other members. The owner of the process implements
// it: a request that member X makes is handed to Group.Serve of the member it is
// for, with from = X, and X must have proven that name.
type Peers interface {
	// Call returns what Serve of that member returned. An error says nothing about
	// whether the request arrived.
	Call(ctx context.Context, member string, req []byte) ([]byte, error)
}

// kind says what a request asks (docs/group-format.md).
type kind uint8

const (
	kindLeader kind = iota + 1
	kindPropose
	kindIndex
	kindChange
	kindTransfer
	kindProgress
	kindVouch
	kindAdmit
	kindBlank
)

// status says what became of a request.
type status uint8

const (
	statusDone status = iota
	statusNotLeader
	statusUnknown
	statusRefused
	statusNotMember
)

const (
	callVersion = 1
	maxName     = 1 << 10
	maxRequest  = maxEntryBytes + MaxCommandBytes + 1<<10
)

// refusal is a leader's reason, as text.
type refusal string

func (r refusal) Error() string { return "raftgroup: " + string(r) }

// reply is an answer on its way.
type reply struct {
	status status
	body   []byte
}

func (r reply) encode() []byte { return append([]byte{callVersion, byte(r.status)}, r.body...) }

// err is nil for what was done.
func (r reply) err() error {
	switch r.status {
	case statusDone:
		return nil
	case statusNotLeader:
		return ErrNotLeader
	case statusRefused:
		return refusal(r.body)
	case statusNotMember:
		return ErrNotMember
	}
	return ErrOutcomeUnknown
}

func (r reply) number() (uint64, error) {
	if len(r.body) != 8 {
		return 0, fmt.Errorf("raftgroup: an answer of %d bytes", len(r.body))
	}
	return binary.LittleEndian.Uint64(r.body), nil
}

func numberReply(n uint64) reply { return reply{body: binary.LittleEndian.AppendUint64(nil, n)} }

// call asks a member. The error is the way's, not the member's.
func (g *Group) call(ctx context.Context, member string, k kind, body []byte) (reply, error) {
	if g.opts.Peers == nil {
		return reply{}, errors.New("raftgroup: members cannot be asked")
	}
	b, err := g.opts.Peers.Call(ctx, member, append([]byte{callVersion, byte(k)}, body...))
	if err != nil {
		return reply{}, err
	}
	if len(b) < 2 || b[0] != callVersion {
		return reply{}, fmt.Errorf("%w: answer of %s", ErrUnsupported, member)
	}
	return reply{status(b[1]), b[2:]}, nil
}

// handOver gives an entry to the leader of its term and returns what the leader
// says became of it.
func (g *Group) handOver(t *ticket) status {
	ctx, cancel := context.WithTimeout(g.ctx, callTime)
	defer cancel()
	go func() {
		select {
		case <-t.done: // it came as an entry before the answer did
			cancel()
		case <-ctx.Done():
		}
	}()
	body := binary.LittleEndian.AppendUint64(make([]byte, 0, envelopeHead+len(t.body)+16), t.term)
	body = append(body, t.id.origin[:]...)
	body = binary.AppendUvarint(body, t.id.number)
	body = append(body, t.body...)
	r, err := g.call(ctx, t.leader, kindPropose, body)
	if err != nil {
		return statusUnknown
	}
	if index, err := r.number(); err == nil && r.status == statusDone {
		g.log.hints.heard(t.route, index)
	}
	return r.status
}

// Serve answers a request of another member. from is that member's name, which it
// has proven; who is not listed in the group's configuration learns who leads, and
// whether this member has a log, and nothing else. An error means that this member cannot answer at all.
func (g *Group) Serve(ctx context.Context, from string, req []byte) ([]byte, error) {
	if err := g.stoppedErr(); err != nil {
		return nil, err
	}
	if len(req) < 2 || len(req) > maxRequest || req[0] != callVersion {
		return nil, fmt.Errorf("%w: request of %s", ErrUnsupported, from)
	}
	k, body := kind(req[1]), req[2:]
	if k != kindLeader && k != kindBlank && !g.listed(from) {
		return reply{status: statusNotMember}.encode(), nil
	}
	r, err := g.serve(ctx, from, k, body)
	if err != nil {
		return nil, err
	}
	return r.encode(), nil
}

func (g *Group) serve(ctx context.Context, from string, k kind, body []byte) (reply, error) {
	switch k {
	case kindLeader:
		if id, ok := g.Leader(); ok {
			return reply{body: []byte(id)}, nil
		}
		return g.notLeader(), nil
	case kindPropose:
		return g.servePropose(ctx, body)
	case kindIndex:
		index, err := g.leads.join(ctx, g)
		if err != nil {
			return g.replyFor(err), nil
		}
		r := numberReply(index.index)
		r.body = binary.LittleEndian.AppendUint64(r.body, index.term)
		return r, nil
	case kindChange:
		if len(body) < 2 || len(body) > maxName {
			return reply{}, fmt.Errorf("%w: change of members", ErrUnsupported)
		}
		return g.replyFor(g.changeHere(ctx, change(body[0]), string(body[1:]))), nil
	case kindTransfer:
		if len(body) > maxName {
			return reply{}, fmt.Errorf("%w: transfer", ErrUnsupported)
		}
		return g.replyFor(g.transferHere(ctx, string(body))), nil
	case kindProgress:
		return numberReply(g.applied.Load()), nil
	case kindVouch:
		return g.serveVouch(), nil
	case kindAdmit:
		return g.serveAdmit(ctx, from), nil
	case kindBlank:
		return g.serveBlank(), nil
	}
	return reply{}, fmt.Errorf("%w: request of kind %d", ErrUnsupported, k)
}

func (g *Group) notLeader() reply {
	id, _ := g.Leader()
	return reply{statusNotLeader, []byte(id)}
}

// replyFor says what an error means to who asked.
func (g *Group) replyFor(err error) reply {
	var r refusal
	switch {
	case err == nil:
		return reply{}
	case errors.As(err, &r):
		return reply{statusRefused, []byte(r)}
	case errors.Is(err, ErrNotLeader):
		return g.notLeader()
	}
	return reply{status: statusUnknown} // may be asked again
}

// servePropose logs an entry of another member.
func (g *Group) servePropose(ctx context.Context, body []byte) (reply, error) {
	bad := fmt.Errorf("%w: proposed entry", ErrUnsupported)
	if len(body) < envelopeHead-1 {
		return reply{}, bad
	}
	term := binary.LittleEndian.Uint64(body)
	var id ticketID
	copy(id.origin[:], body[8:])
	number, n := binary.Uvarint(body[24:])
	if n <= 0 || number == 0 || term == 0 {
		return reply{}, bad
	}
	id.number = number
	counted := body[24+n:]
	cmds, err := unpackCounted(counted)
	if err != nil || len(cmds) == 0 || len(cmds) > maxEntryCommands { // nobody can apply it
		return reply{}, bad
	}
	for _, c := range cmds {
		if len(c) > MaxCommandBytes {
			return reply{}, bad
		}
	}
	if g.ready.Load() != term {
		return g.notLeader(), nil
	}
	a, mine := g.desk.take(term, id)
	if a == nil {
		return reply{status: statusUnknown}, nil
	}
	if mine {
		if !g.pending.begin() {
			g.desk.finish(term, id, a, statusNotLeader, 0)
			return g.notLeader(), nil
		}
		entry := append([]byte(nil), counted...)
		go func() {
			defer g.pending.end()
			st, index := g.logEntry(term, id, entry)
			g.desk.finish(term, id, a, st, index)
		}()
	}
	select {
	case <-a.done:
		if a.status == statusNotLeader {
			return g.notLeader(), nil
		}
		if a.status == statusDone {
			return numberReply(a.index), nil
		}
		return reply{status: a.status}, nil
	case <-ctx.Done():
		return reply{status: statusUnknown}, nil
	case <-g.closed:
		return reply{status: statusUnknown}, nil
	}
}
