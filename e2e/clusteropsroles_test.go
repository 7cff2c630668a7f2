package e2e

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"hayloft/bench/rig"
	"hayloft/client"
	"hayloft/testdata/photos"
)

// TestRolesApart runs the parts on nodes of their own: three decide and keep photos,
// one answers the API, one serves media, one makes variants. A photo goes all the way,
// and when it is deleted the cache node forgets it within two seconds.
func TestRolesApart(t *testing.T) {
	t.Parallel()
	o := operate(t, 6, 0)
	core, apiNode, cacheNode, worker := o.Nodes[:3], o.Nodes[3], o.Nodes[4], o.Nodes[5]
	for _, n := range core {
		n.With("--roles", "directory,volume,feed")
	}
	apiNode.With("--roles", "api", "--media-url", cacheNode.URL)
	cacheNode.With("--roles", "cache", "--media-url", cacheNode.URL)
	worker.With("--roles", "worker")
	o.start(o.Nodes...)
	s := o.whole(apiNode, 6)
	for _, d := range s.Disks {
		if id, _, _ := s.node(apiNode.Name); d.Node == id {
			t.Errorf("a node without the role volume has disk %d", d.Disk)
		}
	}
	for _, group := range []string{"directory", "feed"} {
		for _, v := range o.voting(apiNode, group, 3) {
			if v > "n3" {
				t.Errorf("%s votes in the group %s", v, group)
			}
		}
	}
	for _, n := range o.Nodes {
		if status, body := get(t, n.Admin+"/readyz"); status != http.StatusOK {
			t.Errorf("%s is not ready: %d %s", n.Name, status, body)
		}
	}
	o.told("whole")
	o.road(apiNode, cacheNode)
	o.told("the road")
	// Every node but the two in front is stopped cleanly and started again: nobody
	// needs to be told where the others are.
	if err := worker.Stop(); err != nil {
		t.Error(err)
	}
	for _, n := range core {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
		o.start2(n)
	}
	o.start2(worker)
	o.whole(apiNode, 6)
	o.ready([]string{apiNode.URL + "/readyz", cacheNode.URL + "/readyz"}, http.StatusOK, 15*time.Second)
	o.told("again")
	o.road(apiNode, cacheNode)
}

// road takes a photo from the API's node to the cache's, and deletes it.
func (o *operated) road(apiNode, cacheNode *rig.Node) {
	t, ctx := o.t, o.t.Context()
	t.Helper()
	handle := "a" + strings.ToLower(time.Now().Format("150405"))
	s := &server{url: apiNode.URL}
	author, reader := s.account(t, handle), s.account(t, handle+"r")
	if _, err := reader.Follow(ctx, "@"+handle); err != nil {
		t.Fatal(err)
	}
	data := distinct(photos.ByName("bridge.jpg").Data, uint64(time.Now().UnixNano()))
	id, err := put(ctx, author, data, true)
	if err != nil {
		t.Fatal(err)
	}
	p, err := author.WaitReady(ctx, id)
	if err != nil || p.Status != client.StatusReady {
		t.Fatalf("status %q, %v", p.Status, err)
	}
	feed, err := reader.Feed(ctx, client.PageOptions{})
	if err != nil || len(feed.Items) != 1 || feed.Items[0].ID != id {
		t.Fatalf("the follower's feed: %v, %v", feed.Items, err)
	}
	for name, u := range variantURLs(p) {
		if !strings.HasPrefix(u, cacheNode.URL+"/") {
			t.Errorf("%s is at %s, not at the cache node", name, u)
		}
	}
	checkVariants(t, p)
	checkMaster(t, author, reader, id, data)
	if status, _ := get(t, rebase(p.URLs.Small, apiNode.URL)); status == http.StatusOK {
		t.Error("the API's node serves media")
	}
	if err := author.Purge(ctx, id); err != nil {
		t.Fatal(err)
	}
	for name, u := range variantURLs(p) {
		waitStatus(t, u, http.StatusNotFound, name+" of a deleted photo")
	}
}

// TestStorageAlone runs nodes that only store: the blob API, without accounts, feed or
// workers.
func TestStorageAlone(t *testing.T) {
	t.Parallel()
	o := operate(t, 3, 3, "--roles", "directory,volume,cache")
	o.whole(o.Nodes[0], 3)
	l := o.load(2, o.every...)
	l.more(60)
	l.end()
	l.check(o.calm...)
	for _, n := range o.Nodes {
		for _, p := range []string{n.URL + "/readyz", n.Admin + "/readyz"} {
			if status, body := get(t, p); status != http.StatusOK {
				t.Errorf("%s: %d %s", p, status, body)
			}
		}
		if status, _ := get(t, n.URL+"/api/v1/feed"); status == http.StatusOK || status == http.StatusUnauthorized {
			t.Errorf("%s has a feed: %d", n.Name, status)
		}
	}
}

// TestLoneNodeBecomesACluster starts a node that has photos again, with a node listener,
// and two empty ones that join it: what it wrote when it was alone comes to have two
// copies, and a node that loses everything fills itself again.
func TestLoneNodeBecomesACluster(t *testing.T) {
	t.Parallel()
	dir, ctx := t.TempDir(), t.Context()
	one := filepath.Join(dir, "one")
	lone := start(t, one)
	author := lone.account(t, "author")
	data := photos.ByName("bridge.jpg").Data
	id, err := put(ctx, author, data, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := author.WaitReady(ctx, id); err != nil {
		t.Fatal(err)
	}
	lone.stop(t)
	name, err := os.ReadFile(filepath.Join(one, "node"))
	if err != nil {
		t.Fatal(err)
	}
	flags := []string{"--disk-reserve", "64MiB", "--repair-delay", "2s", "--maintenance-rate", "1GiB"}
	first := strings.TrimSpace(string(name))
	certified(t, dir, first, "n2", "n3")
	lone = start(t, one, append(flags, "--node-listen", "127.0.0.1:0", "--certs", filepath.Join(dir, first+"-certs"))...)
	seed := nodeAddr(t, lone)
	join := func(n string) *server {
		return start(t, filepath.Join(dir, n), append(flags, "--node-listen", "127.0.0.1:0", "--certs", filepath.Join(dir, n+"-certs"), "--join", seed)...)
	}
	n2, n3 := join("n2"), join("n3")
	n2.ask(t, 0, "cluster", "status")
	if out, log, code := run(t, "volume", "seal", "--all", "--apply", "--admin", lone.admin, "--data", one); code != 0 {
		t.Fatal(out, log)
	}
	redundant(t, n2, 3)
	for _, s := range []*server{lone, n2, n3} {
		if got, err := masterDigest(ctx, s.as(t, author), id); err != nil || got != sha(data) {
			t.Errorf("the master at %s: %v", s.url, err)
		}
	}
	// The first node dies with all it had: the others have everything.
	lone.kill()
	if err := os.RemoveAll(one); err != nil {
		t.Fatal(err)
	}
	waitDigest(t, n2.as(t, author), id, sha(data))
	flags = append(flags, "--join", nodeAddr(t, n2))
	lone = start(t, one, append(flags, "--node-listen", seed, "--certs", filepath.Join(dir, first+"-certs"))...)
	defer func() {
		if t.Failed() {
			t.Logf("the log of the node that was erased:\n%s", lone.log)
		}
	}()
	// The disk that was lost is not listed when no row names it any more.
	for deadline := time.Now().Add(40 * time.Second); ; <-time.After(100 * time.Millisecond) {
		if s := redundant(t, n2, 3); len(s.Disks) == 3 && !slices.ContainsFunc(s.Disks, func(d opsDisk) bool { return d.Disk == 1 }) {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("disks of before are listed: %+v", s.Disks)
		}
	}
	waitDigest(t, lone.as(t, author), id, sha(data))
}

// certified makes a CA and certificates for nodes.
func certified(t *testing.T, dir string, names ...string) {
	t.Helper()
	ca := filepath.Join(dir, "ca")
	if out, log, code := run(t, "cert", "ca", "--out", ca); code != 0 {
		t.Fatal(out, log)
	}
	for _, n := range names {
		if out, log, code := run(t, "cert", "node", "--ca", ca, "--name", n, "--host", "127.0.0.1", "--out", filepath.Join(dir, n+"-certs")); code != 0 {
			t.Fatal(out, log)
		}
	}
}

func nodeAddr(t *testing.T, s *server) string {
	t.Helper()
	return await(t, s.log, regexp.MustCompile(`msg="node listener" node=\S+ listen=(\S+)`))[1]
}

func sha(data []byte) [32]byte { return sha256.Sum256(data) }

// waitDigest waits until a photo's master can be read, and wants its bytes.
func waitDigest(t *testing.T, c *client.Client, id string, want [32]byte) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
		got, err := masterDigest(t.Context(), c, id)
		switch {
		case err == nil && got != want:
			t.Fatalf("photo %s has other bytes", id)
		case err == nil:
			return
		case time.Now().After(deadline):
			t.Fatal(err)
		}
	}
}

// redundant waits until so many nodes are up and every volume has the copies that it
// should have, two of each.
func redundant(t *testing.T, at *server, nodes int) (s opsStatus) {
	t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; <-time.After(100 * time.Millisecond) {
		out, log, code := run(t, "cluster", "status", "--json", "--admin", at.admin, "--data", at.dir)
		s = opsStatus{}
		if err := json.Unmarshal([]byte(out), &s); code == 0 && err == nil {
			up := 0
			for _, n := range s.Nodes {
				if n.Up {
					up++
				}
			}
			if up == nodes && s.UnderReplicated == 0 && s.Survives.Host == 1 && s.Replicas.Target == 2*volumesOf(s) && s.Replicas.InSync >= s.Replicas.Target {
				return s
			}
		}
		if time.Now().After(deadline) {
			text, _, _ := run(t, "cluster", "status", "--admin", at.admin, "--data", at.dir)
			work, _, _ := run(t, "cluster", "work", "--admin", at.admin, "--data", at.dir)
			t.Fatalf("no full redundancy: %s%s%s\n%s", text, work, log, at.log)
		}
	}
}

func volumesOf(s opsStatus) (n int) {
	for _, k := range s.Volumes {
		n += k
	}
	return n
}
