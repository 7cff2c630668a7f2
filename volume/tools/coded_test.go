package tools_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/server"
	"hayloft/volume/tools"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// codedInfo is a 4+2 volume of which some shards are away and some damaged.
func codedInfo(v volume.ID, state lifecycle.State, away, damaged []int) server.CodedInfo {
	i := server.CodedInfo{Volume: v, Class: volume.ClassOriginals, Generation: 2, Epoch: 3, Policy: coding.Policy{Data: 4, Parity: 2}, State: state,
		At: noon, Bytes: 4 << 20, ShardBytes: 1 << 20, LiveBytes: 3 << 20, Survives: max(2-len(away)-len(damaged), 0)}
	for n := range 6 {
		s := server.ShardInfo{Shard: n, Disk: uint32(n + 1), UUID: fmt.Sprintf("uuid%d", n), Dir: fmt.Sprintf("/disk%d", n)}
		if slices.Contains(away, n) {
			s.Away, s.Dir, s.Since = errors.New("gone\nfor good"), "", noon
		}
		if slices.Contains(damaged, n) {
			s.Damage = 3
		}
		i.Shards = append(i.Shards, s)
	}
	return i
}

// A coded volume is judged by its shards, and the exact ones are named, here and
// behind the listener.
func TestCodedHealth(t *testing.T) {
	logless := codedInfo(6, lifecycle.Released, nil, nil)
	logless.Shards[4].Log = errors.New("no answer")
	sick := codedInfo(7, lifecycle.Released, nil, nil)
	sick.Sick = errors.New("deletes may be missing")
	first := server.CodedInfo{Volume: 1, Class: volume.ClassVariants, State: lifecycle.Coding, Epoch: 1, Policy: coding.Policy{Data: 4, Parity: 2},
		Work: "encode", Done: 25, Total: 100, Began: noon, Retry: errors.New("no room")}
	b, local, remote := serve(t, dataDir(t))
	b.coded = []server.CodedInfo{first, codedInfo(2, lifecycle.Coded, nil, nil), codedInfo(3, lifecycle.Released, []int{1}, []int{5}),
		codedInfo(4, lifecycle.Released, []int{0, 2, 5}, nil), codedInfo(5, lifecycle.Coded, []int{0, 2, 5}, nil), logless, sick}
	want := map[volume.ID][2]string{
		1: {tools.HealthCoding, ""}, 2: {tools.HealthRedundant, ""},
		3: {tools.HealthEndangered, "away: shards 1; damaged: shards 5"},
		4: {tools.HealthLost, "away: shards 0, 2, 5; 3 of 6 shards can be read, 4 are needed"},
		5: {tools.HealthEndangered, "away: shards 0, 2, 5"}, // its source goes on
		6: {tools.HealthEndangered, "without a copy of its delete log: /disk4"},
		7: {tools.HealthLost, "deletes may be missing"},
	}
	var texts []string
	for _, k := range []tools.Keeper{local, remote} {
		l, err := k.Coded(bg)
		ok(t, err)
		for _, c := range l.Volumes {
			if got := [2]string{c.Health, c.Trouble()}; got != want[c.ID] {
				t.Errorf("volume %d: %q, want %q", c.ID, got, want[c.ID])
			}
		}
		if l.Policy != "4+2" || l.Coded != 6 || l.Coding != 1 || l.Redundant != 1 || l.Whole() || *l.Survives != 0 ||
			!slices.Equal(l.Endangered, []volume.ID{3, 5, 6}) || !slices.Equal(l.Lost, []volume.ID{4, 7}) {
			t.Errorf("%+v", l)
		}
		if w := l.Volumes[0].Work; w == nil || *w.ETA != 30 || l.Volumes[0].Retry != "no room" { // a quarter took ten seconds
			t.Errorf("%+v", l.Volumes[0])
		}
		if s := l.Volumes[2].Shards[1]; s.State != "away" || s.Why != "gone; for good" || !s.Since.Equal(noon) || !strings.Contains(s.String(), "disk uuid1") {
			t.Errorf("%+v", s)
		}
		text, err := json.Marshal(l)
		ok(t, err)
		texts = append(texts, string(text))
		ok(t, l.Only([]volume.ID{2}))
		if len(l.Volumes) != 1 || !l.Whole() || *l.Survives != 2 || l.Coded != 1 {
			t.Errorf("%+v", l)
		}
		if err := l.Only([]volume.ID{3}); !errors.Is(err, tools.ErrNotCoded) {
			t.Error(err)
		}
	}
	if texts[0] != texts[1] {
		t.Errorf("here:\n%s\nbehind the listener:\n%s", texts[0], texts[1])
	}
}

// withShards serves volume 2 out of shards beside its source, and has one of its
// needles deleted there alone. It returns what the deleted one was.
func withShards(t *testing.T, b *blobs) id.ID {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{volume.FileName(2, 1), volume.IndexName(2, 1), volume.DeleteLogName(2)} {
		data, err := os.ReadFile(filepath.Join(b.dir, "volumes", name))
		ok(t, err)
		ok(t, os.WriteFile(filepath.Join(dir, name), data, 0o640))
	}
	vol, err := volume.Open(dir, 2, volume.Options{})
	ok(t, err)
	t.Cleanup(func() { vol.Close() })
	ok(t, vol.Delete(bg, blob(4)))
	b.shards = map[volume.ID]*volume.Volume{2: vol}
	i := codedInfo(2, lifecycle.Coded, nil, nil)
	i.Generation, i.Class = 1, volume.ClassVariants
	b.coded = []server.CodedInfo{i}
	return blob(4)
}

// A coded volume is one row, also beside its source; all else goes by its shards,
// which know the newest deletes.
func TestCodedVolumeIsOneRow(t *testing.T) {
	b, local, remote := serve(t, dataDir(t))
	gone := withShards(t, b)
	for name, k := range map[string]tools.Keeper{"local": local, "remote": remote} {
		rows, err := k.List(bg)
		ok(t, err)
		if len(rows) != 3 {
			t.Fatalf("%s: %d rows for three volumes", name, len(rows))
		}
		if r := rows[1]; r.ID != 2 || r.State != "coded" || *r.Epoch != 3 || *r.Shards != 6 || *r.ShardsOf != 6 || *r.Needles != 5 || *r.Replicas != 1 ||
			!r.Sealed() || !r.InGrace() || r.SizeBytes < 6<<20 || !strings.HasPrefix(r.Data, "/disk0,/disk1,") {
			t.Errorf("%s: %+v", name, r)
		}
		details, err := k.Show(bg, 2)
		ok(t, err)
		if len(details) != 2 || details[0].Coding == nil || len(details[0].Coding.Shards) != 6 || details[1].State != "sealed" || details[1].File == "" {
			t.Errorf("%s: %+v", name, details)
		}
		verified, err := k.Verify(bg, 2, func(tools.Progress) {})
		ok(t, err)
		if len(verified) != 2 || verified[0].Shards != 6 || verified[0].Place() != "6 shards" {
			t.Errorf("%s: %+v", name, verified)
		}
		files, needles := 0, 0
		ok(t, k.Dump(bg, 2, tools.Query{Alt: tools.AllAlts, Kinds: []string{"needle"}}, tools.DumpSink{
			File: func(tools.DumpFile) error { files++; return nil }, Record: func(tools.DumpRecord) error { needles++; return nil }}))
		if files != 1 || needles != 6 {
			t.Errorf("%s: dumped %d files, %d needles", name, files, needles)
		}
		needles = 0
		ok(t, k.Export(bg, 2, tools.ExportSink{Needle: func(e tools.Exported, _ []byte) error {
			if needles++; e.Blob == gone {
				t.Errorf("%s: exported what is deleted", name)
			}
			return nil
		}}))
		if needles != 5 {
			t.Errorf("%s: exported %d needles", name, needles)
		}
	}
}

// A volume that is being coded for the first time says so, and one that cannot be
// served out of its shards says why.
func TestCodingAndSickRows(t *testing.T) {
	b, local, _ := serve(t, dataDir(t))
	b.coded = []server.CodedInfo{{Volume: 2, State: lifecycle.Coding, Work: "encode"}}
	rows, err := local.List(bg)
	ok(t, err)
	if r := rows[1]; r.State != "coding" || r.Work != "encode" || !r.Sealed() || *r.Shards != 0 {
		t.Errorf("%+v", r)
	}
	withShards(t, b)
	b.shards[2], b.coded[0].Sick = nil, errors.New("too few")
	rows, err = local.List(bg)
	ok(t, err)
	if r := rows[1]; len(rows) != 3 || r.State != "unreadable" || r.Error != "too few" || *r.Class != "variants" {
		t.Errorf("%+v", r)
	}
	damaged := ""
	ok(t, local.Export(bg, 2, tools.ExportSink{Damaged: func(text string) error { damaged = text; return nil }}))
	if !strings.Contains(damaged, "too few") {
		t.Errorf("%q", damaged)
	}
	files := 0
	ok(t, local.Dump(bg, 2, tools.Query{Alt: tools.AllAlts}, tools.DumpSink{File: func(tools.DumpFile) error { files++; return nil }, Record: func(tools.DumpRecord) error { return nil }}))
	if files != 1 {
		t.Errorf("%d files: the source can be dumped", files)
	}
}

// What is put together of shards is an ordinary volume, byte for byte, with the
// deletes of the shards; it never lands where it may not.
func TestDecodeTo(t *testing.T) {
	b, local, remote := serve(t, dataDir(t))
	gone := withShards(t, b)
	want, err := os.ReadFile(filepath.Join(b.dir, "volumes", volume.FileName(2, 1)))
	ok(t, err)
	report := func(tools.Progress) {}
	for name, k := range map[string]tools.Keeper{"local": local, "remote": remote} {
		to := filepath.Join(t.TempDir(), "made")
		d, file, err := tools.DecodeTo(bg, k, 2, to, report)
		ok(t, err)
		got, err := os.ReadFile(file)
		ok(t, err)
		if d.Generation != 1 || d.Epoch != 3 || d.Needles != 6 || d.DeleteKeys != 1 || int64(len(got)) != d.Bytes || !bytes.Equal(got, want[:d.Bytes]) {
			t.Errorf("%s: %+v, %d bytes", name, d, len(got))
		}
		files := openFiles(t, to)
		rows, err := files.Verify(bg, 2, report)
		ok(t, err)
		if len(rows) != 1 || len(rows[0].Findings)+len(rows[0].Notes) > 0 {
			t.Errorf("%s: %+v", name, rows)
		}
		vol, err := volume.Open(filepath.Join(to, "volumes"), 2, volume.Options{})
		ok(t, err)
		if vol.Has(gone) || !vol.Has(blob(5)) {
			t.Errorf("%s: the deletes did not come along", name)
		}
		ok(t, vol.Close())
		if left, err := os.ReadDir(to); err != nil || len(left) != 1 {
			t.Errorf("%s: left behind: %v", name, left)
		}
		if _, _, err := tools.DecodeTo(bg, k, 2, to, report); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: over another: %v", name, err)
		}
		if _, _, err := tools.DecodeTo(bg, k, 1, t.TempDir(), report); !errors.Is(err, tools.ErrNotCoded) {
			t.Errorf("%s: not coded: %v", name, err)
		}
		ok(t, os.WriteFile(filepath.Join(b.dir, "disk.id"), nil, 0o640))
		if _, _, err := tools.DecodeTo(bg, k, 2, b.dir, report); err == nil || !strings.Contains(err.Error(), "of a server") {
			t.Errorf("%s: into a server's directory: %v", name, err)
		}
	}
}

// cutShort is a Keeper whose volumes lose something on their way.
type cutShort struct {
	tools.Keeper
	part string
}

func (c cutShort) Decode(ctx context.Context, v volume.ID, s tools.DecodeSink) (tools.Decoded, error) {
	part := s.Part
	s.Part = func(name string, b []byte) error {
		if name == c.part {
			b = bytes.Clone(b)
			b[len(b)/2] ^= 1
		}
		return part(name, b)
	}
	return c.Keeper.Decode(ctx, v, s)
}

// What came damaged never gets its name.
func TestDecodeOfDamage(t *testing.T) {
	b, local, _ := serve(t, dataDir(t))
	withShards(t, b)
	for _, part := range []string{tools.PartVolume, tools.PartDeletes, "other"} {
		to := t.TempDir()
		k := tools.Keeper(cutShort{local, part})
		if part == "other" {
			k = stranger{local}
		}
		if _, _, err := tools.DecodeTo(bg, k, 2, to, func(tools.Progress) {}); err == nil {
			t.Errorf("%s: nobody noticed", part)
		}
		if left, err := os.ReadDir(filepath.Join(to, "volumes")); err != nil || len(left) != 0 {
			t.Errorf("%s: %v, %v", part, left, err)
		}
	}
}

// stranger sends a part that nobody knows.
type stranger struct{ tools.Keeper }

func (s stranger) Decode(_ context.Context, _ volume.ID, sink tools.DecodeSink) (tools.Decoded, error) {
	return tools.Decoded{}, sink.Part("../../passwd", []byte("x"))
}

// Encode and Rebuild tell how far they are, and their errors keep their meaning.
func TestEncodeAndRebuildOnTheWay(t *testing.T) {
	b, local, remote := serve(t, dataDir(t))
	for _, e := range []error{nil, fmt.Errorf("%w: six", server.ErrPlacement), fmt.Errorf("%w: so", volume.ErrInvalid), errors.New("why not")} {
		b.encode = e
		for _, k := range []tools.Keeper{local, remote} {
			for what, do := range map[string]func(context.Context, volume.ID, func(tools.Progress)) error{"encode": k.Encode, "rebuild": k.Rebuild} {
				steps := 0
				err := do(bg, 2, func(p tools.Progress) {
					if steps++; p != (tools.Progress{Volume: 2, Step: what, Done: 1, Total: 2}) {
						t.Errorf("%+v", p)
					}
				})
				same(t, err, e)
				if steps != 1 || errors.Is(e, server.ErrPlacement) != errors.Is(err, server.ErrPlacement) {
					t.Errorf("%s: %d steps, %v", what, steps, err)
				}
				if err := do(bg, 9, func(tools.Progress) {}); !errors.Is(err, volume.ErrNoVolume) {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
	}
}
