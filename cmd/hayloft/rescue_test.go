package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
)

// bareVolume makes a data directory with one open volume of five masters, and
// returns what they hold.
func bareVolume(t *testing.T, v volume.ID) (data string, photos [][]byte) {
	t.Helper()
	data = t.TempDir()
	dir := filepath.Join(data, "volumes")
	must(t, os.Mkdir(dir, 0o750))
	vol, err := volume.Create(dir, volume.Identity{Volume: v, Generation: 1, Class: volume.ClassOriginals}, volume.Options{})
	must(t, err)
	for n := range 5 {
		photos = append(photos, bytes.Repeat([]byte{byte(n), 7}, 5000))
		must(t, vol.Append(context.Background(), []volume.Needle{{Key: id.Make(1000, 600, uint16(n)), Cookie: 1, Data: photos[n],
			Master: &volume.MasterInfo{Photo: id.ID(100 + n), Owner: 2, ContentType: "image/png", Time: time.UnixMilli(1_790_000_000_000)}}}))
	}
	must(t, vol.Close())
	return data, photos
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// command runs one as the shell does.
func command(args ...string) (stdout, stderr string, err error) {
	var out, log bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&log)
	err = root.Execute()
	return out.String(), log.String(), err
}

func TestRescueCommand(t *testing.T) {
	data, photos := bareVolume(t, 3)
	out := filepath.Join(t.TempDir(), "out")
	stdout, stderr, err := command("rescue", "--data", data, "-o", out, "--json")
	var sum rescueSummary
	if err != nil || json.Unmarshal([]byte(stdout), &sum) != nil || sum.Needles != 5 || sum.Lost != 0 || len(sum.Volumes) != 1 || len(sum.Absent) != 2 {
		t.Fatalf("%v\n%s\n%s", err, stdout, stderr)
	}
	if !strings.Contains(stderr, "there is no file of volumes 1 to 2") {
		t.Errorf("notes: %s", stderr)
	}
	sums, err := os.ReadFile(filepath.Join(out, sumsName))
	must(t, err)
	for n, p := range photos {
		name := fmt.Sprintf("originals/%v/20260921T141320-%v-%v.png", id.ID(2), id.ID(100+n), id.Make(1000, 600, uint16(n)))
		got, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || !bytes.Equal(got, p) || !strings.Contains(string(sums), fmt.Sprintf("%x  %s\n", sha256.Sum256(p), name)) {
			t.Errorf("photo %d: %v, in %s", n, err, sums)
		}
	}
	if _, err := os.Stat(filepath.Join(out, lostName)); err == nil {
		t.Error("a list of nothing lost")
	}
}

func TestRescueCommandNamesWhatIsLost(t *testing.T) {
	data, _ := bareVolume(t, 1)
	file := filepath.Join(data, "volumes", volume.FileName(1, 1))
	b, err := os.ReadFile(file)
	must(t, err)
	b[9000] ^= 1
	must(t, os.WriteFile(file, b, 0o640))
	out := filepath.Join(t.TempDir(), "out")
	stdout, stderr, err := command("rescue", "--data", data, "-o", out)
	if err == nil || !strings.Contains(err.Error(), "1 needles could not be rescued") || !strings.Contains(stdout, "rescued 4 needles") ||
		!strings.Contains(stderr, "volume 1: 1 needles are lost") {
		t.Errorf("%v\n%s\n%s", err, stdout, stderr)
	}
	lost, err := os.ReadFile(filepath.Join(out, lostName))
	if err != nil || !strings.Contains(string(lost), id.Make(1000, 600, 0).String()) {
		t.Errorf("%v: %s", err, lost)
	}
	if _, err := os.Stat(filepath.Join(out, manifestName)); err != nil {
		t.Error(err)
	}
}

func TestRescueCommandRefuses(t *testing.T) {
	data, _ := bareVolume(t, 1)
	link := filepath.Join(t.TempDir(), "link")
	must(t, os.Symlink(data, link))
	for want, args := range map[string][]string{
		"--data":             {"rescue", "-o", "x"},
		"-o DIR":             {"rescue", "--data", data},
		"no arguments":       {"rescue", "--data", data, "-o", "x", "7"},
		"nothing is changed": {"rescue", "--data", data, "-o", filepath.Join(link, "new", "out")},
		"is not empty":       {"rescue", "--data", data, "-o", filepath.Dir(link)},
		"there is no":        {"rescue", "--data", filepath.Join(data, "none"), "-o", "x"},
	} {
		if _, _, err := command(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v", args, err)
		}
	}
	if entries, err := os.ReadDir(data); err != nil || len(entries) != 1 {
		t.Errorf("%v %v", entries, err)
	}
}

func TestNumbers(t *testing.T) {
	for want, all := range map[string][]volume.ID{"volume 3": {3}, "volumes 1 to 3, 7, 9 to 10": {1, 2, 3, 7, 9, 10}} {
		if got := numbers(all); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
