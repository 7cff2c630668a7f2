package server_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

func (h *house) write(name, text string) {
	h.t.Helper()
	if err := vfs.WriteFile(h.mem, name, []byte(text)); err != nil {
		h.t.Fatal(err)
	}
}

// Files that are nobody's of Hayloft are moved aside, whole. What may be ours, or a
// newer program's, stays where it is.
func TestScrubForeignFiles(t *testing.T) {
	h := newHouse(t, sixDisks())
	all := h.fill(originals, 6, 20_000)
	h.encodeAll()
	h.released()
	epoch := strings.Split(h.shardFiles("/disk1")[0], "/")[3]
	foreign := []string{"/disk1/volumes/notes.txt", "/disk1/volumes/0000001-1.vol", "/disk1/shards/notes.txt", "/disk1/shards/" + epoch + "/notes.txt", "/disk1/volumes/empty"}
	stay := []string{
		"/disk1/volumes/00000099-00000001.vol", "/disk1/volumes/00000099-00000001.idx", "/disk1/volumes/00000099.deletes",
		"/disk1/volumes/00000001-00000001.vol.bak", "/disk1/volumes/00000001-00000001.hints", "/disk1/volumes/.00000001-00000001.vol.x8Zq1",
		"/disk1/volumes/renamed", "/disk1/shards/00000001-00000001.tar", "/disk1/shards/" + epoch + "/00000001.future",
		"/disk1/shards/00000099-00000001/00000099-00000001-00000001-00.shard", "/disk1/volumes/folder/file", "/disk1/notes.txt",
	}
	for _, dir := range []string{"/disk1/shards/00000099-00000001", "/disk1/volumes/folder"} {
		if err := h.mem.MkdirAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range append(slices.Clone(foreign), stay...) {
		h.write(name, "this is "+name)
	}
	h.write("/disk1/volumes/empty", "")
	h.write("/disk1/volumes/renamed", "HAYLOFTV and so on")
	h.forget()
	sum := h.scrub()
	if sum.Quarantined != int64(len(foreign)) || sum.Corrupt != 0 || sum.Unrepairable != 0 {
		t.Errorf("%+v", sum)
	}
	for _, name := range foreign {
		if _, err := h.mem.Stat(name); err == nil {
			t.Errorf("%s is where it was", name)
		}
	}
	for _, name := range stay {
		if _, err := h.mem.Stat(name); err != nil {
			t.Error(err)
		}
	}
	held, err := h.mem.ReadDir("/disk1/quarantine")
	if err != nil || len(held) != len(foreign) {
		t.Fatalf("%v, %v", held, err)
	}
	told := make(map[string]string) // where a file is now: where it was
	for _, f := range h.scrubbed(server.EventScrubFound) {
		if f.Kind == server.ScrubForeign {
			_, to, _ := strings.Cut(f.Err.Error(), "is quarantine/")
			to, _, _ = strings.Cut(to, " now")
			told[to] = f.Dir + "/" + f.File
		}
	}
	for _, n := range held {
		if text := h.bytesOf("/disk1/quarantine/" + n); text != "" && text != "this is "+told[n] {
			t.Errorf("%s holds %q, and was %q by the event", n, text, told[n])
		}
	}
	h.checkAll(all)
	if sum := h.scrub(); sum.Quarantined != 0 {
		t.Errorf("once more: %+v", sum)
	}
}

// An unfinished file is told of when it was there, the same, at the look before.
func TestScrubLeftovers(t *testing.T) {
	h := newHouse(t, sixDisks())
	h.fill(originals, 6, 20_000)
	h.encodeAll()
	h.released()
	h.write("/disk2/volumes/00000001-00000001.vol.tmp", "half")
	h.write("/disk2/volumes/00000099-00000001.q0000.vol", "kept, and no leftover")
	h.write("/disk2/volumes/00000099-00000001.q0000.poisoned", "kept, and no leftover")
	name := h.shardFiles("/disk2")[0] + ".tmp"
	h.write(name, "half")
	if sum := h.scrub(); sum.Notes != 0 || sum.Quarantined != 0 {
		t.Errorf("at first: %+v", sum)
	}
	h.forget()
	if sum := h.scrub(); sum.Notes != 2 || sum.Corrupt != 0 {
		t.Errorf("then: %+v", sum)
	}
	for _, f := range h.scrubbed(server.EventScrubFound) {
		if f.Kind != server.ScrubLeftover || !strings.HasSuffix(f.File, ".tmp") {
			t.Errorf("%+v", f)
		}
	}
}

// A volume that the directory has on a disk and that is not there, and one that cannot
// be opened.
func TestScrubMissesVolumes(t *testing.T) {
	h := newHouse(t, server.Options{Maintenance: 1 << 40})
	h.fill(originals, 2, 20_000)
	v := h.info(writing).Volume
	if err := h.s.Seal(t.Context(), v, nil); err != nil {
		t.Fatal(err)
	}
	h.stop()
	name := volume.FileName(v, 1)
	h.copyFile("/data/volumes/"+name, "/data/kept")
	if err := h.mem.Remove("/data/volumes/" + name); err != nil {
		t.Fatal(err)
	}
	h.start()
	see := func(kind server.ScrubKind) {
		t.Helper()
		h.forget()
		if sum := h.scrub(); sum.Corrupt != 1 || sum.Unrepairable != 1 {
			t.Errorf("%s: %+v", kind, sum)
		}
		for _, f := range h.scrubbed(server.EventScrubFound) {
			if f.Kind != kind || f.File != "volumes/"+name || f.Volume != v {
				t.Errorf("%+v, want %s", f, kind)
			}
		}
	}
	see(server.ScrubMissing)
	h.stop()
	h.write("/data/volumes/"+name, "")
	h.start()
	see(server.ScrubUnopened)
}

// scrubLines are the words of the state file for each item.
func (h *house) scrubLines(dir string) map[string]string {
	out := make(map[string]string)
	for _, line := range strings.Split(h.bytesOf(dir+"/scrub"), "\n") {
		if part := strings.Split(line, " "); len(part) == 3 && strings.ContainsAny(part[2], "/d") && part[0] != "hayloft" {
			out[part[2]] = part[0]
		}
	}
	return out
}

// What was asked for goes on after a restart where it was, and is not begun again; a
// state that is lost or damaged is.
func TestScrubResumes(t *testing.T) {
	o := server.Options{Maintenance: 1 << 40, SealAfter: 10 * 365 * 24 * time.Hour}
	h := newHouse(t, o)
	for range 6 {
		h.fill(originals, 4, 50_000)
		if err := h.s.Seal(t.Context(), h.info(writing).Volume, nil); err != nil {
			t.Fatal(err)
		}
	}
	h.stop()
	h.opts.Maintenance = 64 << 10
	h.start()
	if err := h.s.ScrubStart(); err != nil {
		t.Fatal(err)
	}
	h.wait("a part of the scrub", func() bool { return h.s.ScrubStatus().Disks[0].ReadItems >= 3 })
	h.stop()
	before := h.scrubLines("/data")
	var read, due []string
	for item, word := range before {
		switch word {
		case "read":
			read = append(read, item)
		case "due":
			due = append(due, item)
		}
	}
	if len(read) < 3 || len(due) < 2 {
		t.Fatalf("%v", before)
	}
	h.opts.ScrubEvery = 14 * 24 * time.Hour
	h.start()
	h.wait("the rest of it", func() bool { d := h.s.ScrubStatus().Disks[0]; return d.Items > 0 && d.DueItems == 0 })
	if d := h.s.ScrubStatus().Disks[0]; d.ReadItems != uint64(len(due)) {
		t.Errorf("%d items were read after the restart, %d were due", d.ReadItems, len(due))
	}
	h.stop()
	for what, spoil := range map[string]func(){
		"damaged": func() { h.write("/data/scrub", strings.Replace(h.bytesOf("/data/scrub"), "read", "seen", 1)) },
		"another": func() { h.write("/data/scrub", "hayloft scrub 2\n") },
		"lost": func() {
			if err := h.mem.Remove("/data/scrub"); err != nil {
				t.Fatal(err)
			}
		},
	} {
		spoil()
		h.start()
		if sum := h.scrub(); sum.Items != int64(len(before)) {
			t.Errorf("%s: %+v, want %d items", what, sum, len(before))
		}
		h.stop()
	}
	h.start()
}

// By itself everything is read once in the period, spread over it, beginning with what
// was not read for longest.
func TestScrubSchedule(t *testing.T) {
	o := sixDisks()
	o.ScrubEvery, o.SealAfter, o.Dirs = 14*24*time.Hour, 10*365*24*time.Hour, o.Dirs[:3]
	o.Coding.Data, o.Coding.Parity = 2, 1
	h := newHouse(t, o)
	h.fill(originals, 12, 30_000)
	h.encodeAll()
	h.released()
	begun := h.clock.Now()
	reads := func() (n uint64, items int64) {
		for _, d := range h.s.ScrubStatus().Disks {
			n, items = n+d.ReadItems, items+d.Items
		}
		return n, items
	}
	if n, _ := reads(); n > 0 {
		t.Errorf("%d items are read at once", n)
	}
	for day := 1; day <= 30; day++ {
		for range 24 {
			h.clock.Advance(time.Hour)
		}
		h.until("nothing to be behind", func() bool {
			for _, d := range h.s.ScrubStatus().Disks {
				if limit := 14*24*time.Hour + 2*time.Hour; h.clock.Now().Sub(d.Oldest) > limit {
					h.clock.Advance(time.Second)
					return false
				}
			}
			return true
		})
		n, items := reads()
		if age := h.clock.Now().Sub(begun); float64(n) > float64(items)*(age.Hours()/24/10+0.3) {
			t.Fatalf("after %v %d reads of %d items: more than are due", age, n, items)
		}
	}
	if n, items := reads(); int64(n) < 2*items {
		t.Errorf("%d reads of %d items in 30 days", n, items)
	}
	if n := len(h.scrubbed(server.EventScrubFound)); n > 0 {
		t.Errorf("%d findings: %+v", n, h.scrubbed(server.EventScrubFound)[0])
	}
}

// A disk that goes out in the middle ends its part, and the others are read all the
// same. What it could not answer for is no finding.
func TestScrubLosesADisk(t *testing.T) {
	o := sixDisks()
	o.WatchEvery, o.RepairDelay = time.Second, 1000*time.Hour
	blocked, free := make(chan struct{}), make(chan struct{})
	var armed atomic.Bool
	mem := vfs.NewMem(3)
	o.FS = &vfs.Fault{FS: mem, Before: func(op vfs.Op) vfs.Outcome {
		if op.Kind == vfs.OpRead && strings.HasPrefix(op.Name, "/disk3/shards") && armed.CompareAndSwap(true, false) {
			close(blocked)
			<-free
		}
		return vfs.Outcome{}
	}}
	h := newHouse(t, o)
	h.mem = mem
	h.fill(originals, 12, 30_000)
	h.encodeAll()
	h.released()
	armed.Store(true)
	type result struct {
		sum server.ScrubTotals
		err error
	}
	done := make(chan result, 1)
	go func() {
		sum, err := h.s.ScrubNow(context.Background(), nil)
		done <- result{sum, err}
	}()
	h.until("the read that hangs", func() bool {
		select {
		case <-blocked:
			return true
		default:
			return false
		}
	})
	if err := h.mem.Remove("/disk3/disk.id"); err != nil {
		t.Fatal(err)
	}
	var got *result
	looks := 0
	h.until("the end of the scrub", func() bool {
		if looks++; looks%100 == 1 { // slowly: the other disks must not look as if they hung
			h.clock.Advance(time.Second)
		}
		select {
		case r := <-done:
			got = &r
			return true
		default:
			return false
		}
	})
	close(free)
	if !errors.Is(got.err, server.ErrDiskOut) || got.sum.Corrupt != 0 {
		t.Errorf("%+v, %v", got.sum, got.err)
	}
	if got.sum.Items < 30 {
		t.Errorf("only %d items of the other disks were read", got.sum.Items)
	}
	for _, f := range h.scrubbed(server.EventScrubFound) {
		t.Errorf("%+v", f)
	}
}

// Beside traffic a scrub has a quarter of its rate.
func TestScrubYields(t *testing.T) {
	const rate = 256 << 10
	o := server.Options{Maintenance: rate, NoUpkeep: true}
	h := newHouse(t, o)
	all := h.fill(originals, 20, 100_000)
	took := func(traffic bool) time.Duration {
		t.Helper()
		begun := h.clock.Elapsed()
		before := h.s.ScrubStatus().Disks[0].ReadBytes
		done := make(chan error, 1)
		go func() {
			_, err := h.s.ScrubNow(context.Background(), nil)
			done <- err
		}()
		h.until("the scrub", func() bool {
			if traffic {
				h.check(all[0])
			}
			h.clock.Advance(100 * time.Millisecond)
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
				return true
			default:
				return false
			}
		})
		if n := h.s.ScrubStatus().Disks[0].ReadBytes - before; n < 20*100_000 {
			t.Errorf("%d bytes were read", n)
		}
		return h.clock.Elapsed() - begun
	}
	least := time.Duration(20 * 100_000 * int64(time.Second) / rate)
	if quiet := took(false); quiet < least-time.Second {
		t.Errorf("%v for what takes %v", quiet, least)
	}
	if busy := took(true); busy < 4*(least-time.Second) {
		t.Errorf("%v beside traffic for what takes %v without", busy, least)
	}
}

// A scrub that waits for its pace keeps no stop waiting, and those who wait for it hear
// of that. Who asks meanwhile joins it.
func TestScrubEndsWithTheServer(t *testing.T) {
	h := newHouse(t, server.Options{Maintenance: 1000})
	h.fill(originals, 3, 50_000)
	ended := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := h.s.ScrubNow(context.Background(), nil)
			ended <- err
		}()
	}
	h.until("the scrub", func() bool { return h.s.ScrubStatus().Disks[0].ReadBytes > 0 })
	if st := h.s.ScrubStatus(); !st.Running || st.Disks[0].Reading == "" || st.Total == 0 {
		t.Errorf("%+v", st)
	}
	h.stop()
	for range 2 {
		if err := <-ended; !errors.Is(err, server.ErrClosed) {
			t.Error(err)
		}
	}
	h.start()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.s.ScrubNow(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if !h.s.ScrubStatus().Running {
		t.Error("the scrub ended with who asked for it")
	}
}
