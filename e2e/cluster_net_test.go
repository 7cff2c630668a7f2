package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"hayloft/internal/mesh/meshtest"

	"golang.org/x/sys/unix"
)

// The network of a cluster under test: a namespace for each node, one for the
// clients, and one with the bridge between them. Nothing of it is seen by the rest of
// the machine, whose interfaces, routes and rules stay as they are. Processes of the
// nodes run inside their namespaces; the test reaches them by sockets that it opens in
// the clients' one.
type network struct {
	name  string // what the names of its namespaces begin with
	hosts []string
	files map[string]*os.File // namespaces, by the end of their names
	t     testing.TB
	ended []func() // what heal does besides
}

const (
	// netnsPrefix begins the name of every namespace of these tests; the process id
	// follows.
	netnsPrefix = "hayloft-e2e-"
	subnet      = "10.77.0."
	clientsNS   = "clients"
	switchNS    = "switch"
)

// networks counts those of this process.
var networks atomic.Int64

func nodeNS(i int) string { return fmt.Sprintf("n%d", i+1) }

// newNetwork lays the cables. Where that cannot be done the test is skipped, except in
// CI.
func newNetwork(t testing.TB, nodes int) *network {
	t.Helper()
	if err := canNetwork(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no network namespaces: %v", err)
		}
		t.Skipf("no network namespaces: %v", err)
	}
	sweepNetworks(t)
	n := &network{name: fmt.Sprintf("%s%d-%d-", netnsPrefix, os.Getpid(), networks.Add(1)), files: map[string]*os.File{}, t: t}
	t.Cleanup(n.close)
	n.add(switchNS)
	n.ip("-n", n.name+switchNS, "link", "add", "bridge", "up", "type", "bridge")
	for i := range nodes {
		n.hosts = append(n.hosts, fmt.Sprintf("%s%d", subnet, i+1))
		n.plug(nodeNS(i), n.hosts[i])
	}
	n.plug(clientsNS, subnet+"200")
	return n
}

func canNetwork() error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	for _, tool := range []string{"ip", "iptables"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err
		}
	}
	probe := fmt.Sprintf("%s%d-%d-probe", netnsPrefix, os.Getpid(), networks.Add(1))
	if out, err := exec.Command("ip", "netns", "add", probe).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	out, err := exec.Command("ip", "netns", "exec", probe, "iptables", "-w", "-A", "INPUT", "-m", "statistic", "--mode", "random", "--probability", "0.5", "-j", "DROP").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return errors.Join(err, exec.Command("ip", "netns", "del", probe).Run())
}

// sweepNetworks removes what test processes left that are not there any more.
func sweepNetworks(t testing.TB) {
	left, err := filepath.Glob("/run/netns/" + netnsPrefix + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), netnsPrefix), "-")
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, os.ErrNotExist) {
			_ = exec.Command("ip", "netns", "del", filepath.Base(path)).Run() // another process may sweep too
		}
	}
}

// ip runs ip.
func (n *network) ip(args ...string) {
	n.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		n.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// add makes a namespace.
func (n *network) add(ns string) {
	n.t.Helper()
	n.ip("netns", "add", n.name+ns)
	f, err := os.Open("/run/netns/" + n.name + ns)
	if err != nil {
		n.t.Fatal(err)
	}
	n.files[ns] = f
	n.ip("-n", n.name+ns, "link", "set", "lo", "up")
}

// plug makes a namespace that is connected to the switch under an address.
func (n *network) plug(ns, addr string) {
	n.t.Helper()
	n.add(ns)
	n.ip("-n", n.name+ns, "link", "add", "eth0", "type", "veth", "peer", "name", ns, "netns", n.name+switchNS)
	n.ip("-n", n.name+ns, "addr", "add", addr+"/24", "dev", "eth0")
	n.ip("-n", n.name+ns, "link", "set", "eth0", "up")
	n.ip("-n", n.name+switchNS, "link", "set", ns, "master", "bridge", "up")
}

func (n *network) close() {
	for ns, f := range n.files {
		_ = f.Close()
		if out, err := exec.Command("ip", "netns", "del", n.name+ns).CombinedOutput(); err != nil {
			n.t.Errorf("ip netns del %s: %v: %s", n.name+ns, err, out)
		}
	}
}

// wrap stands in front of what runs on node i.
func (n *network) wrap(i int) []string { return []string{"ip", "netns", "exec", n.name + nodeNS(i)} }

// within calls fn on a thread that is in the namespace: sockets which it makes belong
// there for good.
func (n *network) within(ns string, fn func() error) error {
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer home.Close()
	if err := unix.Setns(int(n.files[ns].Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return err
	}
	err = fn()
	if back := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); back != nil {
		return errors.Join(err, back) // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

// dialer dials addresses, not names, from the clients' namespace.
func (n *network) dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	err = n.within(clientsNS, func() (err error) {
		d := net.Dialer{Timeout: 2 * time.Second}
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// rule runs iptables on node i.
func (n *network) rule(i int, args ...string) {
	n.t.Helper()
	args = append([]string{"netns", "exec", n.name + nodeNS(i), "iptables", "-w"}, args...)
	n.ip(args...)
}

// oneWay has nothing of node i reach node j any more.
func (n *network) oneWay(i, j int) {
	n.t.Helper()
	n.rule(j, "-A", "INPUT", "-s", n.hosts[i], "-j", "DROP")
}

// cut has nodes i and j not reach one another.
func (n *network) cut(i, j int) {
	n.t.Helper()
	n.oneWay(i, j)
	n.oneWay(j, i)
}

// isolate cuts node i off from all others; clients reach it.
func (n *network) isolate(i int) {
	n.t.Helper()
	for j := range n.hosts {
		if j != i {
			n.cut(i, j)
		}
	}
}

// lose has a share of the packets between nodes lost.
func (n *network) lose(share float64) {
	n.t.Helper()
	for i := range n.hosts {
		for j := range n.hosts {
			if i != j {
				n.rule(i, "-A", "INPUT", "-s", n.hosts[j], "-m", "statistic", "--mode", "random", "--probability", fmt.Sprint(share), "-j", "DROP")
			}
		}
	}
}

// heal ends all that was done to the network.
func (n *network) heal() {
	n.t.Helper()
	for i := range n.hosts {
		n.rule(i, "-F")
		n.rule(i, "-t", "nat", "-F")
	}
	for _, end := range n.ended {
		end()
	}
	n.ended = nil
}

// proxyMark is on the packets of the proxies, which are not sent to them again.
const proxyMark = 7

// delay has everything between nodes take longer by proxies inside their namespaces:
// what a node dials ends at one of them. Connections that were there are reset. The
// proxies end with the test, the detour with heal.
func (n *network) delay(roundTrip time.Duration, port func(node int) int) {
	n.t.Helper()
	for i := range n.hosts {
		for j := range n.hosts {
			if i == j {
				continue
			}
			to := net.JoinHostPort(n.hosts[j], fmt.Sprint(port(j)))
			p, at := n.proxy(i, to)
			p.Delay(roundTrip)
			match := []string{"-A", "OUTPUT", "-p", "tcp", "-d", n.hosts[j], "--dport", fmt.Sprint(port(j)), "-m", "mark", "!", "--mark", fmt.Sprint(proxyMark), "-j"}
			n.rule(i, slices.Concat([]string{"-t", "nat"}, match, []string{"REDIRECT", "--to-ports", fmt.Sprint(at)})...)
			n.rule(i, slices.Concat(match, []string{"REJECT", "--reject-with", "tcp-reset"})...)
			n.ended = append(n.ended, p.Reset)
		}
	}
}

// proxy passes on to an address inside the namespace of node i, and listens on a port
// there.
func (n *network) proxy(i int, to string) (*meshtest.Proxy, int) {
	n.t.Helper()
	var l net.Listener
	if err := n.within(nodeNS(i), func() (err error) { l, err = net.Listen("tcp", "127.0.0.1:0"); return err }); err != nil {
		n.t.Fatal(err)
	}
	mark := func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, proxyMark) })
		return errors.Join(err, set)
	}
	p := meshtest.NewProxyOn(n.t, l, func(ctx context.Context) (c net.Conn, err error) {
		err = n.within(nodeNS(i), func() (err error) {
			d := net.Dialer{Control: mark, Timeout: 5 * time.Second}
			c, err = d.DialContext(ctx, "tcp", to)
			return err
		})
		return c, err
	})
	return p, l.Addr().(*net.TCPAddr).Port
}
