package tools_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/tools"
)

func openFiles(t *testing.T, dirs ...string) *tools.Files {
	t.Helper()
	f, err := tools.OpenFiles(dirs)
	ok(t, err)
	return f
}

// rowOf returns the row of a volume that is of shards, or of a file.
func rowOf(t *testing.T, s tools.Source, v volume.ID, shards bool) tools.Row {
	t.Helper()
	rows, err := s.List(bg)
	ok(t, err)
	for _, r := range rows {
		if r.ID == v && (r.ShardsOf != nil) == shards {
			return r
		}
	}
	t.Fatalf("no row of volume %d", v)
	return tools.Row{}
}

// Bare shards are listed, shown, dumped and verified, by what they say themselves.
func TestFilesOfShards(t *testing.T) {
	d, coded, _ := everything(t, 5)
	f := openFiles(t, d.dirs...)
	r := rowOf(t, f, 4, true)
	if r.State != "coded" || *r.Epoch != 9 || *r.Shards != 6 || *r.ShardsOf != 6 || *r.Generation != 2 || *r.FileBytes != coded.SourceBytes ||
		r.SizeBytes != 6*coded.FileBytes() || *r.Class != "originals" || r.Data != strings.Join(d.dirs, ",") || !r.Readable() || r.Place() != "6 of 6 shards" {
		t.Errorf("%+v", r)
	}
	if r := rowOf(t, f, 5, true); *r.Epoch != 3 {
		t.Errorf("an older epoch comes first: %+v", r)
	}
	if r := rowOf(t, f, 5, false); r.State != "sealed" {
		t.Errorf("the source beside its shards: %+v", r)
	}
	details, err := f.Show(bg, 4)
	ok(t, err)
	if len(details) != 1 || details[0].Seal == nil || len(details[0].Events) != 6 || !strings.Contains(details[0].Events[2], d.shardFile(coded.Plan, 2)) {
		t.Errorf("%+v", details)
	}
	if details, err = f.Show(bg, 5); err != nil || len(details) != 2 || !strings.Contains(strings.Join(details[1].Events, "\n"), "3 of 6 shards of epoch 2") {
		t.Errorf("%+v, %v", details, err)
	}
	needles := map[id.ID]bool{}
	ok(t, f.Dump(bg, 4, tools.Query{Alt: tools.AllAlts, Kinds: []string{"needle"}}, tools.DumpSink{
		File:   func(tools.DumpFile) error { return nil },
		Record: func(r tools.DumpRecord) error { needles[*r.Key] = r.Damage == ""; return nil },
	}))
	for key, v := range d.of {
		if _, live := d.live[key]; live && v == 4 && !needles[key] {
			t.Errorf("the dump lacks %v", key)
		}
	}
	rows, err := f.Verify(bg, 4, func(tools.Progress) {})
	ok(t, err)
	if len(rows) != 1 || len(rows[0].Findings) > 0 || rows[0].Shards != 6 || rows[0].Bytes != 6*coded.FileBytes() {
		t.Errorf("%+v", rows)
	}
	said := ""
	ok(t, f.Export(bg, 4, tools.ExportSink{Damaged: func(text string) error { said += text; return nil }}))
	if !strings.Contains(said, "hayloft rescue") {
		t.Errorf("export: %q", said)
	}
	if _, err := f.Show(bg, 99); !errors.Is(err, volume.ErrNoVolume) {
		t.Error(err)
	}
}

// Damage of a shard, of its delete log and of a file that is no shard are findings;
// shards that are elsewhere are a note, and too few of them an error.
func TestFilesOfDamagedShards(t *testing.T) {
	d, coded, _ := everything(t, 6)
	flip(t, d.shardFile(coded.Plan, 1), 9000)
	log := filepath.Join(d.shards(2), volume.DeleteLogName(4))
	ok(t, os.WriteFile(log, []byte("nothing"), 0o640))
	broken := d.shardFile(coded.Plan, 3)
	ok(t, os.WriteFile(broken, []byte("nothing"), 0o640))
	f := openFiles(t, d.dirs...)
	rows, err := f.Verify(bg, 4, func(tools.Progress) {})
	ok(t, err)
	var files []string
	for _, x := range rows[0].Findings {
		files = append(files, x.File)
	}
	slices.Sort(files)
	want := []string{d.shardFile(coded.Plan, 1), log, broken}
	slices.Sort(want)
	if !slices.Equal(files, want) || len(rows[0].Notes) != 1 || !strings.Contains(rows[0].Notes[0], "missing 3") {
		t.Errorf("%+v", rows[0])
	}
	few := openFiles(t, d.dirs[0], d.dirs[4], d.dirs[5])
	if r := rowOf(t, few, 4, true); r.Readable() || r.State != "unreadable" || *r.Shards != 3 || !strings.Contains(r.Error, "missing 1, 2, 3") {
		t.Errorf("%+v", r)
	}
	if err := few.Dump(bg, 4, tools.Query{Alt: tools.AllAlts}, tools.DumpSink{File: func(tools.DumpFile) error { return nil }}); !errors.Is(err, volume.ErrCorrupt) {
		t.Errorf("%v", err)
	}
}

// In the grace of a source its shards alone know the newest deletes: an export of the
// bare files must not bring a photo back.
func TestExportInTheGraceLeavesOutWhatIsDeleted(t *testing.T) {
	d := newDisks(t, 7)
	vol := d.fill(4, 3, 10)
	d.seal(vol)
	vol = d.compact(vol)
	d.code(vol, 3, 1)
	vol, err := volume.OpenGeneration(d.volumes(3), 4, 2, volume.Options{})
	ok(t, err)
	d.deleteOne(vol)
	ok(t, vol.Close())
	// The source's log as it was before that delete, and the shards' with it.
	name := volume.DeleteLogName(4)
	newest, err := os.ReadFile(filepath.Join(d.volumes(3), name))
	ok(t, err)
	before, err := os.ReadFile(filepath.Join(d.shards(0), name))
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(d.volumes(3), name), before, 0o640))
	ok(t, os.WriteFile(filepath.Join(d.shards(5), name), newest, 0o640))
	got, damaged := 0, ""
	sink := tools.ExportSink{Damaged: func(text string) error { damaged += text; return nil }, Needle: func(e tools.Exported, _ []byte) error {
		if _, live := d.live[e.Blob]; !live {
			t.Errorf("%v is deleted and exported", e.Blob)
		}
		got++
		return nil
	}}
	ok(t, openFiles(t, d.dirs...).Export(bg, 4, sink))
	if got != len(d.live) || damaged != "" {
		t.Errorf("%d of %d, %s", got, len(d.live), damaged)
	}
	ok(t, os.WriteFile(filepath.Join(d.shards(5), name), []byte("nothing"), 0o640))
	ok(t, openFiles(t, d.dirs...).Export(bg, 4, tools.ExportSink{Damaged: sink.Damaged, Needle: func(tools.Exported, []byte) error { return nil }}))
	if !strings.Contains(damaged, "deletes may be missing") {
		t.Errorf("%q", damaged)
	}
}
