package raftgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hayloft/internal/clock"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// mirrored are options with n directories, 3 of them mirrors: two may be lost.
func mirrored(t testing.TB, n int, m Machine) Options {
	t.Helper()
	root := t.TempDir()
	var dirs []string
	for i := range n {
		dirs = append(dirs, filepath.Join(root, fmt.Sprintf("disk%d", i+1), "group"))
	}
	return Options{Dirs: dirs, Mirrors: 3, Name: "test", NodeID: "n1", Machine: m, Scratch: scratch}
}

func scratch() Machine { return newLedger() }

// untilMirrors waits until the group has that many mirrors, every directory knows
// it, and nothing is lost that is not in lost.
func untilMirrors(t *testing.T, g *Group, n int, lost ...string) {
	t.Helper()
	var st []MirrorState
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); yield() {
		st = g.Mirrors()
		have, homes := 0, 0
		for _, s := range st {
			if s.Mirror && !s.Copying {
				have++
			}
			if s.State {
				homes++
			}
			if s.Lost != nil && !slices.Contains(lost, s.Dir) {
				t.Fatalf("%s was lost: %v", s.Dir, s.Lost)
			}
		}
		g.mirrors.mu.Lock()
		for _, p := range g.mirrors.placesLocked() {
			if !p.told {
				have = -1
			}
		}
		g.mirrors.mu.Unlock()
		if have == n && homes == 1 {
			return
		}
	}
	t.Fatalf("not %d mirrors: %+v", n, st)
}

// copyTree copies a directory of files that may change meanwhile, as they are
// between two calls.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	for {
		before := listing(t, from)
		if err := os.RemoveAll(to); err != nil {
			t.Fatal(err)
		}
		again := false
		for _, name := range before {
			path, dest := filepath.Join(from, name), filepath.Join(to, name)
			st, err := os.Stat(path)
			if err == nil && st.IsDir() {
				err = os.MkdirAll(dest, 0o700)
			} else if err == nil {
				var b []byte
				if b, err = os.ReadFile(path); err == nil {
					err = os.WriteFile(dest, b, 0o600)
				}
			}
			if errors.Is(err, os.ErrNotExist) {
				again = true
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if !again && slices.Equal(before, listing(t, from)) {
			return
		}
	}
}

func listing(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err == nil {
			rel, _ := filepath.Rel(dir, path)
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// wipe empties a disk.
func wipe(t testing.TB, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		err := os.RemoveAll(filepath.Dir(dir))
		for n := 0; errors.Is(err, syscall.ENOTEMPTY) && n < 1000; n++ {
			err = os.RemoveAll(filepath.Dir(dir)) // the group makes files until it notices
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// filled makes a group in four directories and closes it.
func filled(t *testing.T, snapshot bool) (o Options, want map[string]uint64) {
	t.Helper()
	o = mirrored(t, 4, newLedger())
	o.TrailingLogs = 3
	g := mustOpen(t, o)
	for i := range uint64(20) {
		mustAdd(t, g, "a", 1, i+1)
	}
	if snapshot {
		if err := g.Checkpoint(); err != nil {
			t.Fatal(err)
		}
	}
	mustAdd(t, g, "b", 7, 7)
	untilMirrors(t, g, 3)
	mustClose(t, g)
	return o, map[string]uint64{"a": 20, "b": 7}
}

// TestAnyTwoDirectoriesLost wipes every set of up to two directories of a stopped
// group: nothing is lost, no command is needed, and there are three mirrors again
// in the same directories.
func TestAnyTwoDirectoriesLost(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		o, want := filled(t, snapshot)
		root := filepath.Dir(filepath.Dir(o.Dirs[0]))
		saved := filepath.Join(t.TempDir(), "saved")
		copyTree(t, root, saved)
		for set := range 1 << len(o.Dirs) {
			var lost []string
			for i, dir := range o.Dirs {
				if set>>i&1 == 1 {
					lost = append(lost, dir)
				}
			}
			if len(lost) > 2 {
				continue
			}
			t.Run(fmt.Sprintf("snapshot=%v, without %04b", snapshot, set), func(t *testing.T) {
				copyTree(t, saved, root)
				wipe(t, lost...)
				l := newLedger()
				o := o
				o.Machine = l
				g := mustOpen(t, o)
				if got := stateOf(t, g); !maps.Equal(got, want) || !maps.Equal(l.snapshot(), want) {
					t.Errorf("%v, in memory %v, want %v", got, l.snapshot(), want)
				}
				mustAdd(t, g, "a", 1, 21)
				untilMirrors(t, g, 3)
				mustClose(t, g)
				sameMirrors(t, o, 3)
			})
		}
	}
}

// sameMirrors opens the logs of a closed group: n of them hold the same.
func sameMirrors(t *testing.T, o Options, n int) {
	t.Helper()
	var rec *record
	for _, dir := range o.Dirs {
		r, err := readRecord(o.withDefaults().disk, dir)
		if err != nil || r == nil {
			t.Fatalf("record in %s: %v, %v", dir, r, err)
		}
		if rec != nil && (rec.Epoch != r.Epoch || !slices.Equal(rec.Mirrors, r.Mirrors)) {
			t.Errorf("records differ: %+v, %+v", rec, r)
		}
		rec = r
	}
	if len(rec.Mirrors) != n {
		t.Errorf("%d mirrors in the record", len(rec.Mirrors))
	}
	var first []raft.Log
	for i, m := range rec.Mirrors {
		var all []raft.Log
		withLog(t, m.Dir, func(s store) error {
			lo, hi, _, err := verify(s)
			for i := lo; err == nil && i <= hi && i > 0; i++ {
				var l *raft.Log
				if l, err = readEntry(s, i); err == nil {
					all = append(all, *l)
				}
			}
			if id, terr := getTag(s, mirrorKey); terr != nil || id != m.ID {
				t.Errorf("%s: tag %x, %v; the record says %x", m.Dir, id, terr, m.ID)
			}
			return err
		})
		if i == 0 {
			first = all
		} else if len(all) != len(first) || all[len(all)-1].Index != first[len(first)-1].Index {
			t.Errorf("%s holds %d entries, the first mirror %d", m.Dir, len(all), len(first))
		}
		if names, err := filepath.Glob(filepath.Join(m.Dir, oldPrefix+"*")); err != nil || len(names) > 0 {
			t.Errorf("left behind: %v, %v", names, err)
		}
	}
}

// TestNothingIsBootstrapped: a group whose disks are missing is never taken for a
// new one, and the line says where it is.
func TestNothingIsBootstrapped(t *testing.T) {
	for name, c := range map[string]struct {
		change func(t *testing.T, o *Options)
		says   []string // parts of the error; numbers stand for directories
	}{
		"only the one without a mirror is given": {func(t *testing.T, o *Options) { o.Dirs = o.Dirs[3:] }, []string{"disk1", "disk2", "disk3", "name all of them"}},
		"all mirrors are wiped":                  {func(t *testing.T, o *Options) { wipe(t, o.Dirs[:3]...) }, []string{"disk1", "disk2", "disk3", "none of them has it"}},
		"two are given less":                     {func(t *testing.T, o *Options) { o.Dirs = o.Dirs[2:] }, []string{"disk1", "disk2", "name all of them"}},
		"one is given less":                      {func(t *testing.T, o *Options) { o.Dirs = o.Dirs[1:] }, []string{"disk1", "name all of them"}},
		"all logs are gone": {func(t *testing.T, o *Options) {
			for _, d := range o.Dirs[:3] {
				remove(t, filepath.Join(d, logName))
			}
		}, []string{"disk1", "disk2", "disk3", "raft.db is gone"}},
		"all are damaged, each in another way": {func(t *testing.T, o *Options) {
			remove(t, one(t, o.Dirs[0], "snapshots/*"))
			flip(t, one(t, o.Dirs[1], "snapshots/*/meta"), 30)
			if err := os.Truncate(filepath.Join(o.Dirs[2], logName), 12<<10); err != nil {
				t.Fatal(err)
			}
		}, []string{"disk1", "the newest snapshot ends at 0", "disk2", "checksum", "disk3", "12288 bytes of"}},
	} {
		t.Run(name, func(t *testing.T) {
			o, _ := filled(t, true)
			all := o.Dirs
			c.change(t, &o)
			before := logFiles(all)
			_, err := Open(t.Context(), o)
			if err == nil {
				t.Fatal("a group was opened")
			}
			for _, s := range c.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q is missing in: %v", s, err)
				}
			}
			var missing *MissingError
			if !errors.As(err, &missing) && !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v is neither missing nor corrupt", err)
			}
			if after := logFiles(all); !slices.Equal(before, after) {
				t.Errorf("logs before: %v, after: %v", before, after)
			}
		})
	}
}

func logFiles(dirs []string) (out []string) {
	for _, d := range dirs {
		if st, err := os.Stat(filepath.Join(d, logName)); err == nil {
			out = append(out, fmt.Sprint(d, st.Size()))
		}
	}
	return out
}

// TestReplacedDisk: a directory under another path takes the place of one that was
// lost.
func TestReplacedDisk(t *testing.T) {
	o, want := filled(t, true)
	o.Dirs[0] = filepath.Join(t.TempDir(), "new")
	o.Machine = newLedger()
	g := mustOpen(t, o)
	untilMirrors(t, g, 3)
	if got := stateOf(t, g); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	mustClose(t, g)
	sameMirrors(t, o, 3)
}

// TestForeignMirror: a directory that holds another group is refused, and left
// alone.
func TestForeignMirror(t *testing.T) {
	o, _ := filled(t, false)
	other := closedGroup(t)
	o.Dirs = append(o.Dirs, other)
	if _, err := Open(t.Context(), o); !errors.Is(err, ErrForeign) {
		t.Errorf("%v", err)
	}
	// A disk that comes back with one while the group runs is passed over.
	o.Dirs = o.Dirs[:4]
	g := mustOpen(t, o)
	g.Lost(o.Dirs[1], errDisk)
	untilMirrors(t, g, 3, o.Dirs[1])
	g.Lost(o.Dirs[0], errDisk)
	wipe(t, o.Dirs[0])
	copyTree(t, other, o.Dirs[0])
	before := logFiles(o.Dirs[:1])
	g.Usable(o.Dirs[0])
	for g.Mirrors()[0].Lost == nil || !errors.Is(g.Mirrors()[0].Lost, ErrForeign) {
		yield()
	}
	mustAdd(t, g, "a", 1, 21)
	mustClose(t, g)
	if after := logFiles(o.Dirs[:1]); !slices.Equal(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// TestForeignRecord: a directory with another group's files is there again just
// before a record is written everywhere. It keeps its own.
func TestForeignRecord(t *testing.T) {
	o, _ := filled(t, false)
	other := closedGroup(t)
	g := mustOpen(t, o)
	untilMirrors(t, g, 3)
	dir := o.Dirs[3]
	g.Lost(dir, errDisk)
	wipe(t, dir)
	copyTree(t, other, dir)
	before := logFiles([]string{dir})
	record := func() string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, recordName))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	was := record()
	g.mirrors.opMu.Lock()
	g.Usable(dir)
	err := g.mirrors.publish()
	g.mirrors.opMu.Unlock()
	if err != nil || !errors.Is(g.Mirrors()[3].Lost, ErrForeign) {
		t.Errorf("%v, lost: %v", err, g.Mirrors()[3].Lost)
	}
	mustAdd(t, g, "a", 1, 21)
	mustClose(t, g)
	if record() != was || !slices.Equal(before, logFiles([]string{dir})) {
		t.Error("the other group's files were changed")
	}
}

// TestEarlierVersion: a directory without tags and record becomes the first
// mirror, and two of them are refused.
func TestEarlierVersion(t *testing.T) {
	plain := func(dir string) {
		remove(t, filepath.Join(dir, recordName))
		withLog(t, dir, func(s store) error {
			conn := s.(boltStore)
			return errors.Join(conn.Set(birthKey, make([]byte, 16)), conn.Set(mirrorKey, make([]byte, 16)))
		})
	}
	o := mirrored(t, 4, newLedger())
	old := closedGroup(t)
	plain(old)
	copyTree(t, old, o.Dirs[1])
	g := mustOpen(t, o)
	untilMirrors(t, g, 3)
	want := map[string]uint64{"a": 10, "b": 5}
	if got := stateOf(t, g); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	mustClose(t, g)
	sameMirrors(t, o, 3)
	two := mirrored(t, 2, newLedger())
	copyTree(t, old, two.Dirs[0])
	copyTree(t, old, two.Dirs[1])
	if _, err := Open(t.Context(), two); !errors.Is(err, ErrForeign) {
		t.Errorf("two: %v", err)
	}
}

// TestStaleMirror: a mirror that was away while the group went on never counts
// again, neither beside the others nor alone with a directory that knows better.
func TestStaleMirror(t *testing.T) {
	o, _ := filled(t, true)
	saved := filepath.Join(t.TempDir(), "saved")
	copyTree(t, o.Dirs[0], saved)
	wipe(t, o.Dirs[0])
	g := mustOpen(t, o)
	mustAdd(t, g, "a", 1, 21)
	untilMirrors(t, g, 3)
	mustClose(t, g)
	wipe(t, o.Dirs[0])
	copyTree(t, saved, o.Dirs[0])
	root, before := filepath.Dir(filepath.Dir(o.Dirs[0])), filepath.Join(t.TempDir(), "before")
	copyTree(t, root, before)
	for name, c := range map[string]struct {
		wiped []string
		opens bool
	}{
		"beside the others":               {nil, true},
		"and the second is lost":          {o.Dirs[1:2], true},
		"beside one that is not a mirror": {o.Dirs[1:3], false},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			copyTree(t, before, root)
			wipe(t, c.wiped...)
			o.Machine = newLedger()
			g, err := Open(t.Context(), o)
			if !c.opens {
				if err == nil || !strings.Contains(err.Error(), "older set") {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			mustAdd(t, g, "a", 1, 22)
			untilMirrors(t, g, 3)
			mustClose(t, g)
			sameMirrors(t, o, 3)
		})
	}
}

// badStore fails or hangs from some call on.
type badStore struct {
	store
	mu    sync.Mutex
	fail  bool
	hang  chan struct{} // nil: it does not
	calls int
}

func (s *badStore) before() error {
	s.mu.Lock()
	s.calls++
	fail, hang := s.fail, s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if fail {
		return errDisk
	}
	return nil
}

func (s *badStore) StoreLogs(l []*raft.Log) error {
	if err := s.before(); err != nil {
		return err
	}
	return s.store.StoreLogs(l)
}

func (s *badStore) GetLog(i uint64, l *raft.Log) error {
	s.mu.Lock()
	fail := s.fail
	s.mu.Unlock()
	if fail {
		return errDisk
	}
	return s.store.GetLog(i, l)
}

// bad wraps every store and keeps the last one of each directory.
func bad(o *Options) map[string]*badStore {
	all := map[string]*badStore{}
	var mu sync.Mutex
	o.wrapStore = func(dir string, s store) store {
		mu.Lock()
		defer mu.Unlock()
		all[dir] = &badStore{store: s}
		return all[dir]
	}
	return all
}

// TestAcknowledgedByAll: a command is acknowledged when every mirror has it, in
// whatever order they come; and without one that failed only when the others'
// records say so.
func TestAcknowledgedByAll(t *testing.T) {
	o := mirrored(t, 3, newLedger())
	o.Clock = clock.NewFake(time.Unix(1e9, 0)) // nobody runs out of patience
	stores := bad(&o)
	g := mustOpen(t, o)
	untilMirrors(t, g, 3)
	calls := func(dir string) int {
		stores[dir].mu.Lock()
		defer stores[dir].mu.Unlock()
		return stores[dir].calls
	}
	for i, dir := range o.Dirs {
		before := map[string]int{}
		for _, d := range o.Dirs {
			before[d] = calls(d)
		}
		gate := make(chan struct{})
		stores[dir].mu.Lock()
		stores[dir].hang = gate
		stores[dir].mu.Unlock()
		answered := make(chan error, 1)
		go func() { _, err := g.Propose(context.Background(), addCmd("a", 1)); answered <- err }()
		for _, d := range o.Dirs {
			for calls(d) == before[d] {
				yield()
			}
		}
		for range 10_000 { // the others end meanwhile
			yield()
			select {
			case err := <-answered:
				t.Fatalf("acknowledged, %v, and %s does not have it", err, dir)
			default:
			}
		}
		stores[dir].mu.Lock()
		stores[dir].hang = nil
		stores[dir].mu.Unlock()
		close(gate)
		if err := <-answered; err != nil {
			t.Fatalf("command %d: %v", i, err)
		}
	}
	stores[o.Dirs[0]].mu.Lock()
	stores[o.Dirs[0]].fail = true
	stores[o.Dirs[0]].mu.Unlock()
	mustAdd(t, g, "a", 1, 4)
	for _, dir := range o.Dirs[1:] {
		r, err := readRecord(g.opts.disk, dir)
		if err != nil || len(r.Mirrors) != 2 || slices.Contains(r.dirs(), o.Dirs[0]) {
			t.Errorf("acknowledged without %s, and the record in %s says %+v, %v", o.Dirs[0], dir, r, err)
		}
	}
	mustClose(t, g)
}

// TestMirrorFails: a mirror whose write fails is replaced by the directory that is
// left, its log is written no more, and the last one stops the group.
func TestMirrorFails(t *testing.T) {
	o := mirrored(t, 4, newLedger())
	stores := bad(&o)
	g := mustOpen(t, o)
	untilMirrors(t, g, 3)
	mustAdd(t, g, "a", 1, 1)
	for i, dir := range o.Dirs {
		stores[dir].mu.Lock()
		stores[dir].fail = true
		calls := stores[dir].calls
		stores[dir].mu.Unlock()
		if i == 3 {
			break
		}
		mustAdd(t, g, "a", 1, uint64(2*i+2))
		untilMirrors(t, g, min(3, 3-i), o.Dirs[:i+1]...)
		mustAdd(t, g, "a", 1, uint64(2*i+3))
		if i == 0 && stores[dir].calls > calls+1 {
			t.Errorf("%d calls of a mirror that failed", stores[dir].calls-calls)
		}
	}
	if _, err := g.Propose(t.Context(), addCmd("a", 1)); !errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("%v", err)
	}
	if _, err := g.Propose(t.Context(), addCmd("a", 1)); !errors.Is(err, ErrStopped) || !errors.Is(err, errDisk) {
		t.Fatalf("%v", err)
	}
	mustClose(t, g)
	o.wrapStore = nil
	o.Machine = newLedger()
	g = mustOpen(t, o)
	if got := stateOf(t, g)["a"]; got < 7 || got > 9 {
		t.Errorf("%d", got)
	}
	untilMirrors(t, g, 3)
	mustClose(t, g)
	sameMirrors(t, o, 3)
}

// TestMirrorHangs: a mirror that does not answer holds the group up for Patience,
// once.
func TestMirrorHangs(t *testing.T) {
	for _, n := range []int{2, 3} { // with and without a directory to replace it
		clk := clock.NewFake(time.Unix(1e9, 0))
		o := mirrored(t, n, newLedger())
		o.Mirrors, o.Clock = 2, clk
		stores := bad(&o)
		g := mustOpen(t, o)
		untilMirrors(t, g, 2)
		mustAdd(t, g, "a", 1, 1)
		hang := make(chan struct{})
		stores[o.Dirs[0]].mu.Lock() // the state's
		stores[o.Dirs[0]].hang = hang
		stores[o.Dirs[0]].mu.Unlock()
		answered := make(chan error, 1)
		go func() { _, err := g.Propose(context.Background(), addCmd("a", 1)); answered <- err }()
		var err error
	wait:
		for {
			select {
			case err = <-answered:
				break wait
			default:
				if g.Mirrors()[0].Lost == nil {
					clk.Advance(100 * time.Millisecond) // some of it passes before the other has answered
				}
				yield()
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		untilMirrors(t, g, n-1, o.Dirs[0])
		mustAdd(t, g, "a", 1, 3)
		if st := g.Mirrors(); !errors.Is(st[0].Lost, errHangs) || !st[1].State {
			t.Errorf("%+v", st)
		}
		close(hang)
		mustClose(t, g)
		o.wrapStore, o.Clock = nil, nil
		g = mustOpen(t, o)
		mustAdd(t, g, "a", 1, 4)
		mustClose(t, g)
	}
}

// monotone is a ledger that must not go back while the group runs.
type monotone struct {
	*ledger
	t    *testing.T
	mu   *sync.Mutex
	last map[string]uint64
}

func (m monotone) watch() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.ledger.snapshot()
	for k, v := range m.last {
		if now[k] < v {
			m.t.Errorf("%s went back from %d to %d", k, v, now[k])
		}
	}
	maps.Copy(m.last, now)
}

func (m monotone) Applied(db *pebble.DB, i uint64) { m.ledger.Applied(db, i); m.watch() }

func (m monotone) Restored(db *pebble.DB) error {
	defer m.watch()
	return m.ledger.Restored(db)
}

// TestStateMoves removes the directories that hold the state under a running
// group, under load: it goes on in the same process, and the machine never sees
// the world as it was before.
func TestStateMoves(t *testing.T) {
	for _, tell := range []bool{true, false} {
		for _, snapshots := range []uint64{0, 40} {
			t.Run(fmt.Sprintf("told=%v, snapshots=%d", tell, snapshots), func(t *testing.T) {
				l := monotone{newLedger(), t, &sync.Mutex{}, map[string]uint64{}}
				o := mirrored(t, 4, l)
				o.SnapshotEntries, o.TrailingLogs = snapshots, 5
				g := mustOpen(t, o)
				var mu sync.Mutex
				acked := map[string]uint64{}
				stop := make(chan struct{})
				var wg sync.WaitGroup
				for w := range 3 {
					wg.Go(func() {
						key := fmt.Sprintf("k%d", w)
						for i := uint64(1); ; i++ {
							select {
							case <-stop:
								return
							default:
							}
							v, err := g.Propose(context.Background(), addCmd(key, 1))
							if err != nil || v != i {
								t.Errorf("%s: %v, %v, want %d", key, v, err, i)
								return
							}
							mu.Lock()
							acked[key] = i
							mu.Unlock()
						}
					})
				}
				atLeast := func(n uint64) {
					for {
						mu.Lock()
						enough := len(acked) == 3
						for _, v := range acked {
							enough = enough && v >= n
						}
						mu.Unlock()
						if enough || t.Failed() {
							return
						}
						yield()
					}
				}
				atLeast(30)
				wipe(t, o.Dirs[0])
				if tell {
					g.Lost(o.Dirs[0], errDisk)
				}
				atLeast(60)
				untilMirrors(t, g, 3, o.Dirs[0])
				if st := g.Mirrors(); st[0].Lost == nil || !st[1].State {
					t.Errorf("%+v", st)
				}
				wipe(t, o.Dirs[1])
				if tell {
					g.Lost(o.Dirs[1], errDisk)
				}
				atLeast(90)
				g.Usable(o.Dirs[0]) // a new disk
				g.Usable(o.Dirs[1])
				untilMirrors(t, g, 3, o.Dirs[:2]...)
				close(stop)
				wg.Wait()
				have := stateOf(t, g)
				if !maps.Equal(have, acked) || !maps.Equal(l.snapshot(), acked) {
					t.Errorf("%v, in memory %v, acknowledged %v", have, l.snapshot(), acked)
				}
				mustClose(t, g)
				sameMirrors(t, o, 3)
				o.Machine = newLedger()
				g = mustOpen(t, o)
				if got := stateOf(t, g); !maps.Equal(got, acked) {
					t.Errorf("opened again: %v, acknowledged %v", got, acked)
				}
				mustClose(t, g)
			})
		}
	}
}

// TestLastOneLost: without a mirror the group stops and says why.
func TestLastOneLost(t *testing.T) {
	o := mirrored(t, 2, newLedger())
	o.Mirrors = 2
	g := mustOpen(t, o)
	untilMirrors(t, g, 2)
	mustAdd(t, g, "a", 1, 1)
	for _, d := range o.Dirs {
		g.Lost(d, errDisk)
	}
	if _, err := g.Propose(t.Context(), addCmd("a", 1)); !errors.Is(err, ErrStopped) || !errors.Is(err, errDisk) {
		t.Errorf("%v", err)
	}
	for _, d := range o.Dirs {
		if !strings.Contains(g.Leading().Error(), d) {
			t.Errorf("%s is not named in %v", d, g.Leading())
		}
	}
	mustClose(t, g)
	g = mustOpen(t, o)
	mustAdd(t, g, "a", 1, 2)
	mustClose(t, g)
}
