package e2e

import (
	"bytes"
	"context"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"hayloft/bench/rig"
	"hayloft/client"
)

// TestStopOfTheLastNode: a node that holds leases and is alone of three has nobody to
// give them back to. Its stop waited for an answer for a third of the drain timeout.
func TestStopOfTheLastNode(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.Command(hayloft(t), "user", "blob-key", "e2e").CombinedOutput()
	m := regexp.MustCompile(`key\s+(\S+)\nsetting\s+--blob-keys (\S+)`).FindSubmatch(out)
	if err != nil || m == nil {
		t.Fatalf("blob-key: %v\n%s", err, out)
	}
	r, err := rig.New(ctx, rig.Options{Binary: hayloft(t), Dir: t.TempDir(), Nodes: 3,
		Flags: []string{"--drain-timeout", "36s", "--disk-reserve", "16MiB", "--blob-keys", string(m[2])}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Kill)
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	last := r.Nodes[2]
	c, err := client.New(last.URL, client.Options{Token: string(m[1])})
	if err != nil {
		t.Fatal(err)
	}
	data := randomBytes(1000)
	if _, err := c.PutBlob(ctx, client.ClassOriginals, client.File{At: bytes.NewReader(data), Size: int64(len(data)), ContentType: "image/jpeg"}); err != nil {
		t.Fatal(err)
	}
	for _, n := range r.Nodes[:2] {
		n.Kill()
	}
	began := time.Now()
	if err := last.Stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 9*time.Second {
		t.Errorf("it took %v\n%s", took, last.Log())
	} else {
		t.Logf("it took %v", took)
	}
}
