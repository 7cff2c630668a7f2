package torture

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	keepVolumes = 8
	hangAfter   = time.Minute // without the writer's end
	earlierKeys = 48
)

// Options say what Run does. Dir and Writer must be given, and Rounds or For.
type Options struct {
	Dir    string        // where the volumes lie; empty at the beginning
	Rounds int           // how many lives of the writer; 0: as many as there is time for
	For    time.Duration // after which no round begins; 0: no limit
	Seed   uint64        // of contents and moments
	// Writer is the command of the writer. Run adds
	// --dir DIR --seed N --round N.
	Writer []string
	// Faults says that Writer runs under something that makes its calls fail,
	// or kills it. A life ends by itself then, or is killed after a while.
	Faults bool
	// Disk, when not nil, holds Dir and is cut off instead of just killing
	// the writer.
	Disk *Disk
	// Progress is called after each round on Run's goroutine.
	Progress func(*Result)
}

// Validate reports everything that is wrong with the options at once.
func (o Options) Validate() error {
	var errs []error
	if o.Dir == "" || len(o.Writer) == 0 {
		errs = append(errs, errors.New("directory and writer must be given"))
	}
	if o.Rounds < 0 || o.For < 0 || o.Rounds == 0 && o.For == 0 {
		errs = append(errs, errors.New("rounds or a time must be given"))
	}
	if o.Faults && o.Disk != nil {
		errs = append(errs, errors.New("injected faults and power cuts cannot be told apart: one at a time"))
	}
	return errors.Join(errs...)
}

// Run tortures. The result is nil only when the options are wrong; an error
// says that the test could not go on, not that the engine failed it.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	how := "kill"
	if o.Disk != nil {
		how = "power"
	} else if o.Faults {
		how = "faults"
	}
	r := &Result{Seed: o.Seed, How: how}
	run := &run{o: o, result: r, ledger: newLedger(r), rng: rand.New(rand.NewPCG(o.Seed, 0))}
	began := time.Now()
	// The first fault ends the run: what is on the disk then is the evidence.
	for ctx.Err() == nil && r.OK() && (o.Rounds == 0 || r.Rounds < o.Rounds) && (o.For == 0 || time.Since(began) < o.For) {
		r.Rounds++
		last := r.Rounds == o.Rounds || o.For != 0 && time.Since(began) >= o.For
		if err := run.round(ctx, last); err != nil {
			return r, err
		}
		r.Seconds = time.Since(began).Seconds()
		if o.Progress != nil {
			o.Progress(r)
		}
	}
	if run.unverified && ctx.Err() == nil && r.OK() {
		if err := run.verify(ctx); err != nil {
			return r, err
		}
	}
	r.Seconds = time.Since(began).Seconds()
	return r, ctx.Err()
}

type run struct {
	o          Options
	result     *Result
	ledger     *ledger
	rng        *rand.Rand
	unverified bool
}

func (r *run) round(ctx context.Context, last bool) error {
	if err := r.life(ctx); err != nil {
		return err
	}
	r.unverified = true
	if r.o.Disk != nil {
		if err := r.o.Disk.Restart(); err != nil {
			return err
		}
	}
	// Now and then the next life has to do the recovery, and may be killed in
	// the middle of it.
	if !last && r.rng.IntN(3) == 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	return r.verify(ctx)
}

func (r *run) verify(ctx context.Context) error {
	if err := r.ledger.verify(ctx, r.o.Dir); err != nil {
		return err
	}
	r.unverified = false
	r.result.Verified++
	if !r.result.OK() {
		return nil
	}
	return r.ledger.retire(r.o.Dir, keepVolumes)
}

// life runs the writer once and notes everything it said.
func (r *run) life(ctx context.Context) error {
	args := append([]string{}, r.o.Writer[1:]...)
	args = append(args, "--dir", r.o.Dir, "--seed", strconv.FormatUint(r.o.Seed, 10), "--round", strconv.Itoa(r.result.Rounds))
	cmd := exec.Command(r.o.Writer[0], args...)
	// A group of its own: Ctrl-C reaches this process alone, and what the
	// writer was started by dies with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stdin = strings.NewReader(writeRefs(r.ledger.deletable(earlierKeys)))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("start the writer: %w", err)
	}
	e := &end{run: r, pid: cmd.Process.Pid}
	stop := context.AfterFunc(ctx, e.now)
	hang := time.AfterFunc(hangAfter, func() { e.hung.Store(true); e.now() })
	noteErr := r.listen(out, e)
	if noteErr != nil {
		e.now()
		_, err := io.Copy(io.Discard, out)
		noteErr = errors.Join(noteErr, err)
	}
	waitErr := cmd.Wait()
	stop()
	hang.Stop()
	e.moment.stop()
	switch {
	case noteErr != nil || e.err() != nil:
		return errors.Join(noteErr, e.err())
	case e.hung.Load():
		r.result.unexpected("the writer did not end within %v", hangAfter)
	case !e.dying.Load() && (!r.o.Faults || waitErr != nil && !killed(waitErr)):
		r.result.unexpected("the writer ended by itself: %v: %s", waitErr, bytes.TrimSpace(stderr.Bytes()))
	}
	return nil
}

// killed tells whether a process ended by kill -9, which is a fault that can be
// injected too: strace ends itself in the way of what it traced.
func killed(err error) bool {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	status, ok := exit.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

// listen notes what the writer says, and ends it at a random moment: within
// its first steps, or some time after a number of lines.
func (r *run) listen(out io.Reader, e *end) error {
	lines, delay := -1, time.Duration(r.rng.IntN(60))*time.Millisecond
	switch {
	case r.o.Faults:
		lines = 600 // it should have met its fault before
	case r.result.Rounds == 1 || r.rng.IntN(4) != 0:
		lines, delay = 1+r.rng.IntN(800), time.Duration(r.rng.IntN(20))*time.Millisecond
	}
	if lines < 0 {
		e.moment.start(delay, e.now)
	}
	in := bufio.NewReader(out)
	for n := 0; ; n++ {
		if n == lines {
			e.moment.start(delay, e.now)
		}
		text, err := in.ReadString('\n')
		if err == io.EOF {
			return nil // what is left, if anything, is no whole line
		}
		if err != nil {
			return fmt.Errorf("read what the writer says: %w", err)
		}
		l, err := parseLine(text)
		if err != nil {
			return err
		}
		if err := r.ledger.note(l, e.dying.Load(), r.o.Faults); err != nil {
			return err
		}
	}
}

// end is how a life ends.
type end struct {
	run    *run
	pid    int
	dying  atomic.Bool // set before anything is done to the writer
	hung   atomic.Bool
	cutErr atomic.Pointer[error]
	moment moment
}

// now ends the life. It may be called more than once, from any goroutine.
func (e *end) now() {
	if e.dying.Swap(true) {
		return
	}
	if d := e.run.o.Disk; d != nil {
		if err := d.Cut(); err != nil {
			e.cutErr.Store(&err)
		}
	}
	// The error says that the group is gone.
	_ = syscall.Kill(-e.pid, syscall.SIGKILL)
}

func (e *end) err() error {
	if p := e.cutErr.Load(); p != nil {
		return *p
	}
	return nil
}

// moment is a timer that may never be started.
type moment struct{ t *time.Timer }

func (m *moment) start(d time.Duration, fn func()) { m.t = time.AfterFunc(d, fn) }

func (m *moment) stop() {
	if m.t != nil {
		m.t.Stop()
	}
}

// Prepare makes a fresh directory in dir for one run.
func Prepare(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	return os.MkdirTemp(dir, "torture-")
}
