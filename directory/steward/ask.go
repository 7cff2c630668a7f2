package steward

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// The errors of Ask and Serve; test with errors.Is.
var (
	// ErrNoLeader: nobody leads the directory, or the one that does is not reached.
	ErrNoLeader = errors.New("steward: the directory has no leader that can be asked")
	ErrInvalid  = errors.New("steward: an invalid request")
)

const maxRequest = 64 << 10 // bytes

// Ask changes the intent, on whichever node the steward works.
func (s *Steward) Ask(ctx context.Context, c Change) (Intent, error) {
	if b := c.Balance; b != nil && (math.IsNaN(*b) || *b < 0 || *b >= 1) {
		return Intent{}, fmt.Errorf("%w: a balance of %v", ErrInvalid, *b)
	}
	if s.o.Leadership.Leading() {
		return s.changed(c)
	}
	leader, ok := s.o.Leadership.Leader()
	if !ok || s.o.Peers == nil {
		return Intent{}, ErrNoLeader
	}
	c.V = intentVersion
	b, err := json.Marshal(c)
	if err != nil {
		return Intent{}, err
	}
	b, err = s.o.Peers.Call(ctx, leader, b)
	if err != nil {
		return Intent{}, fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	return readIntent(string(b))
}

// Serve is what Peers.Call of another node reaches.
func (s *Steward) Serve(_ context.Context, _ string, request []byte) ([]byte, error) {
	var c Change
	if len(request) > maxRequest {
		return nil, fmt.Errorf("%w: %d bytes", ErrInvalid, len(request))
	}
	if err := json.Unmarshal(request, &c); err != nil || c.V != intentVersion {
		return nil, fmt.Errorf("%w: %.60q", ErrInvalid, request)
	}
	i, err := s.changed(c)
	return []byte(i.encode()), err
}

func (s *Steward) changed(c Change) (i Intent, err error) {
	err = s.change(func(was Intent) Intent {
		i = was.with(c)
		return i
	})
	if err == nil {
		s.Kick()
	}
	return i, err
}

// change changes what the fleet carries.
func (s *Steward) change(fn func(Intent) Intent) error {
	s.asking.Lock()
	defer s.asking.Unlock()
	was, err := readIntent(s.o.Fleet.Carried())
	if err != nil {
		return err
	}
	return s.o.Fleet.Carry(fn(was).encode())
}
