package lifecycle

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

func run(epoch uint32, encoder uint64, gen uint8) Run {
	return Run{Epoch: epoch, Encoder: encoder, Data: 2, Parity: 1, Source: source(gen), IndexBytes: 5, Homes: []Disk{1, 2, 3}}
}

var shards = digests(1, [disks]uint8{7, 7, 7})

// life is a row in each of its states, by the real commands.
func life(t *testing.T) map[string]Row {
	t.Helper()
	rows := map[string]Row{}
	var row Row
	step := func(name string, next Row, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		row, rows[name] = next, next
	}
	step("unsealed", row, nil)
	next, err := row.Replace(source(1))
	step("sealed", next, err)
	next, err = row.Begin(run(1, 7, 1))
	step("coding", next, err)
	next, err = row.Commit(1, 7, shards, at(10))
	step("coded", next, err)
	next, err = row.Release(1, shards, at(11), grace)
	step("released", next, err)
	next, err = row.Replace(source(2))
	step("sealed again", next, err)
	next, err = row.Begin(run(2, 8, 2))
	step("coding again", next, err)
	next, err = row.Commit(2, 8, shards, at(20))
	step("coded again", next, err)
	return rows
}

func TestStates(t *testing.T) {
	rows := life(t)
	for name, want := range map[string]State{"unsealed": Unsealed, "sealed": Sealed, "coding": Coding, "coded": Coded, "released": Released,
		"sealed again": Sealed, "coding again": Coding, "coded again": Coded} {
		if got := rows[name].State(); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	// The epoch before serves until the source of the next one is released.
	again := rows["coded again"]
	if !again.Readable(1) || !again.Readable(2) || again.MayRemoveShards(1) || again.MayRemoveShards(3) || again.MayRemoveSource(2) || !again.MayRemoveSource(1) {
		t.Error("in the grace of the second epoch")
	}
	last, err := again.Release(2, shards, at(30), grace)
	if err != nil || last.Readable(1) || !last.MayRemoveShards(1) || last.MayRemoveShards(2) || !last.MayRemoveSource(2) {
		t.Errorf("after it: %+v, %v", last, err)
	}
	back, err := again.Revoke(2)
	if err != nil || !back.Readable(1) || back.Readable(2) || !back.MayRemoveShards(2) || back.State() != Sealed {
		t.Errorf("revoked: %+v, %v", back, err)
	}
	if rows["coding"].MayWrite(1, 8) || !rows["coding"].MayWrite(1, 7) || rows["coded"].MayWrite(1, 7) {
		t.Error("who may write")
	}
}

// TestCommands tries each command on each row: what it may not do changes
// nothing and says why.
func TestCommands(t *testing.T) {
	rows := life(t)
	short := run(1, 7, 1)
	short.Homes = short.Homes[1:]
	other := run(1, 7, 1)
	other.Homes = []Disk{1, 2, 4}
	crowd := run(1, 7, 1)
	crowd.Homes = []Disk{1, 2, 1}
	longer := run(1, 7, 1)
	longer.IndexBytes++
	negative := run(1, 7, 1)
	negative.IndexBytes = -1
	commands := map[string]struct {
		do   func(Row) (Row, error)
		took string // rows on which it changes something
		same string // rows on which it is a repetition
		want error  // on the others
	}{
		"seal":              {func(r Row) (Row, error) { return r.Replace(source(1)) }, "unsealed", "sealed, coding, coded, released", ErrRefused},
		"replace by 2":      {func(r Row) (Row, error) { return r.Replace(source(2)) }, "unsealed, sealed, released", "sealed again, coding again, coded again", ErrRefused},
		"replace by none":   {func(r Row) (Row, error) { return r.Replace(Source{}) }, "", "", ErrInvalid},
		"begin":             {func(r Row) (Row, error) { return r.Begin(run(1, 7, 1)) }, "sealed", "coding", ErrRefused},
		"begin elsewhere":   {func(r Row) (Row, error) { return r.Begin(other) }, "sealed", "", ErrRefused},
		"begin another":     {func(r Row) (Row, error) { return r.Begin(run(2, 8, 1)) }, "coding", "", ErrRefused},
		"begin again":       {func(r Row) (Row, error) { return r.Begin(run(2, 8, 2)) }, "sealed again", "coding again", ErrRefused},
		"begin with 2":      {func(r Row) (Row, error) { return r.Begin(short) }, "", "", ErrInvalid},
		"begin on 2 disks":  {func(r Row) (Row, error) { return r.Begin(crowd) }, "", "", ErrInvalid},
		"begin longer":      {func(r Row) (Row, error) { return r.Begin(longer) }, "sealed", "", ErrRefused},
		"begin shorter":     {func(r Row) (Row, error) { return r.Begin(negative) }, "", "", ErrInvalid},
		"commit":            {func(r Row) (Row, error) { return r.Commit(1, 7, shards, at(10)) }, "coding", "coded, released, sealed again, coding again", ErrRefused},
		"commit of another": {func(r Row) (Row, error) { return r.Commit(1, 8, shards, at(10)) }, "", "", ErrRefused},
		"abort":             {func(r Row) (Row, error) { return r.Abort(1, 7) }, "coding", "unsealed, sealed, coded again", ErrRefused},
		"abort of another":  {func(r Row) (Row, error) { return r.Abort(2, 7) }, "", "unsealed, sealed, coding, coded, released, sealed again, coding again", ErrRefused},
		"revoke":            {func(r Row) (Row, error) { return r.Revoke(1) }, "coded", "", ErrRefused},
		"release":           {func(r Row) (Row, error) { return r.Release(1, shards, at(11), grace) }, "coded", "released, sealed again, coding again", ErrRefused},
		"release too early": {func(r Row) (Row, error) { return r.Release(1, shards, at(11), time.Minute) }, "", "released, sealed again, coding again", ErrRefused},
		"release unseen":    {func(r Row) (Row, error) { return r.Release(1, shards[:2], at(11), grace) }, "", "released, sealed again, coding again", ErrRefused},
		"move":              {func(r Row) (Row, error) { return r.Move(1, 2, 9, shards[2]) }, "coded, released, sealed again, coding again", "", ErrRefused},
		"move of another":   {func(r Row) (Row, error) { return r.Move(1, 2, 9, shards[1]) }, "", "", ErrRefused},
	}
	in := func(list, name string) bool {
		for _, n := range strings.Split(list, ", ") {
			if n == name {
				return true
			}
		}
		return false
	}
	for what, c := range commands {
		for name, row := range rows {
			got, err := c.do(row)
			if bad := got.Validate(); bad != nil {
				t.Errorf("%s when %s: %v", what, name, bad)
			}
			switch changed := !reflect.DeepEqual(got, row); {
			case in(c.took, name):
				if err != nil || !changed {
					t.Errorf("%s when %s: changed %v, %v", what, name, changed, err)
				} else if twice, err := c.do(got); err != nil || twice != got || !reflect.DeepEqual(twice, got) {
					t.Errorf("%s when %s, twice: %v", what, name, err)
				}
			case in(c.same, name):
				if err != nil || changed {
					t.Errorf("%s when %s, as a repetition: changed %v, %v", what, name, changed, err)
				}
			case !errors.Is(err, c.want) || changed || err.Error() == "":
				t.Errorf("%s when %s: changed %v, %v, want %v", what, name, changed, err, c.want)
			}
		}
	}
	coded := rows["coded"]
	if _, err := coded.Move(1, 3, 9, shards[2]); !errors.Is(err, ErrInvalid) {
		t.Errorf("move of shard 3: %v", err)
	}
	if _, err := coded.Move(1, 2, 1, shards[2]); !errors.Is(err, ErrInvalid) {
		t.Errorf("two shards on one disk: %v", err)
	}
	if _, err := coded.Revoke(0); !errors.Is(err, ErrRefused) {
		t.Errorf("revoke of no epoch: %v", err)
	}
	if _, err := rows["coding"].Commit(1, 7, shards[:2], at(10)); !errors.Is(err, ErrInvalid) {
		t.Errorf("commit of two shards: %v", err)
	}
	if moved, _ := coded.Move(1, 2, 9, shards[2]); coded.Committed.Homes[2] != 3 || moved.Committed.Homes[2] != 9 {
		t.Error("a move changed the row before it")
	}
	end := rows["sealed"]
	end.Epoch = 1<<32 - 1
	if _, err := end.Begin(run(0, 7, 1)); !errors.Is(err, ErrRefused) {
		t.Errorf("an epoch after the last one: %v", err)
	}
}

// TestValidate spoils rows that commands have made.
func TestValidate(t *testing.T) {
	spoil := map[string]struct {
		of    string
		spoil func(*Row)
	}{
		"an epoch, no source":       {"unsealed", func(r *Row) { r.Epoch = 1 }},
		"a run of an older epoch":   {"coding", func(r *Row) { r.Epoch++ }},
		"a run of another source":   {"coding", func(r *Row) { r.Source.Digest[0]++ }},
		"a run of what is released": {"coding again", func(r *Row) { r.Released = 2 }},
		"a run beside its commit":   {"coded", func(r *Row) { r.Epoch, r.Run = 2, &Run{2, 8, 2, 1, r.Source, 5, []Disk{1, 2, 3}} }},
		"a commit of the run":       {"coding again", func(r *Row) { r.Run, r.Epoch = &r.Committed.Run, 1 }},
		"a run without an encoder":  {"coding", func(r *Row) { run := *r.Run; run.Encoder = 0; r.Run = &run }},
		"a crowd":                   {"coding", func(r *Row) { run := *r.Run; run.Homes = []Disk{1, 2, 1}; r.Run = &run }},
		"a younger commit":          {"coded", func(r *Row) { r.Epoch = 0 }},
		"too few digests":           {"coded", func(r *Row) { c := *r.Committed; c.Digests = c.Digests[1:]; r.Committed = &c }},
		"a commit of none":          {"coded", func(r *Row) { c := *r.Committed; c.Source = source(2); r.Committed = &c }},
		"a commit of other bytes":   {"released", func(r *Row) { c := *r.Committed; c.Source.Bytes++; r.Committed = &c }},
		"released without a commit": {"released", func(r *Row) { r.Committed = nil }},
		"released by nobody":        {"coded again", func(r *Row) { r.Before = nil }},
		"released too much":         {"released", func(r *Row) { r.Released = 2 }},
		"before, and released":      {"coded again", func(r *Row) { r.Released = 2 }},
		"before, and younger":       {"coded again", func(r *Row) { c := *r.Before; c.Epoch = 2; r.Before = &c }},
		"before, without it":        {"coded again", func(r *Row) { r.Committed = nil }},
	}
	for name, c := range spoil {
		row := life(t)[c.of]
		if err := row.Validate(); err != nil {
			t.Errorf("%s: %v", c.of, err)
		}
		c.spoil(&row)
		if err := row.Validate(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHomed(t *testing.T) {
	rows := life(t)
	on := func(d Disk) func(Disk) bool { return func(o Disk) bool { return o == d } }
	moved, err := rows["coded again"].Move(2, 2, 9, shards[2])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		row  Row
		disk Disk
		want bool
	}{{rows["sealed"], 1, false}, {rows["coding"], 3, true}, {rows["coding"], 4, false}, {rows["released"], 3, true}, {moved, 9, true}, {moved, 3, true}, {moved, 4, false}} {
		if got := c.row.Homed(on(c.disk)); got != c.want {
			t.Errorf("%s, disk %d: %v", c.row.State(), c.disk, got)
		}
	}
}
