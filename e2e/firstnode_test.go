package e2e

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hayloft/bench/rig"
)

// TestErasedNodeDoesNotBeginAgain: a voter whose disks were emptied is started as if it
// were the first node of all. It must not begin a cluster under the name that another
// one counts on; as one that joins it comes back. While it waits for a majority it says
// so to who asks for its health.
func TestErasedNodeDoesNotBeginAgain(t *testing.T) {
	t.Parallel() // it mostly waits
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	r, err := rig.New(ctx, rig.Options{Binary: hayloft(t), Dir: t.TempDir(), Nodes: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Kill)
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	first := r.Nodes[0]
	voters := func() bool { return strings.Count(first.Log(), "change=promote") >= 4 } // two more of each group
	for ; !voters(); nextLook(t, ctx) {
	}
	first.Kill()
	for _, dir := range first.Data {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range r.Nodes { // by its log the rig knows that a cluster has begun
		if err := os.Remove(filepath.Join(n.Dir, "log")); err != nil {
			t.Fatal(err)
		}
	}
	err = first.Start(ctx)
	if err == nil || !strings.Contains(err.Error(), "takes this one, n1, for a member of its cluster") || !strings.Contains(err.Error(), "--join") {
		t.Fatalf("it begins again: %v", err)
	}
	if err := first.Start(ctx); err != nil { // with --join: there is a log now
		t.Fatal(err)
	}

	// Alone of three it is not ready, and says why.
	if err := r.Stop(); err != nil {
		t.Fatal(err)
	}
	alone, give := context.WithCancel(ctx)
	started := make(chan error, 1)
	go func() { started <- first.Start(alone) }()
	health := func(path string) (status int, text string) {
		resp, err := http.Get(first.Admin + path)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			return 0, err.Error()
		}
		return resp.StatusCode, string(b)
	}
	for {
		if status, text := health("/readyz"); status == http.StatusServiceUnavailable && strings.Contains(text, "waiting for the directory") {
			break
		}
		nextLook(t, ctx)
	}
	if status, text := health("/healthz"); status != http.StatusOK {
		t.Errorf("it lives: %d %s", status, text)
	}
	give()
	if err := <-started; !errors.Is(err, context.Canceled) {
		t.Errorf("one of three: %v", err)
	}
}

// nextLook waits a moment before the next look.
func nextLook(t *testing.T, ctx context.Context) {
	t.Helper()
	select {
	case <-time.After(50 * time.Millisecond):
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
}
