package server

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patient is a health and what is seen of it, a second at a time.
type patient struct {
	t *testing.T
	h health
	s sight
}

// second lets a second go by; what was seen in it is forgotten after it, what
// waits goes on waiting.
func (p *patient) second() bool {
	p.s.elapsed = time.Second
	changed := p.h.look(p.s)
	for _, t := range []*traffic{&p.s.reads, &p.s.writes} {
		if t.answered = 0; t.oldest > 0 {
			t.oldest += time.Second
		}
	}
	if p.s.waiting > 0 {
		p.s.waiting += time.Second
	} else {
		p.s.probe.n++
	}
	p.s.failed, p.s.broken = nil, nil
	return changed
}

func (p *patient) seconds(n int) {
	for range n {
		p.second()
	}
}

func (p *patient) is(state DiskState, reason Reason) {
	p.t.Helper()
	if p.h.state != state || p.h.reason != reason || (p.h.err == nil) != (state == DiskOK) {
		p.t.Fatalf("after %v it is %v for %q (%v), want %v for %q", p.h.now, p.h.state, p.h.reason, p.h.err, state, reason)
	}
}

// until lets seconds go by until the disk is not as it was, and tells how many.
func (p *patient) until(state DiskState) (n int) {
	p.t.Helper()
	for p.h.state != state {
		if n++; n > 20_000 {
			p.t.Fatalf("it is never %v: %v for %v", state, p.h.state, p.h.err)
		}
		p.second()
	}
	return n
}

func at(i int64) place { return place{name: "v", from: i, to: i + 4096} }

// One bad block, met by every reader there is and however often, is no reason to
// take a disk out.
func TestHealthBadBlock(t *testing.T) {
	p := &patient{t: t}
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		from := 1<<20 - r.Int64N(200_000)
		p.s.failed = []place{{name: "v", from: from, to: 1<<20 + 1 + r.Int64N(200_000)}}
		p.second()
		p.is(DiskSuspect, ReasonErrors)
	}
	if n := p.until(DiskOK); n < 60 || n > 62 {
		t.Errorf("forgotten after %d s", n)
	}
}

// Several places that nobody can read, while less is read elsewhere, are a disk
// that fails; when much is read, they have to be many.
func TestHealthFailingReads(t *testing.T) {
	for _, c := range []struct {
		places, answered int
		out              bool
	}{
		{badPlaces - 1, 0, false}, {badPlaces, 0, true}, {badPlaces, badPlaces, true}, {badPlaces, badPlaces + 1, false},
		{manyPlaces - 1, 1000, false}, {manyPlaces, 1000, true},
	} {
		p := &patient{t: t}
		p.s.reads.answered = c.answered
		for i := range c.places {
			p.s.failed = append(p.s.failed, at(int64(i)*10_000))
		}
		p.second()
		if c.out {
			p.is(DiskOut, ReasonErrors)
		} else {
			p.is(DiskSuspect, ReasonErrors)
		}
	}
	p := &patient{t: t} // a minute apart
	for i := range 20 {
		p.s.failed = []place{at(int64(i) * 10_000)}
		p.seconds(25)
		p.is(DiskSuspect, ReasonErrors)
	}
}

// A device that does not bring the identity is out, and stays out as long as it
// does not, whatever the time.
func TestHealthFailingProbes(t *testing.T) {
	p := &patient{t: t}
	p.s.probe.fault = unix.EIO
	p.seconds(3)
	p.is(DiskSuspect, ReasonErrors)
	p.second()
	p.is(DiskOut, ReasonErrors)
	p.seconds(1000)
	p.is(DiskOut, ReasonErrors)
	p.s.probe.fault = nil
	if n := p.until(DiskSuspect); n < 9 || n > 12 {
		t.Errorf("back after %d s", n)
	}
	p.seconds(60)
	p.second()
	p.is(DiskOK, ReasonNone)
}

// A disk that goes out again and again stays out for longer and longer, and one
// that was sound for an hour begins anew.
func TestHealthFlapping(t *testing.T) {
	p := &patient{t: t}
	fail := func() int {
		for i := range badPlaces {
			p.s.failed = append(p.s.failed, at(int64(i)*10_000))
		}
		p.second()
		p.is(DiskOut, ReasonErrors)
		return p.until(DiskSuspect)
	}
	for _, want := range []int{60, 120, 240, 480, 960, 1920, 3600, 3600} {
		if n := fail(); n != want {
			t.Errorf("out for %d s, want %d", n, want)
		}
		p.seconds(90)
		p.is(DiskOK, ReasonNone)
	}
	p.seconds(3600)
	if n := fail(); n != 60 {
		t.Errorf("after an hour out for %d s", n)
	}
	p = &patient{t: t}
	for _, want := range []int{10, 20, 40, 80, 160, 320, 600, 600} {
		p.s.reads.oldest = 1
		if n := p.until(DiskOut); n != 11 {
			t.Fatalf("hangs after %d s", n)
		}
		p.is(DiskOut, ReasonHangs)
		p.seconds(10_000) // as long as it likes
		p.is(DiskOut, ReasonHangs)
		p.s.reads.oldest = 0
		if n := p.until(DiskSuspect); n != want {
			t.Errorf("back %d s after its answer, want %d", n, want)
		}
		p.is(DiskSuspect, ReasonHangs)
		p.seconds(61)
		p.is(DiskOK, ReasonNone)
	}
}

// A disk hangs when no call of a kind is answered, or no probe. A call that waits
// beside others that are answered does not make it hang.
func TestHealthHangs(t *testing.T) {
	for name, c := range map[string]struct {
		wait   func(*sight)
		answer func(*sight)
		hangs  bool
	}{
		"reads":                     {func(s *sight) { s.reads.oldest = 1 }, func(s *sight) { s.writes.answered = 1 }, true},
		"writes":                    {func(s *sight) { s.writes.oldest = 1 }, func(s *sight) { s.reads.answered = 1 }, true},
		"a probe":                   {func(s *sight) { s.waiting = 1 }, func(s *sight) { s.reads.answered, s.writes.answered = 1, 1 }, true},
		"one read beside others":    {func(s *sight) { s.reads.oldest = 1 }, func(s *sight) { s.reads.answered = 1 }, false},
		"one write beside others":   {func(s *sight) { s.writes.oldest = 1 }, func(s *sight) { s.writes.answered = 1 }, false},
		"nothing is asked for long": {func(*sight) {}, func(*sight) {}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := &patient{t: t}
			p.seconds(100)
			c.wait(&p.s)
			for i := range 60 {
				c.answer(&p.s)
				p.second()
				switch want := p.h.state; {
				case i < 2 && want != DiskOK, i > 3 && i < 9 && want == DiskOut, i > 12 && (want == DiskOut) != c.hangs:
					t.Fatalf("%v after %d s (%v)", want, i, p.h.err)
				}
			}
		})
	}
}

// While a disk that hung answers some calls and not others it stays out.
func TestHealthAnswersEverythingFirst(t *testing.T) {
	p := &patient{t: t}
	p.s.reads.oldest = 1
	p.until(DiskOut)
	for range 100 {
		p.s.reads.answered = 3
		p.second()
	}
	p.is(DiskOut, ReasonHangs)
	p.s.reads.oldest = 0
	p.until(DiskSuspect)
}

// A process that was stopped, or a clock that runs, is no hang.
func TestHealthStoppedProcess(t *testing.T) {
	if got := []time.Duration{lived(time.Hour, time.Second), lived(-time.Hour, time.Second), lived(time.Second, time.Second)}; got[0] != 2*time.Second || got[1] != 0 || got[2] != time.Second {
		t.Error(got)
	}
}

// Failing writes do not keep anybody from reading: the disk is written to no
// more, for longer and longer.
func TestHealthFailingWrites(t *testing.T) {
	p := &patient{t: t}
	fail := func(files ...string) {
		for _, f := range files {
			p.s.broken = append(p.s.broken, f)
			p.second()
			p.is(DiskSuspect, ReasonWrites)
		}
	}
	fail("a", "a", "b", "a", "b")
	if p.h.readOnly() != nil {
		t.Fatal("two volumes are two volumes")
	}
	for i, want := range []int{60, 120, 240} {
		for j := range failedWrites {
			fail(fmt.Sprint(i, j))
		}
		n := 1
		for ; p.h.readOnly() != nil; n++ {
			p.second()
		}
		if n < want-1 || n > want+2 {
			t.Errorf("written to again after %d s, want %d", n, want)
		}
	}
	p.until(DiskOK)
}

// The change of a state, and of whether the disk may be written to, is told once.
func TestHealthTellsChanges(t *testing.T) {
	p := &patient{t: t}
	told := 0
	step := func() {
		if p.second() {
			told++
		}
	}
	for i := range failedWrites { // suspect with the first, not written to with the third
		p.s.broken = []string{fmt.Sprint(i)}
		step()
	}
	if told != 2 {
		t.Errorf("told %d times", told)
	}
	for range 200 { // written to again and sound
		step()
	}
	if p.is(DiskOK, ReasonNone); told != 3 {
		t.Errorf("told %d times", told)
	}
}

// A directory from which disks vanish again and again is taken into use later
// and later, and nothing but comeBack does it.
func TestHealthVanished(t *testing.T) {
	p := &patient{t: t}
	var rests []time.Duration
	for range 10 {
		p.h.vanish(errors.New("gone"))
		p.is(DiskOut, ReasonVanished)
		rests = append(rests, p.h.until-p.h.now)
		p.seconds(1000)
		p.is(DiskOut, ReasonVanished)
		p.h.comeBack(true)
		p.is(DiskOK, ReasonNone)
		p.seconds(5)
	}
	if rests[0] != settled || rests[3] != 8*settled || rests[9] != calmLimit {
		t.Error(rests)
	}
}
