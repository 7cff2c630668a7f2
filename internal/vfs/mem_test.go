package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func writeAt(t *testing.T, f File, s string, off int64) {
	t.Helper()
	_, err := f.WriteVAt([][]byte{[]byte(s)}, off)
	must(t, err)
}

func create(t *testing.T, fsys FS, name string) File {
	t.Helper()
	f, err := fsys.Create(name)
	must(t, err)
	return f
}

// TestCrashKeepsWhatWasSynced, whatever the seed.
func TestCrashKeepsWhatWasSynced(t *testing.T) {
	m := NewMem(1)
	f := create(t, m, "/a")
	writeAt(t, f, "synced", 0)
	must(t, f.Sync())
	must(t, m.SyncDir("/"))
	writeAt(t, f, " not synced", 6)
	for seed := range uint64(200) {
		b, err := ReadFile(m.Crash(seed), "/a", 100)
		must(t, err)
		if !bytes.HasPrefix(b, []byte("synced")) {
			t.Fatalf("seed %d: %q", seed, b)
		}
	}
	b, err := ReadFile(m, "/a", 100)
	must(t, err)
	if string(b) != "synced not synced" {
		t.Fatalf("a crash picture changed the original: %q", b)
	}
}

// TestCrashOutcomes: over many seeds each kind of damage happens.
func TestCrashOutcomes(t *testing.T) {
	m := NewMem(1)
	f := create(t, m, "/a")
	must(t, m.SyncDir("/"))
	must(t, f.Sync())
	first, second := bytes.Repeat([]byte("A"), 2000), bytes.Repeat([]byte("B"), 2000)
	writeAt(t, f, string(first), 0)
	writeAt(t, f, string(second), 2000)
	seen := map[string]bool{}
	for seed := range uint64(2000) {
		b, err := ReadFile(m.Crash(seed), "/a", 5000)
		must(t, err)
		a, z := min(len(b), 2000), b[min(len(b), 2000):]
		switch na, nz := bytes.Count(b[:a], []byte("A")), bytes.Count(z, []byte("B")); {
		case na == 2000 && nz == 2000:
			seen["whole"] = true
		case na == 2000 && len(b) == 2000:
			seen["second lost"] = true
		case na == 0 && nz == 2000:
			seen["reordered: only the second arrived"] = true
		case len(b) == 0:
			seen["nothing"] = true
		case na > 0 && na < 2000 && len(b) == na:
			seen["torn prefix"] = true
		case na > 0 && na < 2000 && b[0] != 'A':
			seen["hole in front"] = true
		}
		if len(b) == 4000 && b[0] != 0 && b[0] != 'A' {
			seen["garbage"] = true
		}
	}
	for _, kind := range []string{"whole", "second lost", "reordered: only the second arrived", "nothing", "torn prefix",
		"hole in front", "garbage"} {
		if !seen[kind] {
			t.Errorf("never happened: %s", kind)
		}
	}
}

// TestCrashNames: names are volatile until SyncDir, and a rename is atomic.
func TestCrashNames(t *testing.T) {
	m := NewMem(1)
	f := create(t, m, "/old")
	writeAt(t, f, "x", 0)
	must(t, f.Sync())
	there, gone := 0, 0
	for seed := range uint64(100) {
		if _, err := m.Crash(seed).Stat("/old"); err == nil {
			there++
		} else if errors.Is(err, fs.ErrNotExist) {
			gone++
		}
	}
	if there == 0 || gone == 0 {
		t.Fatalf("an unsynced name: %d times there, %d times gone", there, gone)
	}
	must(t, m.SyncDir("/"))
	must(t, m.Rename("/old", "/new"))
	there, gone = 0, 0
	for seed := range uint64(100) {
		c := m.Crash(seed)
		_, oldErr := c.Stat("/old")
		_, newErr := c.Stat("/new")
		if (oldErr == nil) == (newErr == nil) {
			t.Fatalf("seed %d: a rename left old: %v, new: %v", seed, oldErr, newErr)
		}
		if newErr == nil {
			there++
		} else {
			gone++
		}
	}
	if there == 0 || gone == 0 {
		t.Fatal("an unsynced rename always has the same fate")
	}
	must(t, m.SyncDir("/"))
	if _, err := m.Crash(1).Stat("/new"); err != nil {
		t.Fatal(err)
	}
}

// TestKill: after a kill everything is seen, and still at risk until synced.
func TestKill(t *testing.T) {
	m := NewMem(1)
	f := create(t, m, "/a")
	must(t, m.SyncDir("/"))
	writeAt(t, f, "unsynced", 0)
	k := m.Kill()
	b, err := ReadFile(k, "/a", 100)
	must(t, err)
	if string(b) != "unsynced" {
		t.Fatalf("after a kill: %q", b)
	}
	lost := false
	for seed := range uint64(50) {
		b, err := ReadFile(k.Crash(seed), "/a", 100)
		must(t, err)
		lost = lost || string(b) != "unsynced"
	}
	if !lost {
		t.Fatal("a kill made unsynced bytes durable")
	}
	g, err := k.OpenWrite("/a") // the killed process holds no lock
	must(t, err)
	must(t, g.Sync())
	if b, err = ReadFile(k.Crash(1), "/a", 100); err != nil || string(b) != "unsynced" {
		t.Fatalf("after a sync: %q, %v", b, err)
	}
}

// TestFailedSync: what a failed sync lost is still seen, a second sync
// succeeds and proves nothing, and Evict shows the device.
func TestFailedSync(t *testing.T) {
	lost := false
	for seed := range uint64(50) {
		m := NewMem(seed)
		failing := true
		fault := &Fault{FS: m, Before: func(op Op) Outcome {
			if op.Kind == OpSync && failing {
				return Outcome{Err: unix.EIO}
			}
			return Outcome{}
		}}
		f := create(t, fault, "/a")
		must(t, m.SyncDir("/"))
		writeAt(t, f, "12345678", 0)
		want(t, f.Sync(), unix.EIO)
		failing = false
		must(t, f.Sync())
		if got := contents(t, f); string(got) != "12345678" {
			t.Fatalf("after a failed sync: %q", got)
		}
		must(t, f.Evict(0, 0))
		seen := contents(t, f)
		durable, err := ReadFile(m.Crash(seed), "/a", 100)
		must(t, err)
		if !bytes.HasPrefix(seen, durable) || len(bytes.Trim(seen[len(durable):], "\x00")) > 0 {
			t.Fatalf("evicted view %q, device %q", seen, durable)
		}
		lost = lost || string(durable) != "12345678"
	}
	if !lost {
		t.Fatal("a failed sync never lost anything")
	}
}

// TestFault: calls fail when told to, and a short write leaves its part.
func TestFault(t *testing.T) {
	var fail OpKind
	fault := &Fault{FS: NewMem(1), Before: func(op Op) Outcome {
		if op.Kind == fail {
			return Outcome{Err: unix.EIO, Short: 3}
		}
		return Outcome{}
	}}
	f := create(t, fault, "/a")
	calls := map[OpKind]func() error{
		OpCreate:    func() error { _, err := fault.Create("/b"); return err },
		OpOpen:      func() error { _, err := fault.Open("/a"); return err },
		OpOpenWrite: func() error { _, err := fault.OpenWrite("/a"); return err },
		OpRemove:    func() error { return fault.Remove("/a") },
		OpRename:    func() error { return fault.Rename("/a", "/b") },
		OpMkdirAll:  func() error { return fault.MkdirAll("/d") },
		OpReadDir:   func() error { _, err := fault.ReadDir("/"); return err },
		OpStat:      func() error { _, err := fault.Stat("/a"); return err },
		OpSyncDir:   func() error { return fault.SyncDir("/") },
		OpRead:      func() error { _, err := f.ReadAt(make([]byte, 1), 0); return err },
		OpSync:      f.Sync,
		OpAllocate:  func() error { return f.Allocate(0, 1) },
		OpTruncate:  func() error { return f.Truncate(1) },
		OpSize:      func() error { _, err := f.Size(); return err },
		OpEvict:     func() error { return f.Evict(0, 0) },
	}
	for kind, call := range calls {
		fail = kind
		want(t, call(), unix.EIO)
	}
	fail = OpWrite
	n, err := f.WriteVAt([][]byte{[]byte("ab"), []byte("cd")}, 0)
	want(t, err, unix.EIO)
	fail = 0
	if got := contents(t, f); n != 3 || string(got) != "abc" {
		t.Fatalf("short write: %d, %q", n, got)
	}
}

// TestFlip changes one bit for programs and device alike.
func TestFlip(t *testing.T) {
	m := NewMem(1)
	f := create(t, m, "/a")
	writeAt(t, f, "abc", 0)
	must(t, f.Sync())
	must(t, m.SyncDir("/"))
	must(t, m.Flip("/a", 1, 1))
	for _, fsys := range []FS{m, m.Crash(1)} {
		if b, err := ReadFile(fsys, "/a", 10); err != nil || string(b) != "acc" {
			t.Fatalf("%q, %v", b, err)
		}
	}
	if m.Flip("/a", 3, 1) == nil {
		t.Fatal("a byte behind the end was flipped")
	}
}

// TestDirectWritesAreUnsynced: past the page cache is not on stable storage.
// The fates of such a write are those of any other one, and the Sync of either
// file ends them.
func TestDirectWritesAreUnsynced(t *testing.T) {
	m := NewMem(1)
	f := create(t, m, "/a")
	writeAt(t, f, strings.Repeat("-", 4*sector), 0)
	must(t, errors.Join(f.Sync(), m.SyncDir("/")))
	d, unit, err := m.OpenDirectWrite("/a")
	must(t, err)
	b := alignedBytes(2*unit, unit)
	for i := range b {
		b[i] = '+'
	}
	_, err = d.WriteVAt([][]byte{b}, int64(unit))
	must(t, err)
	lost, whole, torn := 0, 0, 0
	for seed := range uint64(200) {
		got, err := ReadFile(m.Crash(seed), "/a", 1<<20)
		must(t, err)
		switch n := strings.Count(string(got), "+"); n {
		case 0:
			lost++
		case 2 * unit:
			whole++
		default:
			torn++
		}
		if strings.Trim(string(got[:unit])+string(got[3*unit:]), "-") != "" {
			t.Fatalf("seed %d: bytes beside the write changed", seed)
		}
	}
	if lost == 0 || whole == 0 || torn == 0 {
		t.Fatalf("%d lost, %d whole, %d torn", lost, whole, torn)
	}
	must(t, f.Sync())
	for seed := range uint64(20) {
		got, err := ReadFile(m.Crash(seed), "/a", 1<<20)
		must(t, err)
		if strings.Count(string(got), "+") != 2*unit {
			t.Fatalf("seed %d: the sync of the other file did not cover the write", seed)
		}
	}
	fault := &Fault{FS: m, Before: func(op Op) Outcome {
		if op.Kind == OpWrite {
			return Outcome{Err: unix.EIO, Short: 5}
		}
		return Outcome{}
	}}
	d, _, err = fault.OpenDirectWrite("/a")
	must(t, err)
	b[0] = '*'
	n, err := d.WriteVAt([][]byte{b[:unit]}, 0)
	want(t, err, unix.EIO)
	if got := contents(t, f); n != 5 || string(got[:6]) != "*++++-" {
		t.Fatalf("%d bytes of a failing write: %q", n, got[:6])
	}
}
