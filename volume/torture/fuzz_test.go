package torture

import (
	"reflect"
	"strings"
	"testing"

	"hayloft/volume"
)

// FuzzLines: a line that a writer was killed in, or that is none, is refused or
// means what it says.
func FuzzLines(f *testing.F) {
	f.Add("stored 1 18446744073709551615 a b c\n")
	f.Add("putting 4294967295 0 \n")
	f.Add("created 1 2")
	f.Add("x 1 -2 y")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := parseLine(s)
		if err != nil {
			return
		}
		var out strings.Builder
		r := &reporter{out: &out}
		r.say(l.what, l.v, l.key, l.text)
		again, err := parseLine(out.String())
		if len(l.text) <= maxLine && !strings.ContainsFunc(string(l.what)+l.text, func(c rune) bool { return c < ' ' || c == '\uFFFD' }) &&
			(err != nil || again != l) {
			t.Fatalf("%q was read as %+v, said %q, read as %+v, %v", s, l, out.String(), again, err)
		}
	})
}

// FuzzRefs: the keys that a writer is given come back as they were.
func FuzzRefs(f *testing.F) {
	f.Add(writeRefs([]Ref{{1, 2}, {volume.ID(4294967295), 18446744073709551615}}))
	f.Add("1 2\n3")
	f.Add("1 2 3\n")
	f.Fuzz(func(t *testing.T, s string) {
		refs, err := ReadRefs(strings.NewReader(s))
		if err != nil {
			return
		}
		if again, err := ReadRefs(strings.NewReader(writeRefs(refs))); err != nil || !reflect.DeepEqual(again, refs) {
			t.Fatalf("%v became %v, %v", refs, again, err)
		}
	})
}
