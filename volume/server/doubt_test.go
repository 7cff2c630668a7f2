package server

import (
	"errors"
	"testing"

	"hayloft/volume"
)

// While it is not known whether an epoch was committed, the source takes no deletes,
// also when its disk went and came back and it was opened anew.
func TestDoubtShutsNewHandles(t *testing.T) {
	s := &Server{volumes: make(map[where]*handle)}
	s.coder = &coder{s: s, doubts: make(map[volume.ID]error)}
	deleted := func(v volume.ID) (n int, err error) {
		h := s.serve(&disk{s: s, number: 1}, v, nil, nil)
		err = h.gate.pass(func() error { n++; return nil })
		return n, err
	}
	s.coder.doubt(7, unavailable("the answer was lost"))
	if n, err := deleted(7); n != 0 || !errors.Is(err, ErrUnavailable) {
		t.Errorf("%d deletes, %v", n, err)
	}
	if n, err := deleted(8); n != 1 || err != nil {
		t.Errorf("another volume: %d deletes, %v", n, err)
	}
	s.coder.doubt(7, nil)
	if n, err := deleted(7); n != 1 || err != nil {
		t.Errorf("when it is known: %d deletes, %v", n, err)
	}
}

// While it is not known whether a replica joined, nobody deletes: whatever else shuts the
// gate meanwhile and opens it again, and in a handle that was made anew, too.
func TestJoinInDoubtHoldsTheGate(t *testing.T) {
	s := &Server{volumes: make(map[where]*handle)}
	s.coder = &coder{s: s, doubts: make(map[volume.ID]error)}
	at, d := where{1, 7}, &disk{s: s, number: 1}
	h := s.serve(d, 7, nil, nil)
	pass := func(h *handle) error { return h.gate.pass(func() error { return nil }) }
	if err := h.gate.hold(t.Context(), func() error { s.doubtJoin(at, errJoining); return errJoining }); !errors.Is(err, errJoining) {
		t.Fatal(err)
	}
	h.gate.close(func() error { return nil }) // a coding that came to nothing
	if err := pass(h); !errors.Is(err, errJoining) {
		t.Errorf("after another one has opened the gate: %v", err)
	}
	again := s.serve(d, 7, nil, nil)
	if err := pass(again); !errors.Is(err, errJoining) {
		t.Errorf("a new handle: %v", err)
	}
	now := s.doubtJoin(at, nil)
	if now != again {
		t.Fatal("another handle")
	}
	now.gate.release()
	if err := errors.Join(pass(now), pass(s.serve(d, 7, nil, nil))); err != nil {
		t.Errorf("when it is known: %v", err)
	}
}
