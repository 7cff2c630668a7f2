package tools_test

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hayloft/volume"
	"hayloft/volume/tools"
)

// sources are the three ways to one data directory, one after another.
func sources(t *testing.T, fn func(name string, s tools.Source)) {
	t.Helper()
	data := dataDir(t)
	files, err := tools.OpenFiles([]string{data})
	ok(t, err)
	ok(t, files.Claim())
	fn("files", files)
	ok(t, files.Close())
	_, local, remote := serve(t, data)
	fn("local", local)
	fn("remote", remote)
}

// What a sink says ends the call, and nothing else is given to it.
func TestSinksEndCalls(t *testing.T) {
	stop := errors.New("stop")
	sources(t, func(name string, s tools.Source) {
		records := 0
		file := func(tools.DumpFile) error { return nil }
		err := s.Dump(bg, 1, tools.Query{Alt: tools.AllAlts}, tools.DumpSink{File: func(tools.DumpFile) error { return stop }})
		if !errors.Is(err, stop) {
			t.Errorf("%s: a file: %v", name, err)
		}
		err = s.Dump(bg, 1, tools.Query{Alt: tools.AllAlts}, tools.DumpSink{File: file, Record: func(tools.DumpRecord) error { records++; return stop }})
		if !errors.Is(err, stop) || records != 1 {
			t.Errorf("%s: %d records: %v", name, records, err)
		}
		needles := 0
		err = s.Export(bg, 1, tools.ExportSink{Needle: func(tools.Exported, []byte) error { needles++; return stop }})
		if !errors.Is(err, stop) || needles != 1 {
			t.Errorf("%s: %d needles: %v", name, needles, err)
		}
		err = s.Export(bg, 3, tools.ExportSink{Damaged: func(string) error { return stop }})
		if !errors.Is(err, stop) {
			t.Errorf("%s: damage: %v", name, err)
		}
	})
}

// A context that has ended ends every call.
func TestEndedContexts(t *testing.T) {
	ctx, cancel := context.WithCancel(bg)
	cancel()
	sources(t, func(name string, s tools.Source) {
		_, list := s.List(ctx)
		_, verify := s.Verify(ctx, 1, func(tools.Progress) {})
		dump := s.Dump(ctx, 1, tools.Query{Alt: tools.AllAlts}, tools.DumpSink{File: func(tools.DumpFile) error { return nil }})
		export := s.Export(ctx, 1, tools.ExportSink{Needle: func(tools.Exported, []byte) error { return nil }})
		for what, err := range map[string]error{"list": list, "verify": verify, "dump": dump, "export": export} {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
	})
}

// Queries choose the same records everywhere.
func TestQueries(t *testing.T) {
	sources(t, func(name string, s tools.Source) {
		for _, c := range []struct {
			q    tools.Query
			want int
		}{
			{tools.Query{Alt: tools.AllAlts, Kinds: []string{"needle"}}, 6},
			{tools.Query{Alt: tools.AllAlts, Kinds: []string{"tombstone"}, Key: blob(3)}, 1},
			{tools.Query{Alt: 0}, 6},
			{tools.Query{Alt: 1}, 0},
			{tools.Query{Alt: 0, Key: blob(2)}, 1},
			{tools.Query{Alt: 0, To: 8193}, 1},
			{tools.Query{Alt: 0, From: 1 << 30}, 0},
			{tools.Query{Alt: tools.AllAlts, Damaged: true}, 0},
		} {
			n := 0
			err := s.Dump(bg, 1, c.q, tools.DumpSink{File: func(tools.DumpFile) error { return nil }, Record: func(r tools.DumpRecord) error {
				if n++; r.Cookie != "" || r.Kind == "needle" && r.Master == nil {
					t.Errorf("%s: %+v", name, r)
				}
				return nil
			}})
			if err != nil || (n != c.want && !(c.q.Kinds != nil && n >= c.want)) {
				t.Errorf("%s: %+v: %d records, want %d: %v", name, c.q, n, c.want, err)
			}
		}
	})
}

// Files that cannot be opened say why in their rows.
func TestStatesOfFiles(t *testing.T) {
	data := dataDir(t)
	at := func(v volume.ID, generation uint32) string {
		return filepath.Join(data, "volumes", volume.FileName(v, generation))
	}
	b, err := os.ReadFile(at(1, 1))
	ok(t, err)
	ok(t, os.WriteFile(at(4, 1), newer(b), 0o640)) // of a newer program
	ok(t, os.WriteFile(at(1, 2), b, 0o640))        // two generations of which none counts
	ok(t, os.Remove(at(3, 1)))                     // the damaged one
	ok(t, os.WriteFile(strings.TrimSuffix(at(2, 1), ".vol")+".poisoned", nil, 0o640))
	files, err := tools.OpenFiles([]string{data})
	ok(t, err)
	rows, err := files.List(bg)
	ok(t, err)
	got := map[volume.ID]string{}
	for _, r := range rows {
		got[r.ID] = r.State
		if r.Readable() != (r.Error == "") || !r.Readable() && r.Garbage() != 0 || r.Sealed() != (r.State == "sealed") {
			t.Errorf("%+v", r)
		}
	}
	if len(got) != 3 || got[1] != "unreadable" || got[4] != "unsupported" || got[2] != "poisoned" {
		t.Errorf("%v", got)
	}
	damaged := ""
	ok(t, files.Export(bg, 4, tools.ExportSink{Damaged: func(text string) error { damaged = text; return nil }}))
	if damaged == "" {
		t.Error("nothing is said of a file that cannot be exported")
	}
	if _, err := files.Verify(bg, 4, func(tools.Progress) {}); !errors.Is(err, volume.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}

// newer raises the version in both superblock copies.
func newer(b []byte) []byte {
	b = append([]byte{}, b...)
	for at := range 2 {
		block := b[at*4096 : at*4096+4096]
		binary.LittleEndian.PutUint32(block[8:], 99)
		binary.LittleEndian.PutUint32(block[4092:], crc32.Checksum(block[:4092], crc32.MakeTable(crc32.Castagnoli)))
	}
	return b
}

// What opening a volume mends, or would remove, is told all the same, and damage in
// the delete log is told as such.
func TestVerifyTellsWhatOpeningMends(t *testing.T) {
	data := dataDir(t)
	flip := func(name string, off int64) {
		f, err := os.OpenFile(filepath.Join(data, "volumes", name), os.O_RDWR, 0)
		ok(t, err)
		b := make([]byte, 1)
		_, err = f.ReadAt(b, off)
		ok(t, err)
		b[0] ^= 4
		_, err = f.WriteAt(b, off)
		ok(t, err)
		ok(t, f.Close())
	}
	flip(volume.FileName(2, 1), 40)
	flip("00000002.deletes", 4096+40)
	ok(t, os.WriteFile(filepath.Join(data, "volumes", volume.FileName(2, 2)+".tmp"), nil, 0o640))
	files, err := tools.OpenFiles([]string{data})
	ok(t, err)
	ok(t, files.Claim())
	rows, err := files.Verify(bg, 2, func(tools.Progress) {})
	ok(t, err)
	ok(t, files.Close())
	if f := rows[0].Findings; len(f) != 1 || f[0].File != "00000002.deletes" || !strings.HasPrefix(f[0].String(), "superblock in 00000002.deletes at 4096, 4096 bytes: ") {
		t.Errorf("%+v", f)
	}
	notes := strings.Join(rows[0].Notes, "\n")
	if len(rows[0].Notes) != 2 || !strings.Contains(notes, "one copy of the superblock is damaged") || !strings.Contains(notes, "a leftover of") {
		t.Errorf("%s", notes)
	}
}
