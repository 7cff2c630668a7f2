package steward

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hayloft/directory"
	"hayloft/directory/fleet"
	"hayloft/directory/plan"
	"hayloft/internal/clock"
)

// rig is a steward of a real directory, with nodes that are up or away as it says.
type rig struct {
	t       *testing.T
	dir     *directory.Directory
	clock   *clock.Fake
	steward *Steward
	other   *Steward // of another node

	leads    bool
	away     map[string]time.Duration
	disks    map[string][]fleet.DiskState
	carried  string
	events   []Event
	refusing error // of AddReplica
	slots    uint16
}

// newRig makes nodes a, b, … with a disk of 1000 bytes each: 1, 2, …
func newRig(t *testing.T, nodes int) *rig {
	r := &rig{t: t, clock: clock.NewFake(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)), leads: true, away: map[string]time.Duration{}, disks: map[string][]fleet.DiskState{}}
	d, err := directory.Open(t.Context(), directory.Options{Dirs: []string{t.TempDir()}, Member: "m", Clock: r.clock})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	r.dir = d
	for i := range nodes {
		name := string(rune('a' + i))
		n := got(d.RegisterNode(t.Context(), directory.NodeSpec{Name: name}))(t)
		disk := got(d.RegisterDisk(t.Context(), directory.DiskSpec{Node: n.ID, UUID: [16]byte{byte(i + 1)}, Capacity: 1000}))(t)
		r.disks[name] = []fleet.DiskState{{Disk: fleet.Disk{Disk: uint32(disk.ID), Free: 1000, Capacity: 1000, InService: true}}}
	}
	o := Options{Directory: r, Fleet: r, Leadership: r, Peers: r, Clock: r.clock, RepairDelay: time.Hour, Events: func(e Event) { r.events = append(r.events, e) }}
	r.steward = got(New(o))(t)
	o.Leadership = follower{}
	r.other = got(New(o))(t)
	return r
}

func got[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

type follower struct{}

func (follower) Leader() (string, bool) { return "a", true }
func (follower) Leading() bool          { return false }

func (r *rig) Leader() (string, bool) { return "a", r.leads }
func (r *rig) Leading() bool          { return r.leads }

func (r *rig) Call(ctx context.Context, node string, req []byte) ([]byte, error) {
	if node != "a" {
		return nil, errors.New("nobody")
	}
	return r.steward.Serve(ctx, "b", req)
}

func (r *rig) View() *fleet.View {
	v := &fleet.View{Leader: "a"}
	for _, n := range r.dir.Map().Nodes() {
		away, is := r.away[n.Name]
		v.Nodes = append(v.Nodes, fleet.Node{Name: n.Name, Up: !is, Away: away, Disks: r.disks[n.Name]})
	}
	return v
}

func (r *rig) Carry(text string) error {
	r.carried = text
	return nil
}
func (r *rig) Carried() string     { return r.carried }
func (r *rig) Map() *directory.Map { return r.dir.Map() }

func (r *rig) AddReplica(ctx context.Context, v directory.VolumeID, d directory.DiskID, sync uint32) (directory.Volume, error) {
	if r.refusing != nil {
		return directory.Volume{}, r.refusing
	}
	return r.dir.AddReplica(ctx, v, d, sync)
}

func (r *rig) RemoveReplica(ctx context.Context, v directory.VolumeID, d directory.DiskID, sync uint32) (directory.Volume, error) {
	return r.dir.RemoveReplica(ctx, v, d, sync)
}

func (r *rig) SetTarget(ctx context.Context, v directory.VolumeID, target int, sync uint32) (directory.Volume, error) {
	return r.dir.SetTarget(ctx, v, target, sync)
}

func (r *rig) SetNodeState(ctx context.Context, n directory.NodeID, s directory.Duty) (directory.Node, error) {
	return r.dir.SetNodeState(ctx, n, s)
}

func (r *rig) SetDiskState(ctx context.Context, d directory.DiskID, s directory.Duty) (directory.Disk, error) {
	return r.dir.SetDiskState(ctx, d, s)
}

// volume makes one of 100 bytes that is sealed on disks.
func (r *rig) volume(target int, disks ...directory.DiskID) directory.VolumeID {
	r.t.Helper()
	v := r.open(target, disks...)
	ctx := r.t.Context()
	l := got(r.dir.AcquireSlot(ctx, directory.AcquireRequest{Node: 1, Incarnation: 9, Worker: r.slots, Kind: directory.Originals}))(r.t)
	if err := r.dir.CloseTile(ctx, l, l.From+5); err != nil {
		r.t.Fatal(err)
	}
	got(r.dir.SealVolume(ctx, v, 1, disks, directory.Seal{Digest: [32]byte{1}, Needles: 1, Bytes: 100, DataBytes: 50, Sealed: 1}))(r.t)
	return v
}

func (r *rig) open(target int, disks ...directory.DiskID) directory.VolumeID {
	r.t.Helper()
	ctx := r.t.Context()
	r.slots++
	l := got(r.dir.AcquireSlot(ctx, directory.AcquireRequest{Node: 1, Incarnation: 9, Worker: r.slots, Kind: directory.Originals}))(r.t)
	v := got(r.dir.OpenVolume(ctx, l, disks, target, l.From))(r.t)
	got(r.dir.ConfirmVolume(ctx, v.ID, 1, 9))(r.t)
	return v.ID
}

func (r *rig) row(v directory.VolumeID) directory.Volume {
	row, _ := r.dir.Map().Volume(v)
	return row
}

// join has replicas of a volume come in sync.
func (r *rig) join(v directory.VolumeID) {
	r.t.Helper()
	for _, d := range r.row(v).Replicas {
		if row := r.row(v); !row.Synced(d) {
			got(r.dir.JoinSync(r.t.Context(), v, d, row.Generation, row.Sync, 0))(r.t)
		}
	}
}

// oneMore has a volume on one more disk.
func (r *rig) oneMore(v directory.VolumeID, d directory.DiskID) {
	r.t.Helper()
	got(r.dir.AddReplica(r.t.Context(), v, d, r.row(v).Sync))(r.t)
	r.join(v)
}

func (r *rig) round() {
	r.clock.Advance(2 * time.Second)
	r.steward.round(r.t.Context())
}

// settle lets it take over.
func (r *rig) settle() {
	r.round()
	r.clock.Advance(10 * time.Second)
}

// told are the events since the last time, as text.
func (r *rig) told() (out []string) {
	for _, e := range r.events {
		switch e.Kind {
		case EventStep:
			out = append(out, fmt.Sprintf("%s %d on %d (%s)", e.Step.Op, e.Step.Volume, e.Step.Disk, e.Step.Cause))
		case EventFilled:
			out = append(out, fmt.Sprintf("filled %d on %d (%s), %d bytes", e.Volume, e.Disk, e.Cause, e.Bytes))
		case EventSlow:
			out = append(out, fmt.Sprintf("slow %d on %d", e.Volume, e.Disk))
		case EventGone:
			out = append(out, fmt.Sprintf("gone node %d disk %d", e.Node, e.Disk))
		case EventFailed:
			out = append(out, "failed: "+e.Err.Error())
		default:
			out = append(out, string(e.Kind))
		}
	}
	r.events = nil
	return out
}

func (r *rig) expect(want ...string) {
	r.t.Helper()
	if got := r.told(); !slices.Equal(got, want) {
		r.t.Errorf("it did %q, want %q", got, want)
	}
}

// A node is lost: what it had is made elsewhere after the delay, and then it is
// counted. One that only was away for a while costs nothing.
func TestRepair(t *testing.T) {
	r := newRig(t, 3)
	v := r.volume(2, 1, 2)
	r.settle()
	r.round()
	r.away["b"] = time.Hour - 1
	r.round()
	r.expect()
	r.away["b"] = time.Hour
	r.round()
	r.round()
	r.expect("add 1 on 3 (repair)")
	if s := r.steward.Status(); len(s.Fills) != 1 || s.Fills[0].Cause != plan.Repair || s.Fills[0].Seconds != 2 || !s.Fills[0].Up || s.Filling.Bytes != 100 || len(s.Lost) != 1 || s.Lost[0] != 2 || s.Survives[plan.ByNode].May != 0 {
		t.Errorf("%+v", s)
	}
	r.join(v)
	r.round()
	r.expect("filled 1 on 3 (repair), 100 bytes", "remove 1 on 2 (repair)")
	if got := r.steward.Filled()[plan.Repair]; got != (Total{1, 100}) {
		t.Errorf("%+v", got)
	}
	delete(r.away, "b")
	r.round()
	r.expect()
	if s := r.steward.Status(); len(s.Fills)+s.Lacking+len(s.Ahead) != 0 || s.Survives[plan.ByNode].May != 1 {
		t.Errorf("%+v", s)
	}
}

// What a node wrote when it was alone gets as many replicas as is usual in the cluster
// it joins, once it is sealed. What has more keeps them.
func TestRaise(t *testing.T) {
	r := newRig(t, 3)
	r.steward.o.Replicas = 2
	v, three := r.volume(1, 1), r.volume(3, 1, 2, 3)
	open := r.open(1, 1)
	if s := r.steward.Status(); s.Ahead["raise"].Steps != 1 {
		t.Errorf("before: %+v", s)
	}
	r.settle()
	r.round()
	r.round()
	got := r.told()
	if len(got) != 1 || !strings.HasPrefix(got[0], "add 1 on ") || !strings.HasSuffix(got[0], "(raise)") {
		t.Errorf("it did %q", got)
	}
	if a, b, c := r.row(v), r.row(three), r.row(open); a.Target != 2 || len(a.Replicas) != 2 || b.Target != 3 || len(b.Replicas) != 3 || c.Target != 1 {
		t.Errorf("%+v\n%+v\n%+v", a, b, c)
	}
	r.steward.o.Replicas = 1 // the next leader
	r.join(v)
	r.round()
	if a := r.row(v); a.Target != 2 || len(a.Replicas) != 2 {
		t.Errorf("lowered: %+v", a)
	}
}

// A node that comes back stops its repair.
func TestReturn(t *testing.T) {
	r := newRig(t, 3)
	r.volume(2, 1, 2)
	r.settle()
	r.away["b"] = time.Hour
	r.round()
	delete(r.away, "b")
	r.round()
	r.round()
	r.expect("add 1 on 3 (repair)", "remove 1 on 3 (return)")
	if len(r.steward.Filled()) != 0 {
		t.Error("counted what was taken back")
	}
}

// A new leader listens first, then goes on with what the rows say.
func TestTakingOver(t *testing.T) {
	r := newRig(t, 3)
	v := r.volume(2, 1, 2)
	r.away["b"] = time.Hour
	r.steward.round(t.Context())
	r.clock.Advance(10*time.Second - 1)
	r.steward.round(t.Context())
	r.expect()
	r.clock.Advance(1)
	r.steward.round(t.Context())
	r.expect("add 1 on 3 (repair)")
	r.leads = false
	r.round()
	r.leads = true
	r.settle()
	r.round()
	r.expect()
	r.join(v)
	r.round()
	r.expect("filled 1 on 3 (), 100 bytes", "remove 1 on 2 (repair)")
}

// Few fill themselves at once, on a disk and in all; what does not come to an end
// stands in nobody's way.
func TestThrottle(t *testing.T) {
	r := newRig(t, 4)
	var vs []directory.VolumeID
	for range 6 {
		vs = append(vs, r.volume(2, 1, 2))
	}
	r.settle()
	r.away["b"] = time.Hour
	r.round()
	r.round()
	if got := r.told(); len(got) != 2 {
		t.Fatalf("disk 1 is read for %q", got)
	}
	r.steward.o.Fills = 1
	r.steward.o.DiskFills = 9
	r.join(vs[0])
	r.round()
	r.round()
	if got := r.told(); len(got) != 2 || !strings.HasPrefix(got[0], "filled 1") || !strings.HasPrefix(got[1], "remove 1") {
		t.Fatalf("%q", got)
	}
	r.clock.Advance(patience + time.Minute)
	r.round()
	r.round()
	if got := r.told(); len(got) != 2 || !strings.HasPrefix(got[0], "slow 2") || !strings.HasPrefix(got[1], "add 3") {
		t.Fatalf("%q", got)
	}
	if s := r.steward.Status(); s.Filling.Steps != 2 || !s.Fills[0].Slow || s.Ahead["repair"].Bytes != 300 {
		t.Errorf("%+v", s)
	}
}

// What is drained is emptied and stays in the table; what is decommissioned is gone
// when nothing is there. A volume that is open is waited for.
func TestDrainAndDecommission(t *testing.T) {
	r := newRig(t, 3)
	ctx := t.Context()
	v := r.volume(2, 1, 2)
	open := r.open(2, 2, 3)
	r.settle()
	if f := r.other.Foresee(Whatif{Node: 2}); len(f.Steps) != 2 || f.Bytes != 100 || f.Left.Replicas != 2 || f.Left.Unsealed != 1 || len(f.Lacks) != 1 {
		t.Errorf("%+v", f)
	}
	got(r.dir.SetNodeState(ctx, 2, directory.Draining))(t)
	i := got(r.other.Ask(ctx, Change{Node: 2}))(t)
	if !slices.Equal(i.Nodes, []directory.NodeID{2}) {
		t.Errorf("%+v", i)
	}
	r.round()
	r.expect("add 1 on 3 (drain)")
	r.join(v)
	r.round()
	r.round()
	r.expect("filled 1 on 3 (drain), 100 bytes", "remove 1 on 2 (drain)")
	s := r.other.Status()
	if len(s.Leaving) != 1 || s.Leaving[0].Then != "gone" || s.Leaving[0].Left.Replicas != 1 || s.Leaving[0].Left.Unsealed != 1 || s.Lacking != 1 {
		t.Errorf("%+v", s)
	}
	row := r.row(open)
	l := got(r.dir.AcquireSlot(ctx, directory.AcquireRequest{Node: 1, Incarnation: 9, Worker: r.slots, Kind: directory.Originals}))(t)
	if err := r.dir.CloseTile(ctx, l, row.From+5); err != nil {
		t.Fatal(err)
	}
	got(r.dir.SealVolume(ctx, open, 1, []directory.DiskID{2, 3}, directory.Seal{Digest: [32]byte{1}, Bytes: 100, Sealed: 1}))(t)
	r.round()
	r.join(open)
	r.round()
	r.round()
	r.expect("add 2 on 1 (drain)", "filled 2 on 1 (drain), 100 bytes", "remove 2 on 2 (drain)", "gone node 2 disk 0")
	if n, _ := r.dir.Map().Node(2); n.State != directory.Gone || r.carried != "" {
		t.Errorf("%+v, carried %q", n, r.carried)
	}
}

// A drain that is called off leaves nothing behind.
func TestDrainCalledOff(t *testing.T) {
	r := newRig(t, 3)
	ctx := t.Context()
	r.volume(2, 1, 2)
	r.settle()
	got(r.dir.SetDiskState(ctx, 2, directory.Draining))(t)
	got(r.steward.Ask(ctx, Change{Disk: 2}))(t)
	r.round()
	got(r.dir.SetDiskState(ctx, 2, directory.Active))(t)
	got(r.steward.Ask(ctx, Change{Disk: 2, Keep: true}))(t)
	r.round()
	r.round()
	r.expect("add 1 on 3 (drain)", "remove 1 on 3 (return)")
	if r.carried != "" {
		t.Errorf("carried %q", r.carried)
	}
}

func TestBalance(t *testing.T) {
	r := newRig(t, 3)
	for range 4 {
		r.volume(2, 1, 2)
	}
	free := func() {
		for i, n := range []string{"a", "b", "c"} {
			used := int64(0)
			for _, v := range r.dir.Map().Volumes() {
				if v.On(directory.DiskID(i + 1)) {
					used += 100
				}
			}
			r.disks[n][0].Free = 1000 - used
		}
	}
	free()
	r.settle()
	r.round()
	r.expect()
	f := r.steward.Foresee(Whatif{Balance: 0.1})
	if f.Bytes != 200 && f.Bytes != 300 {
		t.Errorf("%+v", f)
	}
	b := 0.1
	got(r.other.Ask(t.Context(), Change{Balance: &b}))(t)
	for range 10 {
		r.round()
		for _, v := range r.dir.Map().Volumes() {
			r.join(v.ID)
		}
		free()
	}
	told := r.told()
	if n := len(told); n < 7 || told[n-1] != "balanced" || r.carried != "" {
		t.Errorf("%q, carried %q", told, r.carried)
	}
	if got := r.steward.Filled()[plan.Balance].Bytes; got != f.Bytes {
		t.Errorf("%d bytes moved, %d foreseen", got, f.Bytes)
	}
}

// Disks that an operator does not wait for are replaced at once, until they are back.
func TestRepairNow(t *testing.T) {
	r := newRig(t, 3)
	v := r.volume(2, 1, 2)
	r.settle()
	r.away["b"] = time.Second
	if f := r.steward.Foresee(Whatif{}); len(f.Steps) != 0 {
		t.Errorf("%+v", f)
	}
	if f := r.steward.Foresee(Whatif{Now: true}); len(f.Steps) != 2 || f.Bytes != 100 {
		t.Errorf("%+v", f)
	}
	r.round()
	r.expect()
	got(r.steward.Ask(t.Context(), Change{Lost: []directory.DiskID{2}}))(t)
	r.round()
	r.join(v)
	r.round()
	r.expect("add 1 on 3 (repair)", "filled 1 on 3 (repair), 100 bytes", "remove 1 on 2 (repair)")
	if s := r.steward.Status(); !slices.Equal(s.Intent.Lost, []directory.DiskID{2}) {
		t.Errorf("%+v", s.Intent)
	}
	delete(r.away, "b")
	r.round()
	if r.carried != "" {
		t.Errorf("carried %q", r.carried)
	}
}

// A row that is refused keeps nothing else from being done, and the reason is told.
func TestRefusedSteps(t *testing.T) {
	r := newRig(t, 3)
	r.volume(2, 1, 2)
	r.oneMore(r.volume(1, 1), 2)
	r.settle()
	r.refusing = directory.ErrInvalid
	got(r.dir.SetNodeState(t.Context(), 2, directory.Draining))(t)
	r.round()
	told := r.told()
	if len(told) != 2 || told[0] != "remove 2 on 2 (drain)" || !strings.Contains(told[1], "volume 1: add a replica on disk 3") {
		t.Errorf("%q", told)
	}
	if s := r.steward.Status(); !strings.Contains(s.Failure, "volume 1") {
		t.Errorf("%+v", s)
	}
	r.refusing = directory.ErrStale
	r.round()
	r.expect()
	if s := r.steward.Status(); s.Failure != "" {
		t.Errorf("%+v", s)
	}
}

func TestAsk(t *testing.T) {
	r := newRig(t, 1)
	ctx := t.Context()
	for _, b := range []float64{-1, 1, 7} {
		if _, err := r.other.Ask(ctx, Change{Balance: &b}); !errors.Is(err, ErrInvalid) {
			t.Errorf("a balance of %v: %v", b, err)
		}
	}
	for _, bad := range []string{"", "{", `{"v":2}`, strings.Repeat(" ", maxRequest+1)} {
		if _, err := r.steward.Serve(ctx, "b", []byte(bad)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
	r.carried = `{"v":9}` // of a later version: it stays
	if _, err := r.steward.Ask(ctx, Change{Disk: 1}); err == nil || r.carried != `{"v":9}` {
		t.Errorf("%v, carried %q", err, r.carried)
	}
	r.leads = false
	if _, err := r.steward.Ask(ctx, Change{Disk: 1}); !errors.Is(err, ErrNoLeader) {
		t.Errorf("%v", err)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no options are fine")
	}
}

// Run looks every few seconds, and when it is kicked.
func TestRun(t *testing.T) {
	r := newRig(t, 3)
	r.oneMore(r.volume(1, 1), 2)
	done := make(chan Event, 16)
	r.steward.o.Events = func(e Event) { done <- e }
	r.steward.o.Settle = 1
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		r.steward.Run(ctx)
		close(ended)
	}()
	for r.clock.Waiters() == 0 { // the first round began its settling
		<-time.After(time.Millisecond)
	}
	r.clock.Advance(time.Second)
	r.steward.Kick()
	if e := <-done; e.Kind != EventStep || e.Step.Op != plan.Remove {
		t.Errorf("%+v", e)
	}
	cancel()
	<-ended
}

// Disks that the fleet does not know, or only its node, are not up.
func TestCluster(t *testing.T) {
	r := newRig(t, 2)
	r.disks["b"] = nil
	m := r.dir.Map()
	c := Cluster(m, r.View())
	if !c.Up(1) || c.Up(2) || len(c.Lost(1)) != 0 {
		t.Error("a disk that nobody speaks of is up, or lost")
	}
	if c := Cluster(m, r.View(), 1, 2); !c.Up(1) || !slices.Equal(c.Lost(time.Hour), []directory.DiskID{2}) {
		t.Error("lost is not what was said, or what is up")
	}
	if c := Cluster(m, &fleet.View{}); c.Up(1) {
		t.Error("up without anybody having said so")
	}
}
