package coded

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"testing"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

// A copy of the delete log that is damaged or gone is found and made again, takes the
// deletes that come after, and is what a later opening finds.
func TestRemakeLog(t *testing.T) {
	seeded(t, 3, func(t *testing.T, rng *rand.Rand) {
		r := newRig(t, rng, coding.Policy{Data: 4, Parity: 2}, 60)
		v := r.open(Options{Tolerance: 2})
		logs := r.logs()
		file := shardDir + "/" + volume.DeleteLogName(testID)
		before, err := vfs.ReadFile(r.disks[0], file, 1<<20)
		r.must(err)
		for _, at := range logs {
			if n, err := v.CheckLog(bg, at); err != nil || n < 8192 {
				t.Fatalf("%v: %d bytes, %v", at, n, err)
			}
		}
		r.must(r.disks[1].Flip(file, []int64{40, 4096 + 40, 8192 + rng.Int64N(128)}[rng.IntN(3)], 1<<rng.IntN(8))) // a superblock, or the first delete
		r.must(r.disks[4].Remove(file))
		for i, want := range map[int]error{0: nil, 1: volume.ErrCorrupt, 2: nil, 3: nil, 4: fs.ErrNotExist, 5: nil} {
			if _, err := v.CheckLog(bg, logs[i]); !errors.Is(err, want) {
				t.Errorf("copy %d: %v", i, err)
			}
		}
		for _, i := range []int{1, 4} {
			r.must(v.RemakeLog(bg, logs[i]))
		}
		for i := range logs {
			if _, err := v.CheckLog(bg, logs[i]); err != nil {
				t.Errorf("copy %d after that: %v", i, err)
			}
			if got, err := vfs.ReadFile(r.disks[i], file, 1<<20); err != nil || string(got) != string(before) {
				t.Errorf("copy %d has other bytes: %v", i, err)
			}
		}
		r.delete(v.Engine(), rng, 5)
		want := listDeletes(t, v.Engine())
		r.must(v.Close())
		for i := range logs {
			if got, err := ReadLog(r.fs[i], shardDir, testID); err != nil || len(got) != len(want) {
				t.Errorf("copy %d: %d deletes of %d, %v", i, len(got), len(want), err)
			}
		}
	})
}

// Nothing is made out of copies that are damaged themselves, nor when the copies left
// would be too few for a delete.
func TestRemakeLogRefuses(t *testing.T) {
	r := newRig(t, rand.New(rand.NewPCG(1, 1)), coding.Policy{Data: 2, Parity: 1}, 20)
	v := r.open(Options{Tolerance: 1})
	defer func() { r.must(v.Close()) }()
	logs, file := r.logs(), shardDir+"/"+volume.DeleteLogName(testID)
	for _, d := range r.disks {
		r.must(d.Flip(file, 40, 1))
	}
	if err := v.RemakeLog(bg, logs[0]); !errors.Is(err, volume.ErrCorrupt) {
		t.Error(err)
	}
	for _, d := range r.disks {
		r.must(d.Flip(file, 40, 1))
	}
	r.must(v.SetLogs(bg, logs[:2], 1))
	if err := v.RemakeLog(bg, logs[0]); !errors.Is(err, errLeft) {
		t.Error(err)
	}
	if err := v.RemakeLog(bg, logs[2]); !errors.Is(err, ErrNotInSet) {
		t.Error(err)
	}
	r.delete(v.Engine(), rand.New(rand.NewPCG(2, 2)), 3)
}

// ReadSource gives the bytes of the source, as long as k shards have them.
func TestReadSource(t *testing.T) {
	seeded(t, 2, func(t *testing.T, rng *rand.Rand) {
		r := newRig(t, rng, coding.Policy{Data: 3, Parity: 2}, 40)
		want, err := vfs.ReadFile(r.source, sourceDir+"/"+volume.FileName(testID, 2), 1<<30)
		r.must(err)
		v := r.open(Options{Tolerance: 2})
		defer func() { r.must(v.Close()) }()
		for _, i := range rng.Perm(5)[:2] {
			for range 5 {
				r.must(r.disks[i].Flip(r.shardPath(i), rng.Int64N(r.c.FileBytes()), 1))
			}
		}
		for range 20 {
			off := rng.Int64N(int64(len(want)))
			b := make([]byte, 1+rng.Int64N(min(200_000, int64(len(want))-off)))
			if err := v.ReadSource(bg, b, off); err != nil || string(b) != string(want[off:off+int64(len(b))]) {
				t.Fatalf("%d bytes at %d: %v", len(b), off, err)
			}
		}
	})
}
