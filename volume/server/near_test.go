package server_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"hayloft/internal/vfs"
	"hayloft/volume/server"
)

// Of two disks of a process that have a volume in common one hangs: whoever compacts
// the volume on the other leaves it, while its calls are still on their way.
func TestUpkeepLeavesAHangingReplica(t *testing.T) {
	x := newTrioOf(t, server.Options{WatchEvery: second, CompactBytes: 1 << 40}, 2)
	x.plantSealed()
	n := &fakeNode{d: x.dir, node: 9}
	if _, err := n.AddReplica(t.Context(), x.v, 2, x.row().Sync); err != nil {
		t.Fatal(err)
	}
	x.until("both disks are in sync", func() bool { return slices.Contains(x.row().InSync, 2) })
	x.members[1].stop()
	x.members[2].stop()
	x.leave(3)
	x.leave(4)
	var hanging atomic.Int32
	release := make(chan struct{})
	m := x.members[0]
	m.sicken(func(op vfs.Op) error {
		if strings.HasPrefix(op.Name, "/d1/") && (op.Kind == vfs.OpWrite || op.Kind == vfs.OpSync) {
			hanging.Add(1)
			<-release
		}
		return nil
	})
	compact := func() (err error) {
		ended := make(chan error, 1)
		go func() {
			_, err := m.server().Compact(t.Context(), x.v, nil)
			ended <- err
		}()
		x.until("the compaction has ended", func() bool {
			select {
			case err = <-ended:
				return true
			default:
				return false
			}
		})
		return err
	}
	if err := compact(); !errors.Is(err, server.ErrUnavailable) || hanging.Load() == 0 {
		t.Errorf("%v, %d calls hang", err, hanging.Load())
	}
	m.sicken(nil)
	close(release)
	x.members[1].start()
	x.members[2].start()
	x.until("both disks are in sync again", func() bool {
		return m.server().Stats().Disks[1].State == server.DiskOK && slices.Contains(x.row().InSync, 2)
	})
	x.settle()
	if err := compact(); err != nil {
		t.Error(err)
	}
	x.settle()
	x.check()
}
