package rig

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// serving begins the line on standard output that says that a node is ready.
const serving = "hayloft: serving on "

// stopTime is how long a clean stop may take before the process is killed.
const stopTime = 30 * time.Second

// dumpTime is how long one that did not stop may take to print its goroutines.
const dumpTime = 5 * time.Second

// Node is one node of a Rig.
type Node struct {
	Name  string
	URL   string   // of the API
	Admin string   // of the admin listener
	Dir   string   // of everything of this node
	Data  []string // its data directories

	rig                 *Rig
	index               int
	listen, admin, node string // host:port

	mu      sync.Mutex // guards all below
	cmd     *exec.Cmd
	exited  chan struct{} // closed when the process has ended
	waitErr error         // valid after exited
	extra   []string
}

// Index is the node's place in Rig.Nodes.
func (n *Node) Index() int { return n.index }

// Certs is the directory of the node's certificate.
func (n *Node) Certs() string { return filepath.Join(n.Dir, "certs") }

// Addr is the node listener's address.
func (n *Node) Addr() string { return n.node }

func (n *Node) logFile() string { return filepath.Join(n.Dir, "log") }

// Log is what the node wrote to standard error, in all its runs.
func (n *Node) Log() string {
	text, err := os.ReadFile(n.logFile())
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// With sets flags of this node's next starts, behind all others.
func (n *Node) With(flags ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.extra = flags
}

// args is the command line of a start.
func (n *Node) args() []string {
	a := []string{"server", "--data", strings.Join(n.Data, ","), "--listen", n.listen, "--admin-listen", n.admin,
		"--node-listen", n.node, "--certs", n.Certs()}
	if n.index > 0 || n.rig.begun() {
		var others []string
		for _, o := range n.rig.Nodes {
			if o != n {
				others = append(others, o.node)
			}
		}
		if len(others) > 0 {
			a = append(a, "--join", strings.Join(others, ","))
		}
	}
	return slices.Concat(a, n.rig.o.Flags, n.extra)
}

// Start runs the node and returns when it is ready.
func (n *Node) Start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running() {
		return fmt.Errorf("rig: %s runs already", n.Name)
	}
	line := append([]string{n.rig.o.Binary}, n.args()...)
	if n.rig.o.Wrap != nil {
		line = append(n.rig.o.Wrap(n.index), line...)
	}
	log, err := os.OpenFile(n.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close() // the process has its own
	cmd := exec.Command(line[0], line[1:]...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true} // Ctrl-C reaches us first
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return err
	}
	n.cmd, n.exited, n.waitErr = cmd, make(chan struct{}), nil
	return n.await(ctx, out, n.exited)
}

// await reads standard output until the node is ready.
func (n *Node) await(ctx context.Context, out io.Reader, exited chan struct{}) error {
	ready := make(chan struct{})
	go func() {
		lines, once := bufio.NewScanner(out), sync.Once{}
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), serving) {
				once.Do(func() { close(ready) })
			}
		}
		n.waitErr = n.cmd.Wait()
		close(exited)
	}()
	select {
	case <-ready:
		return nil
	case <-exited:
		return fmt.Errorf("rig: %s ended before it was ready: %w\n%s", n.Name, errors.Join(n.waitErr), tail(n.Log()))
	case <-ctx.Done():
		n.signal(syscall.SIGKILL)
		<-exited
		return fmt.Errorf("rig: %s: %w\n%s", n.Name, ctx.Err(), tail(n.Log()))
	}
}

// tail is the end of a log.
func tail(s string) string { return s[max(0, len(s)-4000):] }

func (n *Node) running() bool {
	if n.cmd == nil {
		return false
	}
	select {
	case <-n.exited:
		return false
	default:
		return true
	}
}

// PID is the node's process, 0 when it does not run. With Wrap it is what stands
// in front.
func (n *Node) PID() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running() {
		return 0
	}
	return n.cmd.Process.Pid
}

// Running reports whether the process is there.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.running()
}

// signal sends one to the node's processes.
func (n *Node) signal(s syscall.Signal) {
	_ = syscall.Kill(-n.cmd.Process.Pid, s) // it may have ended
}

// Kill ends the node as kill -9 does, and waits until it is gone.
func (n *Node) Kill() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running() {
		n.signal(syscall.SIGKILL)
		<-n.exited
	}
}

// Stop asks the node to end, and says so when it does not do that cleanly.
func (n *Node) Stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.running() {
		return nil
	}
	_ = n.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-n.exited:
	case <-time.After(stopTime):
		n.signal(syscall.SIGQUIT) // it says what it waits for
		select {
		case <-n.exited:
		case <-time.After(dumpTime):
			n.signal(syscall.SIGKILL)
			<-n.exited
		}
		return fmt.Errorf("rig: %s did not stop\n%s", n.Name, n.Log())
	}
	if n.waitErr != nil {
		return fmt.Errorf("rig: %s stopped with %w\n%s", n.Name, n.waitErr, tail(n.Log()))
	}
	return nil
}

// Pause stops the processes from running, as SIGSTOP does; Resume lets them go on.
func (n *Node) Pause() { n.whileRunning(syscall.SIGSTOP) }

// Resume undoes Pause.
func (n *Node) Resume() { n.whileRunning(syscall.SIGCONT) }

func (n *Node) whileRunning(s syscall.Signal) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running() {
		n.signal(s)
	}
}

// Erase removes all data of a node that does not run. Its certificate and its log
// stay.
func (n *Node) Erase() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.running() {
		return fmt.Errorf("rig: %s runs", n.Name)
	}
	var errs []error
	for _, d := range n.Data {
		errs = append(errs, os.RemoveAll(d))
	}
	return errors.Join(errs...)
}
