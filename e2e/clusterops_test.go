package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/bench/rig"
	"hayloft/client"
	"hayloft/internal/testenv"
)

// operated is a cluster of processes as its operator sees it, with the blob API and
// short delays.
type operated struct {
	*rig.Rig
	t     *testing.T
	key   string
	every []*client.Client // one of each node: it asks once
	began time.Time
	calm  []*client.Client // the same, with retries, for what is looked at in the end
}

// operate makes a cluster of some nodes and starts the first of them.
func operate(t *testing.T, nodes, first int, flags ...string) *operated {
	t.Helper()
	var key struct{ Key, Setting string }
	out, log, _ := run(t, "user", "blob-key", "ops", "--json")
	if err := json.Unmarshal([]byte(out), &key); err != nil {
		t.Fatal(err, log)
	}
	flags = append([]string{"--blob-keys", key.Setting, "--disk-reserve", "64MiB", "--volume-size", "64MiB", "--repair-delay", "2s",
		"--maintenance-rate", "1GiB", "--cache-memory", "8MiB", "--drain-timeout", "10s"}, flags...)
	r, err := rig.New(t.Context(), rig.Options{Binary: hayloft(t), Dir: t.TempDir(), Nodes: nodes, Flags: flags})
	if err != nil {
		t.Fatal(err)
	}
	o := &operated{Rig: r, t: t, key: key.Key, began: time.Now()}
	t.Cleanup(func() {
		r.Kill()
		if !t.Failed() {
			return
		}
		for _, n := range r.Nodes {
			log := n.Log()
			t.Logf("the log of %s ends:\n%s", n.Name, log[max(0, len(log)-6000):])
		}
	})
	for _, n := range r.Nodes {
		o.every = append(o.every, o.client(n, key.Key, -1))
		o.calm = append(o.calm, o.client(n, key.Key, 8))
	}
	if first > 0 {
		o.start(r.Nodes[:first]...)
		o.told("ready")
	}
	return o
}

// told notes how long it took to come here.
func (o *operated) told(what string) {
	o.t.Helper()
	o.t.Logf("%5.1f s: %s", time.Since(o.began).Seconds(), what)
}

// start starts nodes: the very first one first, then all others at once.
func (o *operated) start(nodes ...*rig.Node) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute)
	defer cancel()
	if nodes[0] == o.Nodes[0] {
		if err := nodes[0].Start(ctx); err != nil {
			o.t.Fatal(err)
		}
		nodes = nodes[1:]
	}
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = n.Start(ctx) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		o.t.Fatal(err)
	}
}

// client asks a node, with a bound and so many times more.
func (o *operated) client(n *rig.Node, token string, retries int) *client.Client {
	o.t.Helper()
	transport := &http.Transport{ResponseHeaderTimeout: 3 * time.Second, MaxIdleConnsPerHost: 8}
	c, err := client.New(n.URL, client.Options{Token: token, Retries: retries, HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(c.CloseIdle)
	return c
}

// ask runs an operator's command at a node, and wants it to succeed.
func (o *operated) ask(n *rig.Node, args ...string) string {
	o.t.Helper()
	out, log, code := run(o.t, append(args, "--admin", n.Admin, "--data", n.Data[0])...)
	if code != 0 {
		o.t.Fatalf("%v at %s: exit code %d\n%s\n%s", args, n.Name, code, out, log)
	}
	return out
}

// look is what cluster status says at a node.
func (o *operated) look(n *rig.Node) (s opsStatus, err error) {
	out, log, code := run(o.t, "cluster", "status", "--json", "--admin", n.Admin, "--data", n.Data[0])
	if code != 0 {
		return s, fmt.Errorf("cluster status at %s: %s", n.Name, log)
	}
	return s, json.Unmarshal([]byte(out), &s)
}

// opsStatus is what scripts are promised of cluster status.
type opsStatus struct {
	Leader          string
	UnderReplicated int `json:"under_replicated"`
	Survives        struct{ Disk, Host int }
	Volumes         map[string]int
	Replicas        struct {
		InSync int `json:"in_sync"`
		Listed int
		Target int
	}
	Nodes []struct {
		ID         int
		Name, Duty string
		Up         bool
		Disks      int
	}
	Disks []opsDisk
}

type opsDisk struct {
	Disk, Node, Volumes int
	State, Duty         string
}

// node is the row of a node.
func (s opsStatus) node(name string) (id int, duty string, up bool) {
	for _, n := range s.Nodes {
		if n.Name == name {
			return n.ID, n.Duty, n.Up
		}
	}
	return 0, "", false
}

// await waits until a node says of the cluster what is wanted.
func (o *operated) await(n *rig.Node, what string, ok func(opsStatus) bool) opsStatus {
	o.t.Helper()
	for deadline := time.Now().Add(testenv.Patience); ; <-time.After(100 * time.Millisecond) {
		s, err := o.look(n)
		if err == nil && ok(s) {
			return s
		}
		if time.Now().After(deadline) {
			out, log, _ := run(o.t, "cluster", "work", "--admin", n.Admin, "--data", n.Data[0])
			o.t.Fatalf("%s does not come: %+v, %v\n%s%s", what, s, err, out, log)
		}
	}
}

// whole waits until every one of some nodes is up and nothing lacks a replica.
func (o *operated) whole(n *rig.Node, nodes int) opsStatus {
	o.t.Helper()
	return o.await(n, "a cluster that is whole", func(s opsStatus) bool {
		up := 0
		for _, row := range s.Nodes {
			if row.Up {
				up++
			}
		}
		return s.Leader != "" && up == nodes && s.UnderReplicated == 0
	})
}

// kept is a blob that was acknowledged.
type kept struct {
	ref     client.Blob
	sum     [32]byte
	deleted bool
}

// opsLoad is a client that stores, reads and deletes, and asks the next node when one
// does not answer.
type opsLoad struct {
	o     *operated
	nodes []*client.Client
	stop  context.CancelFunc
	done  sync.WaitGroup
	calls atomic.Int64
	again atomic.Int64 // attempts that another one had to follow

	mu   sync.Mutex // guards all below
	have []kept
	errs []error
}

// load begins it over some nodes.
func (o *operated) load(workers int, nodes ...*client.Client) *opsLoad {
	ctx, cancel := context.WithCancel(o.t.Context())
	l := &opsLoad{o: o, nodes: nodes, stop: cancel}
	for w := range workers {
		l.done.Go(func() {
			pace := time.NewTicker(100 * time.Millisecond) // below the limits of a key
			defer pace.Stop()
			for i := 0; ctx.Err() == nil; i++ {
				l.step(w, i)
				<-pace.C
			}
		})
	}
	o.t.Cleanup(l.end)
	return l
}

// end stops the load and waits for what is under way.
func (l *opsLoad) end() {
	l.stop()
	l.done.Wait()
}

// try calls f with one node after the other until it succeeds, within the time that a
// patient client has.
func (l *opsLoad) try(what string, first int, f func(context.Context, *client.Client) error) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	l.calls.Add(1)
	var err error
	for i := 0; ctx.Err() == nil; i++ {
		one, done := context.WithTimeout(ctx, 5*time.Second)
		err = f(one, l.nodes[(first+i)%len(l.nodes)])
		done()
		if err == nil {
			return true
		}
		l.again.Add(1)
		if (i+1)%len(l.nodes) == 0 {
			<-time.After(20 * time.Millisecond) // all were asked
		}
	}
	l.fail(fmt.Errorf("%s: %w", what, err))
	return false
}

func (l *opsLoad) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

func (l *opsLoad) step(worker, i int) {
	data := make([]byte, 4<<10+rand.IntN(60<<10))
	for k := range data {
		data[k] = byte(rand.Uint32())
	}
	var b client.Blob
	stored := l.try("store", worker+i, func(ctx context.Context, c *client.Client) (err error) {
		b, err = c.PutBlob(ctx, client.ClassOriginals, client.File{At: bytes.NewReader(data), Size: int64(len(data)), ContentType: "application/octet-stream"})
		return err
	})
	if !stored {
		return
	}
	k := kept{ref: b, sum: sha256.Sum256(data)}
	if i%8 == 7 {
		if l.try("delete", worker+i+1, func(ctx context.Context, c *client.Client) error { return c.DeleteBlob(ctx, b) }) {
			k.deleted = true
		}
	}
	l.mu.Lock()
	l.have = append(l.have, k)
	old := l.have[rand.IntN(len(l.have))]
	l.mu.Unlock()
	l.try("read", worker+i+2, func(ctx context.Context, c *client.Client) error { return old.check(ctx, c) })
}

// check wants what was acknowledged of one node.
func (k kept) check(ctx context.Context, c *client.Client) error {
	got, err := c.GetBlob(ctx, k.ref, "")
	if k.deleted {
		switch {
		case client.IsStatus(err, http.StatusNotFound), client.IsStatus(err, http.StatusGone):
			return nil
		case err == nil:
			got.Body.Close()
			return fmt.Errorf("blob %s was deleted and is there", k.ref.Ref())
		}
		return err
	}
	if err != nil {
		return err
	}
	defer got.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, got.Body); err != nil {
		return err
	}
	if [32]byte(h.Sum(nil)) != k.sum {
		return fmt.Errorf("blob %s has other bytes", k.ref.Ref())
	}
	return nil
}

// check wants everything that was acknowledged of every one of some nodes, and that no
// call failed.
func (l *opsLoad) check(nodes ...*client.Client) {
	l.o.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, err := range l.errs {
		l.o.t.Errorf("a call failed: %v", err)
	}
	for i, c := range nodes {
		for _, k := range l.have {
			if err := k.check(l.o.t.Context(), c); err != nil {
				l.o.t.Errorf("client %d: %v", i, err)
				break
			}
		}
	}
	if len(l.have) < 20 {
		l.o.t.Errorf("only %d blobs were stored", len(l.have))
	}
	l.o.t.Logf("%d calls, %d attempts had to be repeated, %d blobs", l.calls.Load(), l.again.Load(), len(l.have))
}

// count waits until there are some blobs more.
func (l *opsLoad) more(n int) {
	l.o.t.Helper()
	begin := l.calls.Load()
	for deadline := time.Now().Add(testenv.Patience); l.calls.Load() < begin+int64(n); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.o.t.Fatalf("the load stands still after %d calls", l.calls.Load()-begin)
		}
	}
}

// members is what cluster voters says of a group.
func (o *operated) members(n *rig.Node, group string) (voters, learners []string, leader string) {
	o.t.Helper()
	var all []struct {
		Group   string
		Leader  string
		Members []struct {
			Node  string
			Voter bool
		}
	}
	if err := json.Unmarshal([]byte(o.ask(n, "cluster", "voters", "--group", group, "--json")), &all); err != nil || len(all) != 1 {
		o.t.Fatal(all, err)
	}
	for _, m := range all[0].Members {
		if m.Voter {
			voters = append(voters, m.Node)
		} else {
			learners = append(learners, m.Node)
		}
	}
	return voters, learners, all[0].Leader
}

// A node that is taken out of service: everything stays readable and writable while
// it empties itself; then it is gone, has no vote, and can be switched off.
func TestDecommissionUnderLoad(t *testing.T) {
	t.Parallel()
	o := operate(t, 4, 4)
	n1, n4 := o.Nodes[0], o.Nodes[3]
	o.whole(n1, 4)
	l := o.load(2, o.every...)
	l.more(150)
	o.told("there is something")
	before, err := o.look(n1)
	if err != nil {
		t.Fatal(err)
	}
	if out := o.ask(n1, "cluster", "decommission", "n4"); !strings.Contains(out, "replicas") {
		t.Errorf("the plan: %s", out)
	}
	if after, err := o.look(n1); err != nil || duty(after, "n4") != "active" {
		t.Errorf("a dry run changed something: %+v, %v", after, err)
	}
	id, _, _ := before.node("n4")
	o.ask(n1, "cluster", "decommission", "n4", "--apply", "--wait")
	o.told("n4 is empty")
	s := o.await(n1, "the end of n4", func(s opsStatus) bool { return duty(s, "n4") == "gone" })
	for _, d := range s.Disks {
		if d.Node == id && d.Volumes > 0 {
			t.Errorf("disk %d of n4 has %d volumes", d.Disk, d.Volumes)
		}
	}
	for deadline := time.Now().Add(testenv.Patience); ; <-time.After(100 * time.Millisecond) {
		v, learners, _ := o.members(n1, "directory")
		fv, fl, _ := o.members(n1, "feed")
		if all := strings.Join(append(append(append(v, learners...), fv...), fl...), " "); !strings.Contains(all, "n4") {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("n4 is a member still: %s", all)
		}
	}
	o.told("n4 has no vote")
	if err := n4.Stop(); err != nil {
		t.Error(err)
	}
	l.more(50)
	l.end()
	o.told("n4 is off")
	l.check(o.calm[:3]...)
	o.told("all was read")
	o.await(n1, "full redundancy", func(s opsStatus) bool { return s.UnderReplicated == 0 && s.Survives.Host == 1 })
}

func duty(s opsStatus, node string) string { _, d, _ := s.node(node); return d }
