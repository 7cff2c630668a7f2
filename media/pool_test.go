package media_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"hayloft/media"
	"hayloft/media/mediatest"
)

// TestMain makes the test binary its own decoding child, in good and bad modes.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if mode, ok := childModes[os.Args[1]]; ok {
			if err := mode(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// childModes are what the test binary can be besides a test.
var childModes = map[string]func() error{
	"media-worker": func() error { return media.RunWorker(os.Stdin, os.Stdout, media.Limits{}) },
	"hang":         bad(func() { select {} }),
	"spin": bad(func() {
		for n := 0; ; n++ {
			runtime.KeepAlive(n)
		}
	}),
	"die":  bad(func() { _ = unix.Kill(os.Getpid(), unix.SIGKILL) }),
	"term": bad(func() { _ = unix.Kill(os.Getpid(), unix.SIGTERM); select {} }),
	"abort": bad(func() { // by a signal, as a decoder in C does
		debug.SetTraceback("crash")
		panic("crash")
	}),
	"crash-once": bad(func() { // and is killed the next time; the file at Args[2] remembers
		f, err := os.OpenFile(os.Args[2], os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_ = f.Close()
			panic("crash")
		}
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	}),
	"spend": bad(func() { // uses up its CPU time before it is killed
		signal.Ignore(unix.SIGXCPU)
		for {
			var u unix.Rusage
			_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
			if time.Duration(u.Utime.Nano()+u.Stime.Nano()) > 1200*time.Millisecond {
				_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			}
		}
	}),
	"close": bad(func() { // its end of the pipe, and stays
		_ = os.Stdout.Close()
		select {}
	}),
	"die-once": bad(func() { // the file at Args[2] remembers that it has died
		f, err := os.OpenFile(os.Args[2], os.O_CREATE|os.O_EXCL, 0o600)
		if err == nil {
			_ = f.Close()
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
		}
	}),
	"bomb": bad(func() {
		var hoard [][]byte
		for {
			b := make([]byte, 16<<20)
			for i := range b {
				b[i] = 1
			}
			hoard = append(hoard, b)
			runtime.KeepAlive(hoard)
		}
	}),
	"orphan": bad(func() { // leaves a process behind that holds its pipes
		cmd := exec.Command("/bin/sleep", "1000")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err == nil {
			fmt.Fprintln(os.Stderr, "grandchild", cmd.Process.Pid)
		}
		os.Exit(7)
	}),
	"garbage": func() error { _, err := os.Stdout.WriteString("Hello, I am not a decoder at all."); return err },
	"future": func() error {
		_, err := os.Stdout.Write([]byte("HMD\x02\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"))
		return err
	},
	"mute":    func() error { _, err := io.Copy(io.Discard, os.Stdin); return err },
	"silent":  func() error { return nil },
	"liar":    func() error { return media.Serve(os.Stdin, os.Stdout, 0, engine{render: lie}) },
	"confess": func() error { return media.Serve(os.Stdin, os.Stdout, 0, engine{render: confess}) },
	"parent":  parent,
}

// engine is a media.Engine for one purpose.
type engine struct {
	render func(media.Job) (*media.Rendered, error)
}

func (engine) Name() string                                  { return "test" }
func (engine) Types() []string                               { return []string{media.TypeJPEG} }
func (e engine) Render(j media.Job) (*media.Rendered, error) { return e.render(j) }

// bad is a child that does something before it does its job.
func bad(before func()) func() error {
	return func() error {
		return media.Serve(os.Stdin, os.Stdout, 0, engine{func(j media.Job) (*media.Rendered, error) {
			before()
			return media.RenderGo(j)
		}})
	}
}

// lie answers with pictures of the wrong size.
func lie(j media.Job) (*media.Rendered, error) {
	r, err := media.RenderGo(j)
	if err == nil {
		r.Variants[0] = r.Variants[1]
	}
	return r, err
}

// confess refuses the photo and says under which conditions it lives.
func confess(media.Job) (*media.Rendered, error) {
	var b strings.Builder
	limit := func(name string, what int) {
		var l unix.Rlimit
		if err := unix.Getrlimit(what, &l); err != nil {
			fmt.Fprintf(&b, "%s %v\n", name, err)
			return
		}
		fmt.Fprintf(&b, "%s %d\n", name, l.Cur)
	}
	limit("files", unix.RLIMIT_NOFILE)
	limit("written", unix.RLIMIT_FSIZE)
	limit("core", unix.RLIMIT_CORE)
	limit("cpu", unix.RLIMIT_CPU)
	limit("memory", unix.RLIMIT_AS)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, err
	}
	for _, task := range tasks {
		tid, err := strconv.Atoi(task.Name())
		if err != nil {
			return nil, err
		}
		prio, err := unix.Getpriority(unix.PRIO_PROCESS, tid)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "nice %d\n", 20-prio) // the system call answers 20 − nice
	}
	fmt.Fprintf(&b, "environment %s\n", strings.Join(os.Environ(), " "))
	return nil, media.Rejected{Type: "confession", Title: b.String()}
}

// parent is a process with a pool whose child hangs; it prints the child's
// number and waits to be killed.
func parent() error {
	pids := make(chan int, 1)
	p, err := media.NewPool(media.PoolOptions{Command: []string{os.Args[0], "hang"}, Workers: 1,
		Events: func(e media.Event) { pids <- e.PID }})
	if err != nil {
		return err
	}
	go func() { _, _ = p.Make(context.Background(), photo()) }()
	fmt.Println(<-pids)
	select {}
}

func photo() []byte { return mediatest.JPEG(mediatest.Picture(400, 300), 80) }

// events collects what a pool says.
type events struct {
	mu  sync.Mutex
	all []media.Event
}

func (e *events) add(ev media.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) of(kind media.EventKind) []media.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.all), func(ev media.Event) bool { return ev.Kind != kind })
}

// newPool returns a pool of children in one of childModes, and its events.
func newPool(t *testing.T, o media.PoolOptions, mode ...string) (*media.Pool, *events) {
	t.Helper()
	var ev events
	o.Command = append([]string{os.Args[0]}, mode...)
	o.Events = ev.add
	p, err := media.NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		if n := p.Stats().Alive; n != 0 {
			t.Errorf("%d children after Close", n)
		}
		for _, e := range ev.of(media.EventStarted) {
			if err := unix.Kill(e.PID, 0); err != unix.ESRCH {
				t.Errorf("child %d after Close: %v", e.PID, err)
			}
		}
	})
	return p, &ev
}

func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

func TestConformance(t *testing.T) {
	mediatest.Conformance(t, []string{os.Args[0], "media-worker"})
}

// waitGone returns when a process has ended, or was not there.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH || err == unix.EINVAL {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
		if err == unix.EINTR {
			continue
		}
		if n != 1 || err != nil {
			t.Fatalf("process %d is still there: %v", pid, err)
		}
		return
	}
}

// A child that cannot be started says nothing about the photo.
func TestPoolWithoutHelp(t *testing.T) {
	for _, mode := range []string{"garbage", "future", "silent"} {
		p, ev := newPool(t, media.PoolOptions{}, mode)
		_, err := p.Make(t.Context(), photo())
		var verdict media.Rejected
		if !errors.Is(err, media.ErrNoHelp) || errors.As(err, &verdict) {
			t.Errorf("%s: %v", mode, err)
		}
		if len(ev.of(media.EventStartFailed)) != 1 || p.Stats().Failures != 1 {
			t.Errorf("%s: %+v", mode, p.Stats())
		}
	}
	p, err := media.NewPool(media.PoolOptions{Command: []string{"/nonexistent/hayloft-media"}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	before := openFiles(t)
	for range 5 {
		if _, err := p.Make(t.Context(), photo()); !errors.Is(err, media.ErrNoHelp) {
			t.Error(err)
		}
	}
	if n := openFiles(t); n != before {
		t.Errorf("%d files were open, now %d", before, n)
	}
}

// A child that never greets is given up when the caller is.
func TestPoolGivesUpOnAMuteChild(t *testing.T) {
	p, _ := newPool(t, media.PoolOptions{}, "mute")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := p.Make(ctx, photo()); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestPoolConfinesItsChildren(t *testing.T) {
	t.Setenv("HAYLOFT_SECRET", "not for children")
	p, _ := newPool(t, media.PoolOptions{MemoryBytes: 1 << 30, JobCPU: 5 * time.Second}, "confess")
	_, err := p.Make(t.Context(), photo())
	var verdict media.Rejected
	if !errors.As(err, &verdict) || verdict.Type != "confession" {
		t.Fatal(err)
	}
	t.Log(verdict.Title)
	for line := range strings.Lines(verdict.Title) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.ParseInt(value, 10, 64)
		ok := true
		switch name {
		case "files":
			ok = n == 32
		case "written", "core":
			ok = n == 0
		case "cpu":
			ok = n >= 5 && n <= 8
		case "memory":
			ok = n >= 1<<30 && n < 1<<40
		case "nice":
			ok = n >= 10
		case "environment":
			ok = !strings.Contains(value, "SECRET") && !strings.Contains(value, "HOME=")
		}
		if !ok {
			t.Errorf("the child lives under %s", line)
		}
	}
}

// The low priority is the children's, not the server's.
func TestPoolKeepsItsOwnPriority(t *testing.T) {
	niced := func() (n int) {
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		own, err := unix.Getpriority(unix.PRIO_PROCESS, os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			tid, err := strconv.Atoi(task.Name())
			if err != nil {
				t.Fatal(err)
			}
			if prio, err := unix.Getpriority(unix.PRIO_PROCESS, tid); err == nil && prio < own {
				n++
			}
		}
		return n
	}
	before, err := unix.Getpriority(unix.PRIO_PROCESS, os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // one of them would be given the first thread
		p, _ := newPool(t, media.PoolOptions{}, "media-worker")
		if _, _, err := p.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := niced(); n != 1 {
			t.Errorf("%d threads of this process have a low priority, want the one that starts children", n)
		}
		p.Close()
		eventually(t, "the thread ends with the pool", func() bool { return niced() == 0 })
	}
	after, err := unix.Getpriority(unix.PRIO_PROCESS, os.Getpid())
	if err != nil || after != before {
		t.Errorf("the process had priority %d, now %d: %v", before, after, err)
	}
}

func TestPoolServesManyAtOnce(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	before := openFiles(t)
	p, err := media.NewPool(media.PoolOptions{Command: []string{os.Args[0], "media-worker"}, Workers: 2, Queue: 100, JobsPerChild: 20})
	if err != nil {
		t.Fatal(err)
	}
	file := photo()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := p.Make(context.Background(), file); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if s := p.Stats(); s.Made != 100 || s.Struck != 0 || s.Started < 5 || s.Started > 8 || s.Busy != 0 || s.Waiting != 0 {
		t.Errorf("%+v", s)
	}
	p.Close()
	if n := openFiles(t); n != before {
		t.Errorf("%d files were open, now %d", before, n)
	}
	if _, err := p.Make(context.Background(), file); !errors.Is(err, media.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// eventually waits for what other goroutines bring about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for range 2_000_000 {
		if cond() {
			return
		}
		runtime.Gosched()
	}
	t.Fatalf("%s: not so", what)
}

func TestPoolBoundsItsQueue(t *testing.T) {
	p, _ := newPool(t, media.PoolOptions{Workers: 1, Queue: 2}, "hang")
	ctx, cancel := context.WithCancel(t.Context())
	results := make(chan error, 3)
	for range 3 {
		go func() {
			_, err := p.Make(ctx, photo())
			results <- err
		}()
	}
	eventually(t, "one at work, two waiting", func() bool { s := p.Stats(); return s.Busy == 1 && s.Waiting == 2 })
	if _, err := p.Make(ctx, photo()); !errors.Is(err, media.ErrBusy) {
		t.Errorf("a third waiting: %v", err)
	}
	cancel()
	for range 3 {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if s := p.Stats(); s.Struck != 0 || s.Refused != 0 {
		t.Errorf("a cancelled job counts against nobody: %+v", s)
	}
}

func TestPoolCloseEndsWhatIsAtWork(t *testing.T) {
	p, _ := newPool(t, media.PoolOptions{Workers: 2}, "hang")
	results := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := p.Make(context.Background(), photo())
			results <- err
		}()
	}
	eventually(t, "two at work", func() bool { return p.Stats().Started == 2 })
	p.Close()
	for range 2 {
		if err := <-results; !errors.Is(err, media.ErrClosed) {
			t.Error(err)
		}
	}
	p.Close() // once more does nothing
}

// However the server dies, no child outlives it.
func TestChildrenDieWithTheirParent(t *testing.T) {
	cmd := exec.Command(os.Args[0], "parent")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(pid, 0); err != nil {
		t.Fatalf("the child is not there: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitGone(t, pid)
}

func TestPoolOptionsNameEveryFault(t *testing.T) {
	err := media.PoolOptions{Workers: -1, JobTimeout: -1, JobCPU: time.Millisecond, Limits: media.Limits{MaxPixels: -1}}.Validate()
	for _, want := range []string{"Command", "Workers", "JobTimeout", "JobCPU", "MaxPixels"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %s: %v", want, err)
		}
	}
}
