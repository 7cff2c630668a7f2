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
