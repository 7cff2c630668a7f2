package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/clock"
)

const (
	stderrKept   = 2 << 10          // bytes of a child's first words that are kept, and of its last
	startTimeout = 20 * time.Second // until the greeting
	endGrace     = 2 * time.Second  // from a broken pipe to the end of the process
	childNice    = 10
	childFiles   = 32
	// childOOMScore makes the kernel end a child before the server when the
	// machine runs out of memory.
	childOOMScore = "800"
)

// child is one decoding process. One goroutine at a time talks to it; kill may
// be called from any.
type child struct {
	cmd    *exec.Cmd
	in     *os.File // to its standard input
	out    *os.File // from its standard output
	stderr *tail
	hello  greeting
	jobs   int           // given so far
	cpu    time.Duration // CPU limit of the job under way, counted from the start of the process
	exited chan struct{} // closed when it has been reaped

	mu     sync.Mutex // guards all below
	killed bool       // kill was called
	gone   bool       // no longer to be signalled: its number may be another's
}

// newCommand prepares a process with pipes; the caller starts it.
func newCommand(argv, env []string) (c *child, theirs []*os.File, err error) {
	var files []*os.File
	pipe := func() (r, w *os.File) {
		if err == nil {
			if r, w, err = os.Pipe(); err == nil {
				files = append(files, r, w)
			}
		}
		return r, w
	}
	inR, inW := pipe()
	outR, outW := pipe()
	errR, errW := pipe()
	if err != nil {
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		return nil, nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = env
	if env == nil {
		cmd.Env = []string{} // nil would hand on everything
	}
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = inR, outW, errW
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	c = &child{cmd: cmd, in: inW, out: outR, stderr: newTail(errR), exited: make(chan struct{})}
	return c, []*os.File{inR, outW, errW}, nil
}

// start runs the command. It must be called on the pool's spawning thread. Both
// outcomes close the child's ends of the pipes.
func (c *child) start(theirs []*os.File) error {
	err := c.cmd.Start()
	for _, f := range theirs {
		_ = f.Close() // pipes: nothing can be lost by a failing close
	}
	if err != nil {
		return errors.Join(err, c.in.Close(), c.out.Close(), c.stderr.close())
	}
	go c.reap()
	go c.stderr.run()
	return nil
}

// reap waits for the child's end. It first waits without reaping: while the
// zombie is there its number is nobody else's, so whatever it left behind in
// its process group can be killed.
func (c *child) reap() {
	pid := c.cmd.Process.Pid
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	c.mu.Lock()
	c.gone = true
	_ = unix.Kill(-pid, unix.SIGKILL) // ESRCH when nobody is left
	c.mu.Unlock()
	_ = c.cmd.Wait() // its status is read from ProcessState
	close(c.exited)
}

// kill ends the child and what it started. It does not wait.
func (c *child) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.killed = true
	if !c.gone {
		_ = unix.Kill(-c.cmd.Process.Pid, unix.SIGKILL)
	}
}

// alive says whether the child can be given work: it has neither ended nor been
// killed.
func (c *child) alive() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.gone && !c.killed
}

// end kills the child, waits until it is reaped, frees the pipes, and returns
// how it ended.
func (c *child) end(ck clock.Clock) string {
	c.kill()
	<-c.exited
	_ = c.in.Close()
	_ = c.out.Close()
	c.stderr.wait(ck)
	return c.cmd.ProcessState.String()
}

// endsAlone waits a moment for a child whose pipe may have broken because it
// died, and reports whether it has ended without being killed by us.
func (c *child) endsAlone(ck clock.Clock) bool {
	c.mu.Lock()
	killed := c.killed
	c.mu.Unlock()
	if killed {
		return false
	}
	select {
	case <-c.exited:
		return true
	case <-ck.After(endGrace):
		return false
	}
}

// killedFromOutside says whether an ended child died of a signal that no
// decoder brings upon itself. A service manager ends a whole service with
// SIGTERM, children included.
func (c *child) killedFromOutside() bool {
	status, ok := c.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return false
	}
	switch status.Signal() {
	case syscall.SIGKILL, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP:
		return true
	}
	return false
}

// spent says whether an ended child had used up its CPU time, however it ended:
// the kernel kills at a hard limit, and a hostile child ignores the soft one.
func (c *child) spent() bool {
	s := c.cmd.ProcessState
	return c.cpu > 0 && s.UserTime()+s.SystemTime() >= c.cpu-time.Second
}

// greet reads the greeting.
func (c *child) greet() error {
	kind, body, err := readFrame(c.out, maxGreeting)
	if err != nil {
		return err
	}
	if kind != kindGreeting {
		return fmt.Errorf("%w: frame of kind %d where the greeting belongs", errWire, kind)
	}
	c.hello, err = decodeGreeting(body)
	return err
}

// confine puts the limits on a child that has greeted and has read nothing yet.
func (c *child) confine(memory int64) error {
	pid := c.cmd.Process.Pid
	mapped, err := addressSpace(pid)
	if err != nil {
		return err
	}
	for _, l := range []struct {
		name  string
		what  int
		value uint64
	}{
		{"address space", unix.RLIMIT_AS, mapped + uint64(memory)},
		{"file size", unix.RLIMIT_FSIZE, 0},
		{"core", unix.RLIMIT_CORE, 0},
		{"open files", unix.RLIMIT_NOFILE, childFiles},
	} {
		if err := unix.Prlimit(pid, l.what, &unix.Rlimit{Cur: l.value, Max: l.value}, nil); err != nil {
			return fmt.Errorf("limiting %s: %w", l.name, err)
		}
	}
	// Some containers forbid it; then the kernel picks its victim by size alone.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(childOOMScore), 0)
	return nil
}

// addressSpace is how many bytes a process has mapped.
func addressSpace(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	pages, _, _ := strings.Cut(string(b), " ")
	n, err := strconv.ParseUint(pages, 10, 64)
	return n * uint64(os.Getpagesize()), err
}

// allowCPU moves the CPU limit to d beyond what the child has used. Only the
// soft limit moves: an ordinary user may not raise a hard one again.
func (c *child) allowCPU(d time.Duration) error {
	pid := c.cmd.Process.Pid
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	// The name stands in parentheses and may hold anything; fields 14 and 15 of
	// proc(5) are user and system time in ticks of 1/100 s.
	rest := b[bytes.LastIndexByte(b, ')')+1:]
	f := strings.Fields(string(rest))
	if len(f) < 13 {
		return fmt.Errorf("/proc/%d/stat is cut short", pid)
	}
	user, err1 := strconv.ParseUint(f[11], 10, 64)
	system, err2 := strconv.ParseUint(f[12], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	var old unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_CPU, nil, &old); err != nil {
		return err
	}
	seconds := min((user+system)/100+1+uint64(d/time.Second), old.Max)
	c.cpu = time.Duration(seconds) * time.Second
	return unix.Prlimit(pid, unix.RLIMIT_CPU, &unix.Rlimit{Cur: seconds, Max: old.Max}, nil)
}

// exchange sends a job's frame and reads the answer.
func (c *child) exchange(frame []byte) (kind byte, body []byte, err error) {
	c.jobs++
	if err := writeFrame(c.in, kindJob, frame); err != nil {
		return 0, nil, err
	}
	return readFrame(c.out, maxAnswer)
}

// errTimeout says that a child took too long.
var errTimeout = errors.New("out of time")

// within runs f, and kills the child when f takes longer than d or ctx ends.
func (c *child) within(ctx context.Context, ck clock.Clock, d time.Duration, f func() error) error {
	done, guarded := make(chan struct{}), make(chan error, 1)
	go func() {
		select {
		case <-done:
			guarded <- nil
		case <-ctx.Done():
			c.kill()
			guarded <- ctx.Err()
		case <-ck.After(d):
			c.kill()
			guarded <- errTimeout
		}
	}()
	err := f()
	close(done)
	if why := <-guarded; why != nil && err != nil {
		return why
	}
	return err // nil even if the child was killed just after: the answer is whole
}

// tail keeps the first and the last bytes that come out of a pipe, and drains
// it for ever: a dying program says what it died of either before or after a
// long account of the circumstances.
type tail struct {
	r    *os.File
	done chan struct{}

	mu    sync.Mutex // guards all below
	first []byte
	last  []byte
	lost  int // bytes between them
}

func newTail(r *os.File) *tail { return &tail{r: r, done: make(chan struct{})} }

func (t *tail) run() {
	defer close(t.done)
	b := make([]byte, 1024)
	for {
		n, err := t.r.Read(b)
		t.add(b[:n])
		if err != nil {
			return
		}
	}
}

func (t *tail) add(b []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := min(len(b), stderrKept-len(t.first))
	t.first = append(t.first, b[:k]...)
	t.last = append(t.last, b[k:]...)
	if over := len(t.last) - stderrKept; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
		t.lost += over
	}
}

func (t *tail) close() error { return t.r.Close() }

// wait returns when the writers are gone, which they are once the child's
// process group has been killed and reaped; a process that has left the group
// is cut off.
func (t *tail) wait(ck clock.Clock) {
	select {
	case <-t.done:
	case <-ck.After(time.Second):
	}
	_ = t.r.Close() // ends a read under way
	<-t.done
}

// String returns what was kept as printable text.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := string(t.first)
	if t.lost > 0 {
		text += fmt.Sprintf("\n… %d bytes …\n", t.lost)
	}
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' || r == 0x7f {
			return '.'
		}
		return r
	}, strings.ToValidUTF8(text+string(t.last), ".")))
}

// dieOnCPULimit ends the process when it reaches its CPU limit. The Go runtime
// catches SIGXCPU and would do nothing about it.
func dieOnCPULimit() {
	limit := make(chan os.Signal, 1)
	signal.Notify(limit, unix.SIGXCPU)
	go func() {
		<-limit
		_, _ = io.WriteString(os.Stderr, "media: out of CPU time\n")
		os.Exit(3)
	}()
}
