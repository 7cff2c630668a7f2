package e2e

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/bench/rig"
	"hayloft/client"
)

const (
	attemptTime = 3 * time.Second   // of one call at one node
	patience    = 60 * time.Second  // of one call with all its repetitions, while faults are going on
	calmTime    = 150 * time.Second // for a cluster to come to rest when they are over

	// How long a node that is cut off answers reads: short, for the tests to see both
	// sides of it.
	staleTime = 10 * time.Second
)

// TestMain lets four tests run beside one another where there are two processors: those
// that say t.Parallel wait for most of their time.
func TestMain(m *testing.M) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue && runtime.GOMAXPROCS(0) < 4 {
		if err := f.Value.Set("4"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

// fleet is a cluster under test.
type fleet struct {
	t     testing.TB
	net   *network
	rig   *rig.Rig
	key   string // of the blob API
	http  *http.Transport
	turn  atomic.Uint64
	env   [][]string // of the next starts of each node
	disks []*ownDisk // of newFleetOnDisks
}

// newFleet starts a cluster of three nodes in a network of their own and waits until
// it is whole. It ends with the test.
func newFleet(t testing.TB, flags ...string) *fleet {
	t.Helper()
	f := prepareFleet(t, flags...)
	f.start()
	return f
}

// prepareFleet is newFleet before anything runs.
func prepareFleet(t testing.TB, flags ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, net: newNetwork(t, 3), env: make([][]string, 3)}
	f.http = &http.Transport{DialContext: f.net.dial, MaxIdleConnsPerHost: 64, ResponseHeaderTimeout: attemptTime}
	t.Cleanup(f.http.CloseIdleConnections)
	out, err := exec.Command(hayloft(t), "user", "blob-key", "e2e").CombinedOutput()
	m := regexp.MustCompile(`key\s+(\S+)\nsetting\s+--blob-keys (\S+)`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("blob-key: %v\n%s", err, out)
	}
	f.key = string(m[1])
	flags = slices.Concat([]string{"--replicas", "2", "--blob-keys", string(m[2]), "--disk-reserve", "16MiB", "--cache-memory", "16MiB",
		"--repair-delay", "5s", "--max-stale", staleTime.String(), "--admin-open"}, flags)
	f.rig, err = rig.New(context.Background(), rig.Options{
		Binary: hayloft(t), Dir: t.TempDir(), Hosts: f.net.hosts, Port: 7000, Flags: flags, Admin: &http.Client{Transport: f.http},
		Wrap: func(i int) []string { return slices.Concat(f.net.wrap(i), []string{"env"}, f.env[i]) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.rig.Kill()
		if t.Failed() || os.Getenv("HAYLOFT_E2E_LOGS") != "" {
			f.keepLogs()
		}
	})
	return f
}

// start starts the nodes that do not run and waits until the cluster is whole.
func (f *fleet) start() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := f.rig.Start(ctx); err != nil {
		f.t.Fatal(err)
	}
	f.calm()
}

// startNode starts one node.
func (f *fleet) startNode(i int) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := f.rig.Nodes[i].Start(ctx); err != nil {
		f.t.Fatal(err)
	}
}

// keepLogs has what the nodes logged outlive the test when HAYLOFT_E2E_LOGS names a
// directory; else the ends of it are shown.
func (f *fleet) keepLogs() {
	dir := os.Getenv("HAYLOFT_E2E_LOGS")
	for _, n := range f.rig.Nodes {
		text := n.Log()
		if dir != "" {
			name := fmt.Sprintf("%s/%s-%d-%s.log", dir, f.t.Name(), os.Getpid(), n.Name)
			if err := os.WriteFile(name, []byte(text), 0o644); err == nil {
				f.t.Logf("the log of %s is %s", n.Name, name)
				continue
			}
		}
		f.t.Logf("%s:\n%s", n.Name, text[max(0, len(text)-3000):])
	}
}

// why is what the nodes say of a photo or a blob that cannot be had.
func (f *fleet) why(id string) string {
	var all strings.Builder
	for _, n := range f.rig.Nodes {
		if n.Running() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			out, err := exec.CommandContext(ctx, "ip", slices.Concat(f.net.wrap(n.Index())[1:], []string{hayloft(f.t), "volume", "why", id, "--admin", n.Admin})...).CombinedOutput()
			cancel()
			fmt.Fprintf(&all, "\n%s (%v):\n%s", n.Name, err, out)
		}
	}
	return all.String()
}

// calm waits until every node is ready and knows the same leader, and no volume has
// fewer replicas than it should.
func (f *fleet) calm() {
	f.t.Helper()
	var why, last string
	began := time.Now()
	if !eventually(calmTime, func() bool { last, why = why, f.unrest(); return why == "" }) {
		f.t.Fatalf("the cluster does not come to rest: %s", why)
	}
	if took := time.Since(began); took > 5*time.Second {
		f.t.Logf("the cluster was at rest after %.1f s, and before that: %s", took.Seconds(), last)
	}
}

// unrest says what keeps the cluster from being whole; "" when it is.
func (f *fleet) unrest() string {
	leader := ""
	for _, n := range f.rig.Nodes {
		s, err := n.Status(context.Background())
		switch {
		case err != nil:
			return fmt.Sprintf("%s: %v", n.Name, err)
		case s.Leader == "" || leader != "" && s.Leader != leader:
			return fmt.Sprintf("%s says that %q leads the directory, another node that %q does", n.Name, s.Leader, leader)
		case s.UnderReplicated > 0 || s.Survives.Metadata < 1 || len(s.Nodes) != len(f.rig.Nodes):
			return fmt.Sprintf("%s: %+v", n.Name, s)
		}
		leader = s.Leader
		if err := n.Ready(context.Background()); err != nil {
			return fmt.Sprintf("%s is not ready: %v", n.Name, err)
		}
	}
	return ""
}

// eventually asks until cond holds or the time is over.
func eventually(within time.Duration, cond func() bool) bool {
	for deadline := time.Now().Add(within); ; <-time.After(50 * time.Millisecond) {
		if cond() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// leader is the node that leads the directory, by the word of one that is not among
// those left out, which do not count either.
func (f *fleet) leader(but ...int) (leader int, ok bool) {
	for i, n := range f.rig.Nodes {
		if slices.Contains(but, i) || !n.Running() {
			continue
		}
		s, err := n.Status(context.Background())
		if err != nil {
			continue
		}
		for j, x := range f.rig.Nodes {
			if x.Name == s.Leader && !slices.Contains(but, j) {
				return j, true
			}
		}
	}
	return 0, false
}

// mustLead waits for a leader that is none of those left out, and returns it.
func (f *fleet) mustLead(but ...int) (leader int) {
	f.t.Helper()
	var ok bool
	began := time.Now()
	if !eventually(20*time.Second, func() bool { leader, ok = f.leader(but...); return ok }) {
		f.t.Fatalf("no leader after 20 s, nodes %v left out", but)
	}
	if took := time.Since(began); len(but) > 0 {
		f.t.Logf("another leader after %.1f s", took.Seconds())
	}
	return leader
}

// client is one that asks one node and repeats nothing.
func (f *fleet) client(node int, token string, through http.RoundTripper) *client.Client {
	c, err := client.New(f.rig.Nodes[node].URL, client.Options{Token: token, Retries: -1, HTTPClient: &http.Client{Transport: through}})
	if err != nil {
		f.t.Fatal(err) // the test's own mistake
	}
	return c
}

// anywhere calls one node after the other until one of them says yes or no, or ctx
// ends: what a client behind no balancer does.
func (f *fleet) anywhere(ctx context.Context, call func(ctx context.Context, node int) error) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var all []error
	for tries := 0; ; tries++ {
		node := int(f.turn.Add(1)) % len(f.rig.Nodes)
		one, cancel := context.WithTimeout(ctx, attemptTime)
		err = call(one, node)
		cancel()
		if err == nil || definite(err) {
			return err
		}
		if all = append(all, fmt.Errorf("%s: %w", f.rig.Nodes[node].Name, err)); len(all) > 6 {
			all = all[1:]
		}
		select {
		case <-time.After(time.Duration(min(tries, 10)) * 20 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(all...)
		}
	}
}

// definite reports whether err is a refusal that another node would repeat.
func definite(err error) bool {
	var p *client.Problem
	return errors.As(err, &p) && p.Status >= 400 && p.Status < 500 && p.Status != http.StatusTooManyRequests && !client.IsType(err, "idempotency-in-flight")
}

// randomBytes are n bytes.
func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return b
}
