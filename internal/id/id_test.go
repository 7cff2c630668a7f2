package id

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ms := Millis(rapid.Uint64Range(0, uint64(MaxMillis)).Draw(t, "ms"))
		slot := Slot(rapid.IntRange(0, Slots-1).Draw(t, "slot"))
		seq := rapid.Uint16Range(0, MaxSeq).Draw(t, "seq")
		i := Make(ms, slot, seq)
		if i.Millis() != ms || i.Slot() != slot || i.Seq() != seq {
			t.Fatalf("%d, %d, %d came back as %d, %d, %d", ms, slot, seq, i.Millis(), i.Slot(), i.Seq())
		}
	})
	for _, f := range []func(){
		func() { Make(MaxMillis+1, 0, 0) }, func() { Make(0, Slots, 0) }, func() { Make(0, 0, MaxSeq+1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a field out of range was taken")
				}
			}()
			f()
		}()
	}
}

func TestTextSortsLikeIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := ID(rapid.Uint64Min(1).Draw(t, "a")), ID(rapid.Uint64Min(1).Draw(t, "b"))
		if (a < b) != (a.String() < b.String()) {
			t.Fatalf("%d %s, %d %s", a, a, b, b)
		}
		if back, err := Parse(a.String()); err != nil || back != a {
			t.Fatalf("%d as %s came back as %d, %v", a, a, back, err)
		}
		if back, err := ParseCookie(Cookie(a).String()); err != nil || back != Cookie(a) {
			t.Fatalf("cookie %d: %d, %v", a, back, err)
		}
	})
}

func TestParseIsStrict(t *testing.T) {
	good := ID(math.MaxUint64).String()
	if good != "fzzzzzzzzzzzz" {
		t.Fatalf("the greatest id is %q", good)
	}
	bad := []string{
		"", "0", "0000000000000", // zero is no id
		"gzzzzzzzzzzzz", "zzzzzzzzzzzzz", // more than 64 bits
		strings.ToUpper(good), "000000000000i", "000000000000l", "000000000000o", "000000000000u", // look-alikes
		"00000000000001", "000000000001", " 00000000001", "0000000000 01", "000000000001\n", "0000000000-01", "000000000001\x00",
	}
	for _, s := range bad {
		if _, err := Parse(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q was taken: %v", s, err)
		}
		if _, err := ParseCookie(s); !errors.Is(err, ErrMalformed) {
			t.Errorf("cookie %q was taken: %v", s, err)
		}
	}
	var i ID
	if err := i.UnmarshalText([]byte("nonsense")); err == nil {
		t.Error("nonsense was unmarshalled")
	}
	if err := i.UnmarshalText(nil); err != nil || i != 0 {
		t.Errorf("the empty text: %d, %v", i, err)
	}
	if b, err := ID(0).MarshalText(); err != nil || len(b) != 0 {
		t.Errorf("zero: %q, %v", b, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("0000000000001")
	f.Add("fzzzzzzzzzzzz")
	f.Add("0O0000000000l")
	f.Fuzz(func(t *testing.T, s string) {
		i, err := Parse(s)
		if err != nil {
			return
		}
		if i == 0 || i.String() != s {
			t.Fatalf("%q is %d, whose text is %q", s, i, i)
		}
	})
}

func TestMillis(t *testing.T) {
	for _, c := range []struct {
		at   time.Time
		want Millis
	}{
		{Epoch, 0}, {Epoch.Add(-time.Hour), 0}, {Epoch.Add(1500 * time.Microsecond), 1},
		{Epoch.Add(time.Hour), 3_600_000}, {Epoch.AddDate(100, 0, 0), MaxMillis},
	} {
		if got := MillisOf(c.at); got != c.want {
			t.Errorf("%v is %d, want %d", c.at, got, c.want)
		}
	}
	if got := Millis(3_600_000).Time(); !got.Equal(Epoch.Add(time.Hour)) {
		t.Errorf("an hour is %v", got)
	}
}
