package volume

import (
	"reflect"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/histogram"
	"hayloft/internal/vfs"
)

// TestEveryStepIsCounted goes through a life and wants each step in Steps, also
// that of a volume which shares them.
func TestEveryStepIsCounted(t *testing.T) {
	var steps Steps
	o := Options{FS: newMem(t, 1), AllocChunk: 4096, Steps: &steps}
	v, err := Create("/d", testIdent, o)
	if err != nil {
		t.Fatal(err)
	}
	mustAppend(t, v, testNeedle(1, 0, 700), testNeedle(1, 1, 90))
	mustAppend(t, v, testNeedle(2, 0, 80))
	mustRead(t, v, testNeedle(1, 0, 700))
	closeVolume(t, v) // with a checkpoint
	if v, err = Open("/d", 7, o); err != nil {
		t.Fatal(err)
	}
	before := steps.Snapshot()
	if before.BatchBytes.Count != 2 || before.BatchRecords.Count != 2 || before.Sync.Count != 2 || before.Write.Count != 2 ||
		before.Assemble.Count != 2 || before.Queue.Count != 2 || before.Append.Count != 2 || before.BatchBytes.Sum < 870 {
		t.Errorf("two puts: %+v", before)
	}
	mustSeal(t, v)
	if err := v.Delete(bg, 2); err != nil {
		t.Fatal(err)
	}
	next := mustCompact(t, v, CompactOptions{Generation: 2, Deletes: 1})
	mustRead(t, next, testNeedle(1, 0, 700))
	closeVolume(t, v)
	after := reflect.ValueOf(next.Steps())
	for i := range after.NumField() {
		if n := after.Field(i).FieldByName("Count").Uint(); n == 0 {
			t.Errorf("%s was not counted", after.Type().Field(i).Name)
		}
	}
	if n := next.Steps().Append.Count; n != 3 {
		t.Errorf("%d puts and deletes, want 3", n)
	}
	closeVolume(t, next)
}

// TestStepsAreOfElapsedTime: a disk that takes five seconds to sync, and a wall
// clock that is set back by an hour meanwhile, make a sync of five seconds.
func TestStepsAreOfElapsedTime(t *testing.T) {
	fake := clock.NewFake(time.Unix(1e9, 0))
	slow := false
	fs := &vfs.Fault{FS: newMem(t, 1), Before: func(op vfs.Op) vfs.Outcome {
		if slow && op.Kind == vfs.OpSync {
			fake.Advance(5 * time.Second)
			fake.Set(time.Unix(1e9, 0).Add(-time.Hour))
		}
		return vfs.Outcome{}
	}}
	v, err := Create("/d", testIdent, Options{FS: fs, AllocChunk: 4096, Clock: fake})
	if err != nil {
		t.Fatal(err)
	}
	slow = true
	mustAppend(t, v, testNeedle(1, 0, 700))
	slow = false
	s := v.Steps()
	for name, h := range map[string]histogram.Snapshot{"sync": s.Sync, "append": s.Append} {
		if h.Sum != 5*time.Second || h.Count != 1 {
			t.Errorf("%s: %+v", name, h)
		}
	}
	if s.Write.Sum != 0 || s.Queue.Sum != 0 {
		t.Errorf("write %+v, queue %+v", s.Write, s.Queue)
	}
	closeVolume(t, v)
}
