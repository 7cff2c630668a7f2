package units

import (
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0B": 0, "17B": 17, "1KiB": 1024, "32GiB": 32 << 30, "2TiB": 2 << 40, "1536MiB": 1536 << 20,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
		if text != got.String() {
			t.Errorf("%q is written back as %q", text, got)
		}
	}
	for _, text := range []string{"", "12", "GiB", "-1MiB", "1.5GiB", "9999999TiB", "1 GiB", "1gib"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"90d": 90 * day, "1d": day, "0s": 0, "12h0m0s": 12 * time.Hour, "1m30s": 90 * time.Second,
	} {
		got, err := ParseDuration(text)
		if err != nil || time.Duration(got) != want {
			t.Errorf("ParseDuration(%q) = %v, %v; want %v", text, got, err, want)
		}
		if text != got.String() {
			t.Errorf("%q is written back as %q", text, got)
		}
	}
	for _, text := range []string{"", "d", "-1d", "-5s", "12", "200000000000d", "1.5d"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("ParseDuration(%q) = %v, want an error", text, got)
		}
	}
}
