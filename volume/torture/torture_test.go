package torture

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

// liarEnv makes the test binary a writer; its value says how it lies.
const liarEnv = "HAYLOFT_TORTURE_LIAR"

func TestMain(m *testing.M) {
	if lie := os.Getenv(liarEnv); lie != "" {
		if err := liar(lie); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// liar is a writer whose disk lies: the test of the test.
func liar(lie string) error {
	o := WriterOptions{Out: os.Stdout, FS: vfs.OS{}}
	for i, a := range os.Args {
		var err error
		switch a {
		case "--dir":
			o.Dir = os.Args[i+1]
		case "--seed":
			o.Seed, err = strconv.ParseUint(os.Args[i+1], 10, 64)
		case "--round":
			o.Round, err = strconv.Atoi(os.Args[i+1])
		}
		if err != nil {
			return err
		}
	}
	var err error
	if o.Earlier, err = ReadRefs(os.Stdin); err != nil {
		return err
	}
	switch lie {
	case "forgets":
		o.FS = &lyingFS{FS: vfs.OS{}, forgets: true}
	case "never syncs":
		o.FS = &lyingFS{FS: vfs.OS{}}
	case "ends":
		return nil
	}
	return Writer(context.Background(), o)
}

// lyingFS either never syncs, or forgets one write in fifty, and says that all
// went well.
type lyingFS struct {
	vfs.FS
	forgets bool
}

func (f *lyingFS) wrap(g vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &lyingFile{File: g, forgets: f.forgets}, nil
}

func (f *lyingFS) OpenWrite(name string) (vfs.File, error) { return f.wrap(f.FS.OpenWrite(name)) }

func (f *lyingFS) OpenDirectWrite(name string) (vfs.File, int, error) {
	g, unit, err := f.FS.OpenDirectWrite(name)
	g, err = f.wrap(g, err)
	return g, unit, err
}

type lyingFile struct {
	vfs.File
	forgets bool
	writes  int // the engine writes from one goroutine
}

func (f *lyingFile) Sync() error {
	if f.forgets {
		return f.File.Sync()
	}
	return nil
}

func (f *lyingFile) WriteVAt(bufs [][]byte, off int64) (int, error) {
	if f.writes++; !f.forgets || f.writes%50 != 0 {
		return f.File.WriteVAt(bufs, off)
	}
	n := 0
	for _, b := range bufs {
		n += len(b)
	}
	return f.File.WriteVAt([][]byte{make([]byte, n)}, off)
}

// torture runs the test binary as the writer.
func torture(t *testing.T, lie string, rounds int, d *Disk) *Result {
	t.Helper()
	t.Setenv(liarEnv, lie)
	o := Options{Dir: t.TempDir(), Rounds: rounds, Seed: uint64(time.Now().UnixNano()), Writer: []string{os.Args[0]}, Disk: d}
	t.Logf("seed %d", o.Seed)
	if d != nil {
		o.Dir = filepath.Join(d.Dir(), "volumes")
		if err := (vfs.OS{}).MkdirAll(o.Dir); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Run(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s\n%s", b.String(), strings.Join(r.Details, "\n"))
	return r
}

// TestKillHonest wants nothing lost of a writer on an honest disk.
func TestKillHonest(t *testing.T) {
	r := torture(t, "honest", 5, nil)
	if !r.OK() || r.Puts == 0 || r.Verified == 0 || r.Rounds != 5 {
		t.Fatalf("%+v", r)
	}
}

// TestKillFindsLoss wants the loss on a disk that forgets writes to be found,
// or no run of the torture would prove anything.
func TestKillFindsLoss(t *testing.T) {
	if r := torture(t, "forgets", 30, nil); r.Lost+r.Damaged+r.Unexpected == 0 || r.OK() {
		t.Fatalf("the disk lost writes and nobody saw it: %+v", r)
	}
}

// TestWriterThatEnds wants a writer that ends by itself to be a fault.
func TestWriterThatEnds(t *testing.T) {
	if r := torture(t, "ends", 20, nil); r.Unexpected != 1 {
		t.Fatalf("%+v", r)
	}
}

// cannotMount tries loop devices without our code; it returns why they do not
// work here, or "".
func cannotMount(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("unshare", "-m", "sh", "-e", "-c", `
		truncate -s 8M image; mkdir mnt; mkfs.ext4 -q -F image
		mount -o loop image mnt; umount mnt`)
	cmd.Dir = t.TempDir()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Sprintf("%v: %s", err, bytes.TrimSpace(out))
	}
	return ""
}

// TestPowerFindsLoss wants a power cut to lose what was not synced.
func TestPowerFindsLoss(t *testing.T) {
	why := cannotMount(t)
	d, err := NewDisk(t.TempDir())
	if why != "" {
		t.Logf("no power is cut on this machine: %s", why)
		if err == nil {
			t.Errorf("a disk was made nevertheless: %v", d.Close())
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}()
	if r := torture(t, "never syncs", 20, d); r.OK() {
		t.Fatalf("the writer never synced, and power cuts lost nothing: %+v", r)
	}
}

// TestLedger goes through what a verification may meet.
func TestLedger(t *testing.T) {
	const v = volume.ID(1)
	say := func(l *ledger, dying bool, what verb) {
		if err := l.note(line{what, v, 7, "because"}, dying, false); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		how   string
		lines []verb
		late  []verb // said after the crash began
		put   putState
		del   delState
		ok    bool
	}{
		{"acknowledged", "kill", []verb{sayPutting, sayStored}, nil, putStored, delNone, true},
		{"under way", "kill", []verb{sayPutting}, nil, putTried, delNone, true},
		{"refused", "kill", []verb{sayPutting, sayRefused}, nil, putAbsent, delNone, true},
		{"said before a kill, read after", "kill", []verb{sayPutting}, []verb{sayStored}, putStored, delNone, true},
		{"said after the power went", "power", []verb{sayPutting}, []verb{sayStored}, putTried, delNone, true},
		{"failed for no reason", "kill", []verb{sayPutting, sayFailed}, nil, putTried, delNone, false},
		{"failed after the power went", "power", []verb{sayPutting}, []verb{sayFailed}, putTried, delNone, true},
		{"delete under way", "kill", []verb{sayPutting, sayStored, sayDeleting}, nil, putStored, delTried, true},
		{"deleted", "kill", []verb{sayPutting, sayStored, sayDeleting, sayDeleted}, nil, putStored, delDone, true},
		{"wrong", "kill", []verb{sayPutting, sayStored, sayWrong}, nil, putStored, delNone, false},
	} {
		r := &Result{How: c.how}
		l := newLedger(r)
		for _, w := range c.lines {
			say(l, false, w)
		}
		for _, w := range c.late {
			say(l, true, w)
		}
		e := l.books[v].keys[7]
		if e.put != c.put || e.del != c.del || r.OK() != c.ok {
			t.Errorf("%s: %+v, %+v", c.name, e, r)
		}
	}
	l := newLedger(&Result{})
	if err := l.note(line{sayStored, v, 7, ""}, false, false); err == nil {
		t.Error("an acknowledgement without a put was taken")
	}
}

func TestSettle(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after entry
		found         int64
		absent        uint8
		lost          int64
	}{
		{"whole", entry{}, entry{put: putStored}, 2, 0, 0},
		{"absent", entry{}, entry{put: putAbsent}, 0, 3, 0},
		{"in part", entry{}, entry{put: putStored, absent: 2}, 1, 2, 0},
		{"deleted", entry{put: putStored, del: delTried}, entry{put: putStored, del: delDone}, 0, 3, 0},
		{"not deleted", entry{put: putStored, del: delTried}, entry{put: putStored}, 2, 0, 0},
		{"half deleted", entry{put: putStored, del: delTried}, entry{put: putStored, del: delTried}, 1, 1, 1},
	} {
		l := newLedger(&Result{})
		e := c.before
		l.settle(&e, c.found, c.absent, 2, c.name)
		if e.put != c.after.put || e.del != c.after.del || e.absent != c.after.absent || l.result.Lost != c.lost {
			t.Errorf("%s: %+v, lost %d", c.name, e, l.result.Lost)
		}
	}
}

func TestWire(t *testing.T) {
	var b bytes.Buffer
	r := reporter{out: &b}
	r.say(sayFailed, 3, 1<<63, "two\nlines "+strings.Repeat("x", 10000))
	if b.Len() > 4096 || strings.Count(b.String(), "\n") != 1 {
		t.Fatalf("%d bytes, %d lines", b.Len(), strings.Count(b.String(), "\n"))
	}
	l, err := parseLine(b.String())
	if err != nil || l.what != sayFailed || l.v != 3 || l.key != 1<<63 || !strings.HasPrefix(l.text, "two lines xxx") {
		t.Fatal(l, err)
	}
	for _, bad := range []string{"", "stored", "stored 1 2", "stored x 2 ", "stored 1 -2 ", "stored 99999999999 2 "} {
		if l, err := parseLine(bad + "\n"); err == nil {
			t.Errorf("%q is %+v", bad, l)
		}
	}
	refs := []Ref{{1, 2}, {4, 1 << 60}}
	got, err := ReadRefs(strings.NewReader(writeRefs(refs)))
	if err != nil || len(got) != 2 || got[0] != refs[0] || got[1] != refs[1] {
		t.Fatal(got, err)
	}
	if _, err := ReadRefs(strings.NewReader("1 x\n")); err == nil {
		t.Fatal("nonsense was taken for a key")
	}
}

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Dir: "x", Writer: []string{"y"}}, {Dir: "x", Rounds: 1}, {Dir: "x", Writer: []string{"y"}, Rounds: -1}} {
		if _, err := Run(context.Background(), o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
}

// TestStopped wants a run that is interrupted to leave no process.
func TestStopped(t *testing.T) {
	t.Setenv(liarEnv, "honest")
	ctx, cancel := context.WithCancel(context.Background())
	o := Options{Dir: t.TempDir(), For: time.Hour, Seed: 1, Writer: []string{os.Args[0]}, Progress: func(*Result) { cancel() }}
	if r, err := Run(ctx, o); err == nil || r.Rounds != 1 || !r.OK() {
		t.Fatal(r, err)
	}
}
