package coded

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// TestOnTheMachine serves from files of the machine, whose locks and direct reads are
// not those of a file system in memory.
func TestOnTheMachine(t *testing.T) {
	rng := rand.New(rand.NewPCG(31, 32))
	r := newRig(t, rng, coding.Policy{Data: 3, Parity: 2}, 40)
	root := t.TempDir()
	var logs []LogCopy
	shards := make([]coding.Shard, r.c.Shards())
	for i, d := range r.disks {
		home := coding.Home{FS: vfs.OS{}, Dir: fmt.Sprintf("%s/disk%d/shards", root, i)}
		r.must(home.FS.MkdirAll(home.Dir))
		names, err := d.ReadDir(shardDir)
		r.must(err)
		for _, n := range names {
			b, err := vfs.ReadFile(d, shardDir+"/"+n, 1<<30)
			r.must(err)
			r.must(vfs.WriteFile(home.FS, home.Dir+"/"+n, b))
		}
		logs = append(logs, LogCopy{Home: home, Disk: uint32(i)})
		if i == 1 {
			continue // away
		}
		f, err := coding.Open(home, r.c, i)
		r.must(err)
		shards[i] = f
	}
	unused := 0
	o := Options{Tolerance: 2, Unused: func(s coding.Shard) {
		unused++
		r.must(s.(*coding.File).Close())
	}}
	v, err := Open(bg, r.c, volume.ClassOriginals, shards, logs[:4], o)
	r.must(err)
	r.reads(v.Engine(), rng)
	r.delete(v.Engine(), rng, 5)
	if _, err := Open(bg, r.c, volume.ClassOriginals, make([]coding.Shard, 5), logs[:4], Options{Tolerance: 2}); err == nil {
		t.Error("opened twice")
	}
	r.must(v.SetLogs(bg, logs[1:], 1))
	r.delete(v.Engine(), rng, 5)
	r.reads(v.Engine(), rng)
	r.must(v.CheckLogs(bg))
	count := len(listDeletes(t, v.Engine()))
	into := coding.Home{FS: vfs.OS{}, Dir: root + "/disk0/volumes"}
	r.must(into.FS.MkdirAll(into.Dir))
	_, err = v.Compact(bg, into, volume.CompactOptions{Generation: 3, Deletes: uint32(count)})
	r.must(err)
	r.must(v.Close())
	if unused != 4 {
		t.Errorf("%d shards are unused", unused)
	}
	for _, l := range logs[1:] {
		if got, err := ReadLog(l.Home.FS, l.Home.Dir, testID); err != nil || len(got) != count {
			t.Errorf("%v: %d deletes of %d, %v", l, len(got), count, err)
		}
	}
	deletes, err := ReadLog(vfs.OS{}, logs[1].Home.Dir, testID)
	r.must(err)
	r.must(WriteLog(into.FS, into.Dir, testID, deletes))
	made, err := volume.Open(into.Dir, testID, volume.Options{})
	r.must(err)
	r.reads(made, rng)
	r.must(made.Close())
}
