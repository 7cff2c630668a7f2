package peer

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// sockets bounds how long the connection of a call may keep its goroutine.
type sockets struct {
	rc       *http.ResponseController
	patience time.Duration

	mu    sync.Mutex // guards ended, and the order of deadlines
	ended bool
}

// lastWord is how long an answer may take to say that it is late.
const lastWord = time.Second

// end lets go whatever waits for the connection, now and later: at once, or if
// somebody may still listen when there was time for a last word. Nothing can be done
// where deadlines are not supported.
func (s *sockets) end(listens bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	at := time.Unix(1, 0) // long ago
	if listens {
		at = machine.Now().Add(lastWord)
	}
	_ = s.rc.SetReadDeadline(at)
	_ = s.rc.SetWriteDeadline(at)
}

// reading gives the other side time to send a frame, or with false as long as it
// likes.
func (s *sockets) reading(begin bool) { s.extend(begin, s.patience, s.rc.SetReadDeadline) }

// takePatience is how many times as long it may take one: it may be busy with those
// before.
const takePatience = 4

// writing does so for it to take one.
func (s *sockets) writing(begin bool) {
	s.extend(begin, takePatience*s.patience, s.rc.SetWriteDeadline)
}

func (s *sockets) extend(begin bool, patience time.Duration, set func(time.Time) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return // the deadline is over, and says so
	}
	var at time.Time
	if begin {
		at = machine.Now().Add(patience)
	}
	_ = set(at)
}

// answer is what is sent back. Its methods may be called from several goroutines.
type answer struct {
	w       http.ResponseWriter
	sockets sockets
	timing  Timing

	mu      sync.Mutex // guards all below, and w once beat was called
	buf     []byte     // what was not written yet
	started bool       // something was written: the status is out
	sent    uint64     // frames
	err     error      // the first one; nothing is written after it
	done    chan struct{}
	beats   sync.WaitGroup
}

func newAnswer(w http.ResponseWriter, t Timing) *answer {
	return &answer{w: w, timing: t, sockets: sockets{rc: http.NewResponseController(w), patience: t.Patience}}
}

func (a *answer) began() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.started
}

// add appends frames to what is to be sent. What make appends to is the answer's.
func (a *answer) add(build func([]byte) []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.buf = build(a.buf)
	a.sent++
}

// data sends a data frame at once, with all that waits, without copying it.
func (a *answer) data(b []byte, crc uint32) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.buf = appendDataHead(a.buf, len(b), crc)
	a.sent++
	a.write()
	a.writeBytes(b)
	return a.err
}

// flush sends what waits.
func (a *answer) flush() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.write()
	return a.err
}

func (a *answer) write() {
	a.writeBytes(a.buf)
	a.buf = a.buf[:0]
}

func (a *answer) writeBytes(b []byte) {
	if a.err != nil || len(b) == 0 {
		return
	}
	if a.done != nil { // in a long call each piece has its own time
		a.sockets.writing(true)
		defer a.sockets.writing(false)
	}
	a.started = true
	_, a.err = a.w.Write(b)
}

// length announces how long the answer is.
func (a *answer) length(n int) { a.w.Header().Set("Content-Length", strconv.Itoa(n)) }

// beat begins to show that the call is at work, until quiet. cancel is called when
// that cannot be sent.
func (a *answer) beat(cancel func()) {
	a.done = make(chan struct{})
	a.beats.Go(func() {
		for last := uint64(0); ; {
			select {
			case <-a.done:
				return
			case <-a.timing.Clock.After(a.timing.Beat):
			}
			if !a.mu.TryLock() {
				continue // something is being sent
			}
			if a.sent == last {
				a.buf = appendEmpty(a.buf, kindBeat)
				a.sent++
			}
			last = a.sent
			a.write()
			if a.err == nil {
				a.sockets.writing(true)
				a.err = a.sockets.rc.Flush()
				a.sockets.writing(false)
			}
			failed := a.err != nil
			a.mu.Unlock()
			if failed {
				cancel()
				return
			}
		}
	})
}

// quiet ends what beat began.
func (a *answer) quiet() {
	if a.done != nil {
		close(a.done)
		a.beats.Wait()
		a.done = nil
	}
}

// end sends result and error, and ends the answer. Nobody else uses it any more.
func (a *answer) end(result []byte, err error) error {
	long := a.done != nil
	a.quiet()
	a.mu.Lock()
	defer a.mu.Unlock()
	if long {
		a.sockets.writing(true)
	}
	var at int
	a.buf, at = openFrame(a.buf)
	a.buf = append(appendError(a.buf, err, maxMessage), result...)
	closeFrame(a.buf, at, kindEnd)
	if !a.started && a.w.Header().Get("Content-Length") == "" {
		a.length(len(a.buf))
	}
	a.write()
	if a.err == nil {
		a.err = a.sockets.rc.Flush() // while there is a deadline
	}
	return a.err
}
