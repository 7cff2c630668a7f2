package directory

import (
	"errors"
	"reflect"
	"testing"

	"hayloft/volume/coding/lifecycle"
)

// TestKeeperOfACodedVolume: who was replaced as the keeper changes nothing any more,
// whatever it asks for, and whoever takes over builds on the keeper it knows.
func TestKeeperOfACodedVolume(t *testing.T) {
	r, v := codable(t)
	n := v.ID
	r.refused(opKeepCoded, &keepCoded{n, 1, 0}, ErrStale) // not coded
	r.must(opBeginCoding, &beginCoding{n, runOf(v, 1, 7)})
	r.must(opCommitCoding, &commitCoding{n, 1, 7, shardsOf(1, 3), 2000})
	r.refused(opKeepCoded, &keepCoded{n, 9, 0}, ErrUnknown)
	r.refused(opKeepCoded, &keepCoded{n, 1, 1}, ErrStale)
	v = r.twice(opKeepCoded, &keepCoded{n, 1, 0})
	if v.Keeper != 1 || v.Term != 1 {
		t.Fatalf("keeper %d under term %d", v.Keeper, v.Term)
	}
	v = r.twice(opKeepCoded, &keepCoded{n, 2, 1})
	if v.Keeper != 2 || v.Term != 2 {
		t.Fatalf("keeper %d under term %d", v.Keeper, v.Term)
	}
	r.refused(opKeepCoded, &keepCoded{n, 3, 1}, ErrStale) // came second
	r.refused(opKeepCoded, &keepCoded{n, 1, 0}, ErrStale) // the repetition of the first
	for op, c := range map[uint8]ofKeeper{
		opRevokeCoding: &revokeCoding{n, 1}, opReleaseSource: &releaseSource{n, 1, shardsOf(1, 3), 9000, 0},
		opMoveShard: &moveShard{n, 1, 1, 4, shardsOf(1, 3)[1]}, opCommitCoding: &commitCoding{n, 1, 7, shardsOf(1, 3), 2000},
	} {
		r.refused(op, c, ErrStale)
		for _, term := range []uint32{1, 3} {
			if _, err := r.do(opAsKeeper, &asKeeper{term, op, c}); !errors.Is(err, ErrStale) || !errors.Is(err, lifecycle.ErrRefused) {
				t.Errorf("operation %d under term %d: %v", op, term, err)
			}
		}
	}
	v = r.twice(opAsKeeper, &asKeeper{2, opMoveShard, &moveShard{n, 1, 1, 4, shardsOf(1, 3)[1]}})
	v = r.twice(opAsKeeper, &asKeeper{2, opReleaseSource, &releaseSource{n, 1, shardsOf(1, 3), 9000, 0}})
	if v.Coding.State() != lifecycle.Released || v.Coding.Committed.Homes[1] != 4 {
		t.Errorf("%+v", v.Coding)
	}
	fresh := newMachine()
	if err := fresh.Restored(r.db); err != nil {
		t.Fatal(err)
	}
	if again, _ := fresh.next.Volume(n); !reflect.DeepEqual(again, v) {
		t.Errorf("%+v came back as %+v", v, again)
	}
	former := &dec{b: v.valueOf(syncRowVersion)[1:]}
	if row := readVolume(n, syncRowVersion, former); !former.whole() || row.Keeper != 0 || row.Term != 0 || row.Sync != v.Sync {
		t.Errorf("of the former version: %+v", row)
	}
	for _, b := range [][]byte{{1, opAsKeeper}, {1, opAsKeeper, 1, 0, 0, 0, opKeepCoded}, {1, opAsKeeper, 0, 0, 0, 0, opRevokeCoding, 1, 0, 0, 0, 1, 0, 0, 0}} {
		if _, err := decodeCommand(b); !errors.Is(err, ErrInvalid) {
			t.Errorf("%x: %v", b, err)
		}
	}
}
