package coded

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
)

var errDisk = errors.New("the disk says no")

const logPath = shardDir + "/00000007.deletes"

func smallRig(t testing.TB, p coding.Policy) *rig {
	t.Helper()
	return newRigOf(t, rand.New(rand.NewPCG(21, 22)), p, 16, func(int) int { return 500 })
}

// hooked puts a Fault in front of a disk.
func (r *rig) hooked(i int, before func(vfs.Op) vfs.Outcome) {
	r.fs[i] = &vfs.Fault{FS: r.disks[i], Before: before}
}

// events collects what happens.
type events struct {
	mu  sync.Mutex
	all []Event
}

func (e *events) add(ev Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) count(kind EventKind) (n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.all {
		if ev.Kind == kind {
			n++
		}
	}
	return n
}

// inSet lists the disks whose copy counts.
func inSet(v *Volume) (in []int) {
	for _, s := range v.Logs() {
		if s.InSet {
			in = append(in, int(s.Disk))
		}
	}
	return in
}

// sameLogs fails unless the copies on these disks are the same bytes.
func (r *rig) sameLogs(disks ...int) {
	r.t.Helper()
	var first []byte
	for _, i := range disks {
		b, err := vfs.ReadFile(r.disks[i], logPath, 1<<30)
		r.must(err)
		if first == nil {
			first = b
		}
		if !bytes.Equal(b, first) {
			r.t.Errorf("the copy on disk %d differs", i)
		}
	}
}

// live returns a key that is not deleted.
func (r *rig) live() id.ID {
	r.t.Helper()
	for _, n := range r.needles {
		if !r.deleted[n.Key] {
			return n.Key
		}
	}
	r.t.Fatal("all keys are deleted")
	return 0
}

func (r *rig) kill(v *Volume) {
	r.t.Helper()
	key := r.live()
	r.must(v.Engine().Delete(bg, key))
	r.deleted[key] = true
}

func TestWriteAndReadLog(t *testing.T) {
	mem := vfs.NewMem(1)
	if err := mem.MkdirAll("/d"); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLog(mem, "/d", 7); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	var want []volume.Delete
	for i := range 3000 {
		want = append(want, volume.Delete{Number: uint32(i + 1), Key: id.ID(rand.Uint64()>>1 + 1)})
	}
	for _, n := range []int{0, 1, 3000} {
		if err := WriteLog(mem, "/d", 7, want[:n]); err != nil {
			t.Fatal(err)
		}
		got, err := ReadLog(mem, "/d", 7)
		if err != nil || !slices.Equal(got, want[:n]) {
			t.Fatalf("%d deletes read of %d: %v", len(got), n, err)
		}
	}
	if err := WriteLog(mem, "/d", 7, want[:2999]); !errors.Is(err, volume.ErrConflict) {
		t.Errorf("a delete is taken back: %v", err)
	}
	if err := WriteLog(mem, "/d", 7, append(want, want[5])); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("a key twice: %v", err)
	}
	if err := WriteLog(mem, "/d", 0, nil); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("volume 0: %v", err)
	}
	f, err := mem.OpenWrite("/d/00000007.deletes")
	if err != nil {
		t.Fatal(err)
	}
	if err := WriteLog(mem, "/d", 7, want); !errors.Is(err, vfs.ErrLocked) {
		t.Errorf("in use: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mem.Rename("/d/00000007.deletes", "/d/00000008.deletes"); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadLog(mem, "/d", 8); !errors.Is(err, volume.ErrConflict) {
		t.Errorf("another volume's: %v", err)
	}
	if err := mem.Rename("/d/00000008.deletes", "/d/00000007.deletes"); err != nil {
		t.Fatal(err)
	}
	for _, at := range []int64{8192 + 128*77 + 20, 8192 + 128*77 + 84} { // both copies of one
		if got, err := ReadLog(mem, "/d", 7); err != nil || len(got) != 3000 {
			t.Errorf("%d deletes, %v", len(got), err)
		}
		if err := mem.Flip("/d/00000007.deletes", at, 8); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := ReadLog(mem, "/d", 7); !errors.Is(err, volume.ErrCorrupt) {
		t.Errorf("a delete is lost: %v", err)
	}
}

// TestReadLogChangesNothing reads a log with a torn tail: what is whole of it counts,
// and the file stays as it is.
func TestReadLogChangesNothing(t *testing.T) {
	r := smallRig(t, coding.Policy{Data: 2, Parity: 1})
	v := r.open(Options{})
	r.kill(v)
	acked := listDeletes(t, v.Engine())
	before, err := vfs.ReadFile(r.disks[0], logPath, 1<<30)
	r.must(err)
	r.must(v.Close())
	// As a machine leaves it: preallocated, with a torn record behind the last one.
	torn := vfs.NewMem(1)
	r.must(torn.MkdirAll(shardDir))
	last := len(bytes.TrimRight(before, "\x00"))
	copy(before[(last+63)/64*64:], bytes.Repeat([]byte{0xAA}, 100))
	r.must(vfs.WriteFile(torn, logPath, before))
	got, err := ReadLog(torn, shardDir, testID)
	if err != nil || !slices.Equal(got, acked) {
		t.Errorf("%d deletes of %d, %v", len(got), len(acked), err)
	}
	if after, _ := vfs.ReadFile(torn, logPath, 1<<30); !bytes.Equal(after, before) {
		t.Error("the file changed")
	}
	names, _ := torn.ReadDir(shardDir)
	if len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

// TestCopiesAreTheSame: all copies are the same bytes after every way to end.
func TestCopiesAreTheSame(t *testing.T) {
	r := smallRig(t, coding.Policy{Data: 2, Parity: 1})
	var ev events
	v := r.open(Options{Tolerance: 1, Events: ev.add})
	if ev.count(EventLogsUnited) != 1 {
		t.Errorf("written one by one, not united: %v", ev.all)
	}
	r.kill(v)
	r.sameLogs(0, 1, 2)
	r.must(v.Close())
	if err := v.Close(); !errors.Is(err, volume.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	r.sameLogs(0, 1, 2)
	v = r.open(Options{Tolerance: 1, Events: ev.add})
	if n := ev.count(EventLogsUnited); n != 1 || len(inSet(v)) != 3 {
		t.Errorf("united %d times, set %v", n, inSet(v))
	}
	// Many at once make batches of several buffers.
	var deleting sync.WaitGroup
	for i := range 2000 {
		deleting.Go(func() {
			if err := v.Engine().Delete(bg, id.ID(5000+i)); err != nil {
				t.Error(err)
			}
		})
	}
	deleting.Wait()
	for i := range r.disks {
		if got, err := ReadLog(r.disks[i], shardDir, testID); err != nil || len(got) < 2000 {
			t.Errorf("disk %d has %d deletes, %v", i, len(got), err)
		}
	}
	r.kill(v)
	// Killed: what is preallocated is no part of a settled log.
	killed := r.on(t, r.copies())
	w := killed.open(Options{Tolerance: 1, Events: ev.add})
	if n := ev.count(EventLogsUnited); n != 2 {
		t.Errorf("united %d times", n)
	}
	killed.reads(w.Engine(), rand.New(rand.NewPCG(1, 1)))
	r.must(errors.Join(w.Close(), v.Close()))
}

// TestTooManyCopiesAreLost: with more than f copies unread nothing is served, and the
// error says which; with f of them everything is.
func TestTooManyCopiesAreLost(t *testing.T) {
	base := smallRig(t, coding.Policy{Data: 3, Parity: 2})
	lose := []func(r *rig, i int){
		func(r *rig, i int) { r.must(r.disks[i].Remove(logPath)) },
		func(r *rig, i int) { // both superblocks
			r.must(r.disks[i].Flip(logPath, 0, 1))
			r.must(r.disks[i].Flip(logPath, 4096, 1))
		},
		func(r *rig, i int) { // both copies of the first delete
			r.must(r.disks[i].Flip(logPath, 8192+30, 1))
			r.must(r.disks[i].Flip(logPath, 8192+64+30, 1))
		},
		func(r *rig, i int) {
			r.hooked(i, func(op vfs.Op) vfs.Outcome {
				if op.Name == logPath {
					return vfs.Outcome{Err: errDisk}
				}
				return vfs.Outcome{}
			})
		},
	}
	for lost := range 4 {
		for f := range 3 {
			r := base.on(t, base.copies())
			for i := range lost {
				lose[(i+f)%len(lose)](r, i)
			}
			v, err := r.try(Options{Tolerance: f})
			if lost > f {
				if !errors.Is(err, ErrDeletesUnsure) {
					t.Fatalf("%d copies lost of 5, %d may be: %v", lost, f, err)
				}
				for i := range r.disks {
					if named := strings.Contains(err.Error(), (LogCopy{Home: r.home(i), Disk: uint32(i)}).String()); named != (i < lost) {
						t.Errorf("disk %d named: %v, in %v", i, named, err)
					}
				}
				continue
			}
			r.must(err)
			r.reads(v.Engine(), rand.New(rand.NewPCG(1, 1)))
			r.kill(v)
			r.sameLogs(inSet(v)...)
			r.must(v.Close())
		}
	}
}

// TestUnion: every key of every copy is deleted, those of the longest copy keep their
// numbers, and a copy of another volume is left alone.
func TestUnion(t *testing.T) {
	r := smallRig(t, coding.Policy{Data: 3, Parity: 2})
	v := r.open(Options{})
	before := listDeletes(t, v.Engine())
	r.must(v.Close())
	longest := append(slices.Clone(before), volume.Delete{Key: 501}, volume.Delete{Key: 502})
	r.must(WriteLog(r.disks[1], shardDir, testID, append(slices.Clone(before), volume.Delete{Key: 503})))
	r.must(WriteLog(r.disks[2], shardDir, testID, longest))
	foreign := vfs.NewMem(1)
	r.must(foreign.MkdirAll(shardDir))
	r.must(WriteLog(foreign, shardDir, 8, nil))
	content, err := vfs.ReadFile(foreign, shardDir+"/00000008.deletes", 1<<20)
	r.must(err)
	r.must(vfs.WriteFile(r.disks[3], logPath, content))

	v = r.open(Options{Tolerance: 1})
	var keys []id.ID
	for i, d := range listDeletes(t, v.Engine()) {
		if keys = append(keys, d.Key); d.Number != uint32(i+1) {
			t.Errorf("delete %d has number %d", i+1, d.Number)
		}
	}
	want := append(keysOf(longest), 503)
	if !slices.Equal(keys, want) {
		t.Errorf("%v, want %v", keys, want)
	}
	if in := inSet(v); !slices.Equal(in, []int{0, 1, 2, 4}) {
		t.Errorf("set %v: %+v", in, v.Logs())
	}
	r.must(v.Close())
	if b, _ := vfs.ReadFile(r.disks[3], logPath, 1<<20); !bytes.Equal(b, content) {
		t.Error("the log of another volume was replaced")
	}
	// A log shorter than what the file was made over has lost deletes.
	for _, d := range r.disks {
		r.must(d.Remove(logPath))
		r.must(WriteLog(d, shardDir, testID, nil))
	}
	if _, err := r.try(Options{}); !errors.Is(err, ErrDeletesUnsure) {
		t.Errorf("a log that is too short: %v", err)
	}
}

func keysOf(all []volume.Delete) (out []id.ID) {
	for _, d := range all {
		out = append(out, d.Key)
	}
	return out
}

// TestCopyFails fails each kind of call on one copy: it leaves the set for good, and
// deletes go on; with too few left they do not, until the volume is opened again.
func TestCopyFails(t *testing.T) {
	base := smallRig(t, coding.Policy{Data: 2, Parity: 1})
	for _, kind := range []vfs.OpKind{vfs.OpWrite, vfs.OpSync, vfs.OpAllocate} {
		r := base.on(t, base.copies())
		var failing [3]atomic.Bool
		var later atomic.Int64
		for i := range r.disks {
			r.hooked(i, func(op vfs.Op) vfs.Outcome {
				if !failing[i].Load() || op.Name != logPath {
					return vfs.Outcome{}
				}
				if op.Kind == kind {
					later.Add(1)
					return vfs.Outcome{Err: errDisk}
				}
				return vfs.Outcome{}
			})
		}
		var ev events
		v := r.open(Options{Tolerance: 1, Events: ev.add})
		failing[1].Store(true)
		r.kill(v)
		r.kill(v)
		if in := inSet(v); !slices.Equal(in, []int{0, 2}) || later.Load() != 1 || ev.count(EventLogLeft) != 1 {
			t.Errorf("kind %d: set %v, %d failing calls, %d events", kind, in, later.Load(), ev.count(EventLogLeft))
		}
		if err := v.Logs()[1].Err; !errors.Is(err, errDisk) {
			t.Errorf("kind %d: %v", kind, err)
		}
		r.sameLogs(0, 2)
		failing[2].Store(true)
		key := r.live()
		for range 200 { // until room has to be made
			if err := v.Engine().Delete(bg, key); err != nil {
				if !errors.Is(err, volume.ErrPoisoned) {
					t.Errorf("kind %d: %v", kind, err)
				}
				break
			}
			r.deleted[key] = true
			if key = id.ID(rand.Uint64()>>1 + 1); kind != vfs.OpAllocate {
				t.Errorf("kind %d: acknowledged on one copy", kind)
			}
		}
		if err := v.SetLogs(bg, r.logs(), 1); kind != vfs.OpAllocate && !errors.Is(err, volume.ErrPoisoned) {
			t.Errorf("kind %d: SetLogs on a poisoned log: %v", kind, err)
		}
		if err := v.Close(); err != nil && kind != vfs.OpAllocate { // no room for a mark
			t.Error(err)
		}
		failing[1].Store(false)
		failing[2].Store(false)
		v = r.open(Options{Tolerance: 1})
		if in := inSet(v); len(in) != 3 {
			t.Errorf("opened again: set %v", in)
		}
		r.kill(v)
		for i := range r.disks {
			if _, err := r.disks[i].Stat(logPath + ".poisoned"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("kind %d: marker on disk %d: %v", kind, i, err)
			}
		}
		r.must(v.Close())
	}
}

// TestFullDisks: a full disk leaves the set, as long as enough others have room. Where
// they have not, the delete is refused, and works when there is room.
func TestFullDisks(t *testing.T) {
	r := smallRig(t, coding.Policy{Data: 2, Parity: 1})
	var full [3]atomic.Bool
	for i := range r.disks {
		r.hooked(i, func(op vfs.Op) vfs.Outcome {
			if op.Kind == vfs.OpAllocate && full[i].Load() {
				return vfs.Outcome{Err: unix.ENOSPC}
			}
			return vfs.Outcome{}
		})
	}
	v := r.open(Options{Tolerance: 1})
	full[0].Store(true)
	full[1].Store(true)
	key := r.live()
	if err := v.Engine().Delete(bg, key); !errors.Is(err, volume.ErrNoSpace) || len(inSet(v)) != 3 {
		t.Errorf("full: %v, set %v", err, inSet(v))
	}
	full[0].Store(false)
	r.kill(v)
	if in := inSet(v); !slices.Equal(in, []int{0, 2}) {
		t.Errorf("set %v", in)
	}
	r.sameLogs(0, 2)
	r.must(v.Close())
}

// TestCopyHangs: a copy that does not answer costs one LogTimeout, once; neither
// deletes nor Close wait for it, and it is not written again when it wakes up.
func TestCopyHangs(t *testing.T) {
	base := smallRig(t, coding.Policy{Data: 2, Parity: 1})
	for _, kind := range []vfs.OpKind{vfs.OpWrite, vfs.OpSync} {
		r := base.on(t, base.copies())
		var hang atomic.Bool
		wake := make(chan struct{})
		woke := make(chan struct{}, 1)
		var calls atomic.Int64
		r.hooked(1, func(op vfs.Op) vfs.Outcome {
			if hang.Load() && op.Name == logPath {
				calls.Add(1)
				if op.Kind == kind {
					<-wake
					woke <- struct{}{}
				}
			}
			return vfs.Outcome{}
		})
		v := r.open(Options{Tolerance: 1, LogTimeout: 500 * time.Millisecond})
		hang.Store(true)
		for range 3 {
			r.kill(v)
		}
		if in := inSet(v); !slices.Equal(in, []int{0, 2}) {
			t.Errorf("set %v", in)
		}
		before := calls.Load()
		r.must(v.Close())
		r.sameLogs(0, 2)
		close(wake)
		<-woke
		if calls.Load() != before {
			t.Errorf("%d more calls of the copy that hung", calls.Load()-before)
		}
	}
}

// TestPlaceHangsAtOpen: with enough others a place that does not answer is left out.
func TestPlaceHangsAtOpen(t *testing.T) {
	r := smallRig(t, coding.Policy{Data: 2, Parity: 1})
	wake := make(chan struct{})
	ended := make(chan struct{}, 8)
	shards := r.shards()
	r.hooked(2, func(op vfs.Op) vfs.Outcome {
		<-wake
		ended <- struct{}{}
		return vfs.Outcome{Err: errDisk}
	})
	o := Options{Tolerance: 1, LogTimeout: 100 * time.Millisecond}
	v, err := Open(bg, r.c, volume.ClassOriginals, shards, r.logs(), o)
	r.must(err)
	if in := inSet(v); !slices.Equal(in, []int{0, 1}) {
		t.Errorf("set %v", in)
	}
	if err := v.SetLogs(bg, r.logs(), 1); !errors.Is(err, errBusy) {
		t.Errorf("a place with a call under way: %v", err)
	}
	r.kill(v)
	r.must(v.Close())
	close(wake)
	<-ended
}

// TestSetLogs moves copies while keys are deleted: at every moment every place in the
// set has all that was acknowledged.
func TestSetLogs(t *testing.T) {
	r := smallRig(t, coding.Policy{Data: 2, Parity: 2})
	for range 4 { // four more places
		d := vfs.NewMem(1)
		r.must(d.MkdirAll(shardDir))
		r.disks, r.fs = append(r.disks, d), append(r.fs, d)
	}
	all := r.logs()
	var ev events
	v, err := Open(bg, r.c, volume.ClassOriginals, r.shards(), all[:4], Options{Tolerance: 1, Events: ev.add})
	r.must(err)
	var deleting sync.WaitGroup
	stop := make(chan struct{})
	var acked atomic.Int64
	for i := range 3 {
		deleting.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := v.Engine().Delete(bg, id.ID(1_000_000*(i+1)+n)); err != nil {
					t.Error(err)
					return
				}
				acked.Add(1)
			}
		})
	}
	rng := rand.New(rand.NewPCG(5, 5))
	for range 40 {
		want := rng.Perm(8)[:3+rng.IntN(4)]
		var logs []LogCopy
		for _, i := range want {
			logs = append(logs, all[i])
		}
		if err := v.SetLogs(bg, logs, 1); err != nil {
			t.Fatal(err)
		}
		for before := acked.Load(); acked.Load() < before+5; {
			runtime.Gosched()
		}
		if in := inSet(v); !slices.Equal(in, want) {
			t.Fatalf("set %v, want %v", in, want)
		}
	}
	close(stop)
	deleting.Wait()
	in := inSet(v)
	r.sameLogs(in...)
	n, err := v.Engine().Deletes(bg, 1<<31, nil)
	r.must(err)
	r.must(v.Close())
	for _, i := range in {
		got, err := ReadLog(r.disks[i], shardDir, testID)
		if err != nil || len(got) != int(n) {
			t.Errorf("disk %d has %d deletes of %d, %v", i, len(got), n, err)
		}
	}
	if ev.count(EventLogJoined) < 20 || ev.count(EventLogLeft) != 0 {
		t.Errorf("%d joined, %d left", ev.count(EventLogJoined), ev.count(EventLogLeft))
	}
}

// TestSetLogsRefuses: what would leave too few copies changes nothing.
func TestSetLogsRefuses(t *testing.T) {
	r := smallRig(t, coding.Policy{Data: 2, Parity: 1})
	v := r.open(Options{Tolerance: 1})
	defer v.Close()
	bad := vfs.NewMem(1) // without the directory
	logs := append(r.logs()[:1:1], LogCopy{Home: coding.Home{FS: bad, Dir: shardDir}, Disk: 9})
	if err := v.SetLogs(bg, logs, 1); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, errLeft) {
		t.Errorf("one copy: %v", err)
	}
	if in := inSet(v); len(in) != 3 {
		t.Errorf("set %v", in)
	}
	for _, logs := range [][]LogCopy{nil, r.logs()[:1], append(r.logs(), r.logs()[0])} {
		if err := v.SetLogs(bg, logs, 1); !errors.Is(err, volume.ErrInvalid) {
			t.Errorf("%d places: %v", len(logs), err)
		}
	}
	r.kill(v)
	r.sameLogs(0, 1, 2)
	if err := v.SetLogs(bg, append(r.logs(), logs[1]), 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("one place of four: %v", err)
	}
	if got := v.Logs(); len(got) != 4 || got[3].InSet || got[3].Err == nil {
		t.Errorf("%+v", got)
	}
}

// TestCheckLogs: a copy that has lost a delete is found, leaves the set, and is made
// anew; one that others depend on stays.
func TestCheckLogs(t *testing.T) {
	r := smallRig(t, coding.Policy{Data: 2, Parity: 1})
	v := r.open(Options{Tolerance: 1})
	defer v.Close()
	r.kill(v)
	if err := v.CheckLogs(bg); err != nil {
		t.Error(err)
	}
	rot := func(i int) {
		r.must(r.disks[i].Flip(logPath, 8192+30, 1))
		r.must(r.disks[i].Flip(logPath, 8192+64+30, 1))
	}
	rot(1)
	if err := v.CheckLogs(bg); !errors.Is(err, volume.ErrCorrupt) || !strings.Contains(err.Error(), "disk 1") {
		t.Errorf("rot: %v", err)
	}
	rot(0)
	if err := v.CheckLogs(bg); !errors.Is(err, volume.ErrCorrupt) || !strings.Contains(err.Error(), "disk 0") {
		t.Errorf("rot: %v", err)
	}
	if in := inSet(v); !slices.Equal(in, []int{0, 2}) {
		t.Errorf("set %v", in)
	}
	rot(0) // back again
	r.must(v.SetLogs(bg, r.logs(), 1))
	r.must(v.CheckLogs(bg))
	r.sameLogs(0, 1, 2)
}

// TestEveryCallAtOpenFails fails each single call of the disks that an opening makes:
// it opens all the same, serves right, and takes deletes.
func TestEveryCallAtOpenFails(t *testing.T) {
	base := smallRig(t, coding.Policy{Data: 2, Parity: 1})
	for _, settled := range []bool{false, true} {
		if settled { // all copies are the same
			r := base.open(Options{Tolerance: 1})
			base.must(r.Close())
		}
		for at, failed := int64(1), true; failed; at++ {
			r := base.on(t, base.copies())
			var n atomic.Int64
			failed = false
			var what vfs.Op
			for i := range r.disks {
				r.hooked(i, func(op vfs.Op) vfs.Outcome {
					if n.Add(1) == at {
						failed, what = true, op
						return vfs.Outcome{Err: errDisk}
					}
					return vfs.Outcome{}
				})
			}
			n.Store(-1000)
			shards := r.shards()
			n.Store(0)
			v, err := Open(bg, r.c, volume.ClassOriginals, shards, r.logs(), Options{Tolerance: 1})
			if err != nil {
				t.Fatalf("call %d, %+v: %v", at, what, err)
			}
			n.Store(1 << 40)
			r.reads(v.Engine(), rand.New(rand.NewPCG(1, 1)))
			if v.Engine().Stats().Poisoned != nil {
				t.Errorf("call %d, %+v: no deletes", at, what)
			} else {
				r.kill(v)
				r.sameLogs(inSet(v)...)
			}
			r.must(v.Close())
		}
	}
}
