package main

import (
	"bytes"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hayloft/internal/units"
	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/tools"
)

// codingNode is a node of six disks that codes when it is asked to, with blobs in it.
func codingNode(t *testing.T, policy coding.Policy, blobs int) *node {
	t.Helper()
	root := t.TempDir()
	var dirs []string
	for _, d := range []string{"a", "b", "c", "d", "e", "f"} {
		dirs = append(dirs, filepath.Join(root, d))
	}
	n := openNodeWith(t, func(n *node) {
		n.onRequest = true
		n.s.ec, n.s.maintenanceRate, n.s.volumeSize, n.s.diskReserve = policy, units.Size(1<<40), units.Size(64<<20), 1
	}, dirs...)
	for range blobs {
		for _, class := range []volume.Class{volume.ClassOriginals, volume.ClassVariants} {
			blob, cookie, err := n.blobs.Reserve(t.Context(), class)
			if err == nil {
				err = n.blobs.Write(t.Context(), blob, []volume.Needle{{Key: blob, Cookie: cookie, Data: make([]byte, 30_000)}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// operator runs commands against a node's admin listener.
type operator struct {
	t     *testing.T
	admin string
	data  string
}

func operate(t *testing.T, n *node) *operator {
	t.Helper()
	if err := n.openAdmin(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(newAdmin(n, n.log).srv.Handler)
	t.Cleanup(s.Close)
	return &operator{t, s.URL, n.s.data[0]}
}

func (o *operator) run(args ...string) (stdout, stderr string, err error) {
	o.t.Helper()
	root := newRoot()
	var out, log bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&log)
	args = append(args, "--admin", o.admin)
	if args[0] != "cluster" {
		args = append(args, "--data", o.data)
	}
	root.SetArgs(args)
	err = root.ExecuteContext(o.t.Context())
	return out.String(), log.String(), err
}

func (o *operator) must(args ...string) string {
	o.t.Helper()
	out, log, err := o.run(args...)
	if err != nil {
		o.t.Fatalf("%v: %v\n%s\n%s", args, err, out, log)
	}
	return out
}

// TestECCommands goes through the coding of everything that a node has.
func TestECCommands(t *testing.T) {
	o := operate(t, codingNode(t, coding.Policy{Data: 4, Parity: 2}, 12))
	if out := o.must("ec", "status"); !strings.Contains(out, "no volume is coded yet; the policy is 4+2") {
		t.Error(out)
	}
	out, log, err := o.run("ec", "encode", "--all")
	if err != nil || strings.Count(out, "would be coded") != 6 || !strings.Contains(out, "as 4+2") || !strings.Contains(log, "--apply") {
		t.Errorf("the plan: %v\n%s\n%s", err, out, log)
	}
	if out := o.must("ec", "encode", "--all", "--apply"); strings.Count(out, "coded as 4+2, epoch 1") != 6 || !strings.Contains(out, "any 2 disks may be lost") {
		t.Error(out)
	}
	var all tools.CodedList
	if err := json.Unmarshal([]byte(o.must("ec", "status", "--json")), &all); err != nil || all.Coded != 6 || all.Redundant != 6 || *all.Survives != 2 {
		t.Errorf("%d coded, %d redundant, %v", all.Coded, all.Redundant, err)
	}
	if out := o.must("ec", "status"); !strings.HasSuffix(out, "6 coded volumes, all redundant: any 2 disks may be lost\n") {
		t.Error(out)
	}
	if out := o.must("ec", "status", "1"); strings.Count(out, "volume 1: shard ") != 6 || !strings.Contains(out, "1 coded volume, all redundant") {
		t.Error(out)
	}
	if _, log, err := o.run("ec", "encode", "--all", "--apply"); err != nil || !strings.Contains(log, "nothing to encode") {
		t.Errorf("again: %v %s", err, log)
	}
	if _, log, err := o.run("ec", "rebuild", "--all", "--apply"); err != nil || !strings.Contains(log, "nothing to rebuild") {
		t.Errorf("rebuild: %v %s", err, log)
	}
	if out := o.must("ec", "encode", "3"); !strings.Contains(out, "volume 3 is left alone: it is coded") {
		t.Error(out)
	}
	if out := o.must("volume", "ls"); strings.Count(out, " coded ") != 6 || strings.Count(out, "6 of 6 shards") != 6 {
		t.Error(out)
	}
	if out := o.must("volume", "show", "1"); strings.Count(out, "\nshard ") != 6 || !strings.Contains(out, "4+2, redundant, survives the loss of any 2 disks") {
		t.Error(out)
	}
	if out := o.must("cluster", "status"); !strings.Contains(out, "6 coded") || !strings.Contains(out, "survives          the loss of any 2 disks") {
		t.Error(out)
	}
	if out := o.must("cluster", "nodes", "--json"); !strings.Contains(out, `"leads": true`) || !strings.Contains(out, `"disks": 6`) {
		t.Error(out)
	}
}

// What is damaged or away is named, and ends with exit code 1 until it is made again.
func TestECStatusOfDamage(t *testing.T) {
	n := codingNode(t, coding.Policy{Data: 4, Parity: 2}, 2)
	o := operate(t, n)
	o.must("ec", "encode", "1", "--apply")
	shards, err := filepath.Glob(filepath.Join(n.s.data[4], "shards", "*", "*.shard"))
	if err != nil || len(shards) != 1 {
		t.Fatal(shards, err)
	}
	b, err := os.ReadFile(shards[0])
	if err != nil {
		t.Fatal(err)
	}
	b[9000] ^= 1
	if err := os.WriteFile(shards[0], b, 0o640); err != nil {
		t.Fatal(err)
	}
	if out, _, err := o.run("volume", "verify", "1"); err == nil || !strings.Contains(out, "shard") || !strings.Contains(out, n.s.data[4]) {
		t.Errorf("verify: %v\n%s", err, out)
	}
	out, _, err := o.run("ec", "status")
	if err == nil || !strings.Contains(out, "volume 1 is endangered: damaged: shards ") || !strings.Contains(out, "ENDANGERED: 1 (volume 1)") {
		t.Errorf("status: %v\n%s", err, out)
	}
	if out := o.must("ec", "rebuild", "--all"); !strings.Contains(out, "volume 1 would be rebuilt") || !strings.Contains(out, "damaged: shards") {
		t.Error(out)
	}
	if out := o.must("ec", "rebuild", "--all", "--apply"); !strings.Contains(out, "volume 1: rebuilt: 6 of 6 shards whole; any 2 disks may be lost") {
		t.Error(out)
	}
	o.must("ec", "status")
}

// Without a policy nothing is coded, and every command says so in one line.
func TestECWithoutPolicy(t *testing.T) {
	o := operate(t, codingNode(t, coding.Policy{}, 1))
	if out := o.must("ec", "status"); !strings.Contains(out, "start it with --ec K+M") {
		t.Error(out)
	}
	for _, args := range [][]string{{"ec", "encode", "--all"}, {"ec", "encode", "--all", "--apply"}, {"ec", "encode", "1", "--apply"}} {
		if _, _, err := o.run(args...); err == nil || !strings.Contains(err.Error(), "start it with --ec K+M") {
			t.Errorf("%v: %v", args, err)
		}
	}
	for _, args := range [][]string{{"ec", "status", "1"}, {"ec", "rebuild", "1"}, {"ec", "decode", "1", "-o", t.TempDir()}} {
		if _, _, err := o.run(args...); err == nil || !strings.Contains(err.Error(), "not coded") {
			t.Errorf("%v: %v", args, err)
		}
	}
	var c tools.Cluster
	if err := json.Unmarshal([]byte(o.must("cluster", "status", "--json")), &c); err != nil || c.Survives.Disk != 0 || c.Volumes["open"] != 2 {
		t.Errorf("%+v, %v", c, err)
	}
}

// Photos, blobs and volumes are explained, in one line each that says the state.
func TestVolumeWhy(t *testing.T) {
	n := codingNode(t, coding.Policy{Data: 4, Parity: 2}, 1)
	o := operate(t, n)
	blob, cookie, err := n.blobs.Reserve(t.Context(), volume.ClassOriginals)
	if err == nil {
		err = n.blobs.Write(t.Context(), blob, []volume.Needle{{Key: blob, Cookie: cookie, Data: []byte("some bytes")}})
	}
	if err != nil {
		t.Fatal(err)
	}
	if out := o.must("volume", "why", blob.String()); !strings.Contains(out, "blob "+blob.String()+": READABLE") || !strings.Contains(out, "access  gone") ||
		!strings.Contains(out, "read from its file") || !strings.Contains(out, "directory  open, coding unsealed, originals") {
		t.Error(out)
	}
	if err := n.blobs.Delete(t.Context(), blob); err != nil {
		t.Fatal(err)
	}
	if out := o.must("volume", "why", blob.String()); !strings.Contains(out, ": DELETED: it is deleted for ever") {
		t.Error(out)
	}
	if out := o.must("volume", "why", "1"); !strings.Contains(out, "volume 1: in service") || !strings.Contains(out, "replica    on disk") {
		t.Error(out)
	}
	if out := o.must("volume", "why", "0000000000005"); !strings.Contains(out, "UNKNOWN: no tile holds this id") {
		t.Error(out)
	}
}
