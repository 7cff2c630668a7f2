package sign

import (
	"bytes"
	"testing"
)

// What is sealed can be opened with the same parts alone, and read by nobody.
func TestSeal(t *testing.T) {
	r := ring(t, key(1, 1))
	for _, text := range []string{"", "x", "the tag of a private photo, and more than a block of it"} {
		v, sealed := r.Seal("p", text, "a", "b")
		if got, ok := r.Open("p", v, sealed, "a", "b"); !ok || got != text {
			t.Errorf("%q opens as %q, %v", text, got, ok)
		}
		if len(sealed) != MACSize+len(text) || len(text) > 1 && bytes.Contains(sealed, []byte(text)) {
			t.Errorf("%q is sealed as %q", text, sealed)
		}
		for what, open := range map[string]func() (string, bool){
			"another purpose": func() (string, bool) { return r.Open("q", v, sealed, "a", "b") },
			"other parts":     func() (string, bool) { return r.Open("p", v, sealed, "a", "c") },
			"fewer parts":     func() (string, bool) { return r.Open("p", v, sealed, "a") },
			"another version": func() (string, bool) { return r.Open("p", v+1, sealed, "a", "b") },
			"a cut text":      func() (string, bool) { return r.Open("p", v, sealed[:MACSize-1], "a", "b") },
			"another key":     func() (string, bool) { return ring(t, key(1, 2)).Open("p", v, sealed, "a", "b") },
		} {
			if got, ok := open(); ok || got != "" {
				t.Errorf("%q opens with %s: %q", text, what, got)
			}
		}
		for i := range sealed {
			bad := bytes.Clone(sealed)
			bad[i] ^= 1
			if _, ok := r.Open("p", v, bad, "a", "b"); ok {
				t.Errorf("%q opens with byte %d changed", text, i)
			}
		}
	}
	if v, sealed := ring(t).Seal("p", "x"); v != 0 || sealed != nil {
		t.Error("an empty ring seals")
	}
}
