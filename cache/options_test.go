package cache

import "testing"

func TestOptionsValidate(t *testing.T) {
	err := Options{Budget: 5, MaxFills: -1, Policy: "arc", Name: "a b", Variants: []string{"a/b"}, Formats: map[string]string{"": "x"}}.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	if n := len(err.(interface{ Unwrap() []error }).Unwrap()); n != 9 {
		t.Errorf("%d faults, want 9 at once:\n%v", n, err)
	}
	if _, err := New(Options{}); err == nil {
		t.Error("New without an origin")
	}
}
