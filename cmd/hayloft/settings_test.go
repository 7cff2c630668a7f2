package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"hayloft/internal/units"

	"github.com/spf13/pflag"
)

// parse resolves settings as the server command does.
func parse(t *testing.T, env map[string]string, args ...string) (*settings, *pflag.FlagSet, map[string]source, error) {
	t.Helper()
	s := &settings{}
	f := pflag.NewFlagSet("server", pflag.ContinueOnError)
	s.define(f)
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	from, err := resolve(f, func(name string) (string, bool) { v, ok := env[name]; return v, ok })
	return s, f, from, err
}

func TestSettingsPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hayloft.toml")
	text := "data = [\"/a\", \"/b\"]\nvolume-size = \"2GiB\"\ntimeline-cap = 7\nlisten = \"127.0.0.1:1\"\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"HAYLOFT_CONFIG": file, "HAYLOFT_VOLUME_SIZE": "3GiB", "HAYLOFT_LISTEN": "127.0.0.1:2"}
	s, f, from, err := parse(t, env, "--listen", "127.0.0.1:3")
	if err != nil {
		t.Fatal(err)
	}
	if s.listen != "127.0.0.1:3" || s.volumeSize != units.Size(3<<30) || s.timelineCap != 7 || len(s.data) != 2 || s.data[1] != "/b" {
		t.Errorf("flag, environment, file: got listen %s, volume size %s, cap %d, data %v", s.listen, s.volumeSize, s.timelineCap, s.data)
	}
	for name, want := range map[string]source{
		"listen": fromFlag, "volume-size": "environment HAYLOFT_VOLUME_SIZE",
		"timeline-cap": source("file " + file), "signup": fromDefault,
	} {
		if from[name] != want {
			t.Errorf("source of %s is %q, want %q", name, from[name], want)
		}
	}
	var out bytes.Buffer
	if err := printSettings(&out, f, from); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"3GiB"`) || !strings.Contains(out.String(), `["/a", "/b"]`) {
		t.Errorf("the printed settings lack values:\n%s", out.String())
	}
}

func TestSettingsFaultsAreListedAtOnce(t *testing.T) {
	_, _, _, err := parse(t, map[string]string{"HAYLOFT_VOLUME_SIZE": "huge", "HAYLOFT_TIMELINE_CAP": "x"})
	if err == nil || !strings.Contains(err.Error(), "volume-size") || !strings.Contains(err.Error(), "timeline-cap") {
		t.Errorf("two wrong settings, got: %v", err)
	}
	s, _, _, err := parse(t, nil, "--volume-size", "1MiB", "--signup", "maybe", "--public-url", "photos.example.org", "--listen", "8080", "--trusted-proxies", "10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	err = s.validate()
	if err == nil {
		t.Fatal("five wrong settings were accepted")
	}
	for _, want := range []string{"--volume-size", "--signup", "--public-url", "--listen", "--trusted-proxies"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the fault of %s is missing in: %v", want, err)
		}
	}
}

// URLs that are handed out must lead back: an address that means "all of them"
// is no base for them.
func TestUnspecifiedAddressNeedsPublicURL(t *testing.T) {
	for _, addr := range []string{":8080", "0.0.0.0:8080", "[::]:8080"} {
		s, _, _, err := parse(t, nil, "--listen", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.validate(); err == nil || !strings.Contains(err.Error(), "--public-url") {
			t.Errorf("--listen %s: %v", addr, err)
		}
		if s.publicURL = "https://photos.example.org"; s.validate() != nil {
			t.Errorf("--listen %s with a public URL: %v", addr, s.validate())
		}
	}
}

func TestUnknownSettingInFileIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hayloft.toml")
	if err := os.WriteFile(file, []byte("volume-sice = \"2GiB\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := parse(t, nil, "--config", file); err == nil || !strings.Contains(err.Error(), "volume-sice") {
		t.Errorf("a misspelt key must be named, got: %v", err)
	}
}

// Every setting is in the table of docs/operations.md.
func TestSettingsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, f, _, err := parse(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.VisitAll(func(fl *pflag.Flag) {
		if slices.Contains(notSettings, fl.Name) {
			return
		}
		row := regexp.MustCompile("(?m)^\\|[^|]*`" + regexp.QuoteMeta(fl.Name) + "`[^|]*\\|")
		if !row.Match(text) {
			t.Errorf("%s has no row in docs/operations.md", fl.Name)
		}
	})
}

// A node answers the public when it has something for it: the API, photos, or blobs for
// those who have a key.
func TestWhoServes(t *testing.T) {
	key := "tests:" + strings.Repeat("0", 64)
	for _, tt := range []struct {
		args []string
		want bool
	}{
		{nil, true},
		{[]string{"--roles", "directory,volume"}, false},
		{[]string{"--roles", "directory,volume", "--blob-keys", key}, true},
		{[]string{"--roles", "cache"}, true},
		{[]string{"--roles", "directory,feed,worker"}, false},
	} {
		s, _, _, err := parse(t, nil, tt.args...)
		if err != nil {
			t.Fatal(err)
		}
		if s.serves() != tt.want {
			t.Errorf("%v: %v", tt.args, !tt.want)
		}
	}
}
