package server_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

// close ends the open tile of a blob's volume, as if the lease of its writer were
// over.
func (c *cluster) close(b stored) {
	c.t.Helper()
	row := c.row(b.blob)
	now := id.MillisOf(c.clock.Now())
	if err := c.dir.change(func(t *table) error {
		w := t.windows[row.Slot]
		t.closeTile(row.Slot, w.To, now)
		w.Released = true
		t.windows[row.Slot] = w
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
}

// seal closes and seals a blob's volume on all its replicas, which hold the same.
func (c *cluster) seal(b stored) {
	c.t.Helper()
	c.close(b)
	row := c.row(b.blob)
	var sum server.Sealed
	for _, d := range row.Disks {
		c.use(d, b.blob, func(v *volume.Volume) error {
			rec, err := v.Seal(context.Background(), volume.SealInfo{Slot: row.Slot, From: row.From, To: row.To})
			if sum.Digest != (volume.Digest{}) && sum.Digest != rec.Digest {
				return errors.New("another digest")
			}
			sum = server.Sealed{Digest: rec.Digest, Needles: rec.Needles, Bytes: rec.End, DataBytes: rec.DataBytes, Sealed: rec.Sealed}
			return err
		})
	}
	if _, err := c.members[0].wire.SealVolume(context.Background(), row.Volume.Volume, 1, row.Disks, sum); err != nil {
		c.t.Fatal(err)
	}
}

// use calls fn with the replica of a blob's volume on a disk.
func (c *cluster) use(disk uint32, blob id.ID, fn func(*volume.Volume) error) {
	c.t.Helper()
	if err := c.of(disk).server().Use(c.row(blob).Volume.Volume, disk, fn); err != nil {
		c.t.Fatalf("disk %d: %v", disk, err)
	}
}

// log returns the delete log of a replica.
func (c *cluster) log(disk uint32, blob id.ID) (out []volume.Delete) {
	c.t.Helper()
	c.use(disk, blob, func(v *volume.Volume) error {
		_, err := v.Deletes(context.Background(), 0, func(d volume.Delete) error {
			out = append(out, d)
			return nil
		})
		return err
	})
	return out
}

// gone fails unless every member answers that a blob is not found.
func (c *cluster) gone(b stored) {
	c.t.Helper()
	for _, m := range c.members {
		if m.server() == nil {
			continue
		}
		if err := m.read(b); !errors.Is(err, volume.ErrNotFound) {
			c.t.Errorf("%s has %v: %v", m.name, b.blob, err)
		}
	}
}

// sameLogs fails unless the replicas in sync have one delete log.
func (c *cluster) sameLogs(b stored) {
	c.t.Helper()
	row := c.row(b.blob)
	want := c.log(row.InSync[0], b.blob)
	for _, d := range row.InSync[1:] {
		if got := c.log(d, b.blob); !slices.Equal(got, want) {
			c.t.Errorf("the log on disk %d has %v, the primary's %v", d, got, want)
		}
	}
}

// How far a volume is when something is deleted in it.
var ages = map[string]func(*cluster, stored){
	"open":    func(*cluster, stored) {},
	"closing": (*cluster).close,
	"sealed":  (*cluster).seal,
}

func TestDeleteIsOnEveryReplica(t *testing.T) {
	for age, make := range ages {
		for from := range 3 {
			t.Run(fmt.Sprint(age, " from node ", from+1), func(t *testing.T) {
				c := newCluster(t, three, 1, 1, 1)
				b, kept := c.members[0].mustPut(800), c.members[0].mustPut(800)
				make(c, b)
				for range 2 { // again it changes nothing
					if err := c.members[from].delete(b); err != nil {
						t.Fatal(err)
					}
				}
				row := c.row(b.blob)
				if len(row.InSync) != 3 || row.Sync != 1 {
					t.Errorf("in sync are %v, epoch %d", row.InSync, row.Sync)
				}
				for _, d := range row.Disks {
					if c.holds(d, b.blob) {
						t.Errorf("disk %d has it", d)
					}
					if age != "open" && !slices.Equal(c.log(d, b.blob), []volume.Delete{{Number: 1, Key: b.blob}}) {
						t.Errorf("the log on disk %d has %v", d, c.log(d, b.blob))
					}
				}
				c.gone(b)
				for _, m := range c.members {
					if err := m.read(kept); err != nil {
						t.Errorf("%s: %v", m.name, err)
					}
				}
			})
		}
	}
}

// Fault 21: a holder is away when something is deleted. It leaves the set before the
// delete is acknowledged, and does not serve when it is back.
func TestReplicaMissesDelete(t *testing.T) {
	for age, make := range ages {
		for _, away := range []string{"dead", "cut off", "silent"} {
			t.Run(age+" "+away, func(t *testing.T) {
				c := newCluster(t, three, 1, 1, 1)
				a := c.members[0]
				b := a.mustPut(800)
				make(c, b)
				row := c.row(b.blob)
				bad := c.of(row.Disks[1])
				switch away {
				case "dead":
					bad.kill(1)
				case "cut off":
					c.part(bad)
				case "silent":
					c.fault(nil, bad, linkSilent)
				}
				if err := a.delete(b); err != nil {
					t.Fatal(err)
				}
				if row := c.row(b.blob); slices.Contains(row.InSync, row.Disks[1]) || len(row.InSync) != 2 {
					t.Fatalf("in sync are %v of %v", row.InSync, row.Disks)
				}
				if st := a.server().Stats(); st.Replication.LeftSync != 1 {
					t.Errorf("%d replicas left the set", st.Replication.LeftSync)
				}
				if away == "dead" {
					bad.start()
				}
				c.join(bad)
				if !c.holds(row.Disks[1], b.blob) {
					t.Error("the replica that was away has heard of the delete: this test proves nothing")
				}
				c.gone(b)
				if st := bad.server().Stats(); st.Replication.OutOfSync != 1 {
					t.Errorf("%d of its replicas are out of sync", st.Replication.OutOfSync)
				}
			})
		}
	}
}

// The primary is away: the next one takes its place, and what the first one has
// numbered alone never counts.
func TestPrimaryFailsOver(t *testing.T) {
	for age, make := range ages {
		if age == "open" {
			continue
		}
		t.Run(age, func(t *testing.T) {
			o := three
			o.Heard = func() (time.Duration, bool) { return 0, true } // or it would say nothing at all
			c := newCluster(t, o, 1, 1, 1)
			a := c.members[0]
			lost, b, d := a.mustPut(800), a.mustPut(800), a.mustPut(800)
			make(c, b)
			first := c.of(c.row(b.blob).InSync[0])
			// It numbers a delete that reaches nobody, and dies.
			for _, m := range c.members {
				c.fault(first, m, linkDown)
			}
			first.wire.cut(errAway)
			if err := first.delete(lost); !errors.Is(err, server.ErrUnavailable) {
				t.Fatalf("cut off, it says %v", err)
			}
			if len(c.log(c.row(b.blob).Disks[0], b.blob)) != 1 {
				t.Fatal("it has numbered nothing: this test proves nothing")
			}
			c.fault(nil, first, linkDown)
			for _, m := range c.members[1:] {
				for _, b := range []stored{b, d} {
					if err := m.delete(b); err != nil {
						t.Fatal(err)
					}
				}
			}
			row := c.row(b.blob)
			if len(row.InSync) != 2 || row.InSync[0] != row.Disks[1] {
				t.Fatalf("in sync are %v of %v", row.InSync, row.Disks)
			}
			c.sameLogs(b)
			if log := c.log(row.InSync[0], b.blob); !slices.Equal(log, []volume.Delete{{Number: 1, Key: b.blob}, {Number: 2, Key: d.blob}}) {
				t.Errorf("the log is %v", log)
			}
			// What it knows is old, and the others do not take its word any more.
			for _, m := range c.members {
				c.fault(first, m, nil)
			}
			if err := first.delete(lost); !errors.Is(err, server.ErrUnavailable) {
				t.Errorf("a primary that knows an old epoch says %v", err)
			}
			c.sameLogs(b)
			for _, m := range c.members[1:] {
				if err := m.read(lost); err != nil {
					t.Errorf("%s: a delete that was not acknowledged: %v", m.name, err)
				}
			}
			c.join(first)
			if err := first.delete(lost); err != nil {
				t.Error(err)
			}
			c.gone(b)
			c.gone(d)
			c.gone(lost)
			c.sameLogs(b)
		})
	}
}

// Several servers delete in one volume at the same time: the logs are one.
func TestManyDeleteAtOnce(t *testing.T) {
	for age, make := range ages {
		t.Run(age, func(t *testing.T) {
			c := newCluster(t, three, 1, 1, 1)
			var all []stored
			for range 60 {
				b, _, err := c.members[0].put(volume.ClassOriginals, 50)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, b)
			}
			make(c, all[59])
			c.run(func() {
				var wg sync.WaitGroup
				for i, b := range all {
					wg.Go(func() {
						if err := c.members[i%3].server().Delete(context.Background(), b.blob); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
			})
			for _, b := range all {
				c.gone(b)
			}
			if age != "open" {
				c.sameLogs(all[0])
				if n := len(c.log(c.row(all[0].blob).Disks[2], all[0].blob)); n != 60 {
					t.Errorf("%d deletes are logged", n)
				}
			}
		})
	}
}

// A replica that has missed some deletes for a moment is sent them with the next one.
func TestReplicaIsSentWhatItMissed(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1)
	a := c.members[0]
	b, d := a.mustPut(80), a.mustPut(80)
	c.seal(b)
	row := c.row(b.blob)
	late := c.of(row.Disks[2])
	c.fault(a, late, linkDown)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() { failed <- a.server().Delete(ctx, b.blob) }()
	c.until("the delete to be at the others", func() bool { return !c.holds(row.Disks[0], b.blob) && !c.holds(row.Disks[1], b.blob) })
	cancel() // before the second is over after which the replica leaves the set
	if err := <-failed; err == nil {
		t.Fatal("acknowledged without one in sync")
	}
	c.fault(a, late, nil)
	if err := a.delete(d); err != nil {
		t.Fatal(err)
	}
	if row := c.row(b.blob); len(row.InSync) != 3 {
		t.Errorf("in sync are %v", row.InSync)
	}
	if n := len(c.log(row.Disks[2], b.blob)); n != 2 {
		t.Errorf("%d deletes are logged there", n)
	}
	c.sameLogs(b)
}

// A replica that has another delete under a number leaves the set.
func TestReplicaWithAnotherDelete(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1)
	a := c.members[0]
	b, d := a.mustPut(80), a.mustPut(80)
	c.seal(b)
	row := c.row(b.blob)
	c.use(row.Disks[1], b.blob, func(v *volume.Volume) error {
		_, err := v.AppendDeletes(t.Context(), []id.ID{b.blob})
		return err
	})
	if err := a.delete(d); err != nil {
		t.Fatal(err)
	}
	if now := c.row(b.blob); !slices.Equal(now.InSync, []uint32{row.Disks[0], row.Disks[2]}) {
		t.Errorf("in sync are %v of %v", now.InSync, now.Disks)
	}
	c.gone(d)
	for _, m := range c.members {
		if err := m.read(b); err != nil {
			t.Errorf("%s: a delete that never counted: %v", m.name, err)
		}
	}
}

// A primary whose delete log takes nothing any more gives its place to the next.
func TestPrimaryThatIsPoisoned(t *testing.T) {
	c := newCluster(t, three, 1, 1, 1)
	a := c.members[0]
	b := a.mustPut(80)
	c.seal(b)
	row := c.row(b.blob)
	a.sicken(func(op vfs.Op) error {
		if op.Kind == vfs.OpSync && strings.HasSuffix(op.Name, ".deletes") {
			return unix.EIO
		}
		return nil
	})
	if err := c.members[2].delete(b); err != nil {
		t.Fatal(err)
	}
	if now := c.row(b.blob); !slices.Equal(now.InSync, row.Disks[1:]) {
		t.Errorf("in sync are %v of %v", now.InSync, row.Disks)
	}
	c.gone(b)
}
