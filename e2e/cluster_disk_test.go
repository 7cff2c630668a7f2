package e2e

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"hayloft/volume/torture"

	"golang.org/x/sys/unix"
)

// The ioctls that keep a file system from being written to, and let it go on (FIFREEZE,
// FITHAW).
const (
	freeze = 0xc0045877
	thaw   = 0xc0045878
)

// ownDisk is a file system of a node's own, on a loop device.
type ownDisk struct {
	t      testing.TB
	dir    string // where it is mounted
	frozen bool
}

// newFleetOnDisks is newFleet where every node has a file system of its own. They go
// with the test, also when that is killed.
func newFleetOnDisks(t testing.TB, flags ...string) *fleet {
	t.Helper()
	f := prepareFleet(t, flags...)
	for _, n := range f.rig.Nodes {
		at, err := torture.NewDisk(f.t.TempDir())
		if err != nil {
			f.t.Fatal(err)
		}
		d := &ownDisk{t: f.t, dir: at.Dir()}
		d.guard()
		f.t.Cleanup(func() {
			d.thaw()
			f.rig.Kill()
			if err := at.Close(); err != nil {
				f.t.Error(err)
			}
		})
		n.Data = []string{filepath.Join(at.Dir(), "data")}
		f.disks = append(f.disks, d)
	}
	f.start()
	return f
}

// guard has a process wait for the end of this one, to take the disk away if it is still
// there: nobody else could write to it, or end those who want to.
func (d *ownDisk) guard() {
	d.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `read end; fsfreeze --unfreeze "$0"; umount --lazy "$0"`, d.dir)
	cmd.Stdin = r
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	_ = r.Close()
	d.t.Cleanup(func() {
		_ = w.Close()
		_ = cmd.Wait() // that there is nothing to be done is an error
	})
}

func (d *ownDisk) ioctl(what uint) {
	f, err := os.Open(d.dir)
	if err != nil {
		d.t.Error(err)
		return
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), what, 0); err != nil {
		d.t.Errorf("ioctl %x of %s: %v", what, d.dir, err)
	}
}

// freeze has every write hang.
func (d *ownDisk) freeze() {
	if !d.frozen {
		d.ioctl(freeze)
		d.frozen = true
	}
}

// thaw undoes freeze.
func (d *ownDisk) thaw() {
	if d.frozen {
		d.ioctl(thaw)
		d.frozen = false
	}
}

// fill takes all the room there is and returns what gives it back.
func (d *ownDisk) fill() (empty func()) {
	d.t.Helper()
	name := filepath.Join(d.dir, "ballast")
	f, err := os.Create(name)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for size := int64(64 << 20); size >= 4096; {
		at, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			d.t.Fatal(err)
		}
		switch err := unix.Fallocate(int(f.Fd()), 0, at, size); {
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case err != nil:
			d.t.Fatal(err)
		}
	}
	return func() {
		if err := os.Remove(name); err != nil {
			d.t.Error(err)
		}
	}
}

// full takes all the room of a node's only disk for a while, metadata and all, to the
// last block. A node whose metadata could not be written says so, and goes on when it is
// started again with room.
func (p *pressure) full(node int) {
	p.f.t.Helper()
	empty := p.f.disks[node].fill()
	p.progress(3 * time.Second)
	empty()
	p.restartStopped(node)
	p.progress(2 * time.Second)
}

// hung has a node's disk take nothing for a while: if it leads it gives that up, and the
// others go on. A node whose last metadata was given up with the disk, after ten seconds,
// says so, and goes on when it is started again.
func (p *pressure) hung(node int) {
	p.f.t.Helper()
	p.f.disks[node].freeze()
	began := time.Now()
	if !eventually(hungTime, func() bool {
		return len(p.f.leads("directory", node)) == 1 && len(p.f.leads("feed", node)) == 1
	}) {
		p.f.t.Errorf("%v after the disk of %s hung nobody else leads", hungTime, p.f.rig.Nodes[node].Name)
	}
	p.f.t.Logf("leaders %.1f s after the disk of %s hung", time.Since(began).Seconds(), p.f.rig.Nodes[node].Name)
	p.progress(3 * time.Second)
	p.f.disks[node].thaw()
	p.restartStopped(node)
}

// hungTime bounds how long a leader whose disk hangs goes on leading.
const hungTime = 30 * time.Second

// restartStopped waits for a node to be well again by itself, or else starts it again.
func (p *pressure) restartStopped(node int) {
	p.f.t.Helper()
	n := p.f.rig.Nodes[node]
	var err error
	if eventually(4*time.Second, func() bool { err = n.Ready(context.Background()); return err == nil }) {
		return
	}
	p.f.t.Logf("%s is started again: %v", n.Name, err)
	n.Kill()
	p.f.startNode(node)
}

// slow makes a node's disk slower by a hundred times for a while.
func (p *pressure) slow(node int) {
	p.f.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	var work sync.WaitGroup
	work.Go(func() {
		defer stop()
		p.progress(5 * time.Second)
	})
	for ctx.Err() == nil {
		p.f.disks[node].freeze()
		pause(ctx, 300*time.Millisecond)
		p.f.disks[node].thaw()
		pause(ctx, 3*time.Millisecond)
	}
	work.Wait()
	p.restartStopped(node)
}

// TestClusterFullDisk fills the only disk of a node, metadata and all.
func TestClusterFullDisk(t *testing.T) {
	t.Parallel()
	p := newPressure(newFleetOnDisks(t))
	p.during(func() { p.full((p.f.mustLead() + 1) % 3) })
	p.judge()
}

// TestClusterHungDisk has the disk of the leader hang.
func TestClusterHungDisk(t *testing.T) {
	t.Parallel()
	p := newPressure(newFleetOnDisks(t))
	p.during(func() { p.hung(p.f.mustLead()) })
	p.judge()
}

// TestClusterSlowDisk makes the disk of a node slower by a hundred times: what others
// write goes elsewhere.
func TestClusterSlowDisk(t *testing.T) {
	t.Parallel()
	p := newPressure(newFleetOnDisks(t))
	p.during(func() { p.slow((p.f.mustLead() + 1) % 3) })
	p.judge()
	if slowest := time.Duration(p.blobs.slowest.Load()); slowest > 10*time.Second {
		t.Errorf("a blob took %v", slowest)
	}
}
