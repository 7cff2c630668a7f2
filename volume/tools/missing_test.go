package tools_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hayloft/volume"
	"hayloft/volume/server"
	"hayloft/volume/tools"
)

// A volume whose disk is away is in each answer, and never sound.
func TestMissingDisk(t *testing.T) {
	b, local, remote := serve(t, dataDir(t))
	b.lost = map[volume.ID]error{9: fmt.Errorf("away: %w", server.ErrMissing)}
	for name, s := range map[string]tools.Source{"local": local, "remote": remote} {
		rows, err := s.List(bg)
		ok(t, err)
		if r := rows[len(rows)-1]; r.ID != 9 || r.State != "unreadable" || r.Readable() || r.Data != "disk 0a0b" || r.SizeBytes != 0 {
			t.Errorf("%s: %+v", name, r)
		}
		details, err := s.Show(bg, 9)
		ok(t, err)
		if len(details) != 1 || details[0].Data != "disk 0a0b" || !strings.Contains(details[0].Error, "away") {
			t.Errorf("%s: %+v", name, details)
		}
		found, err := s.Verify(bg, 9, func(tools.Progress) {})
		ok(t, err)
		if len(found) != 1 || len(found[0].Findings) != 1 || found[0].Data != "disk 0a0b" {
			t.Errorf("%s: %+v", name, found)
		}
		damaged := ""
		ok(t, s.Export(bg, 9, tools.ExportSink{Damaged: func(text string) error { damaged += text; return nil }}))
		if !strings.HasPrefix(damaged, "volume 9 in disk 0a0b: away") {
			t.Errorf("%s: %q", name, damaged)
		}
		if err := s.Dump(bg, 9, tools.Query{Alt: tools.AllAlts}, tools.DumpSink{}); err == nil || !strings.Contains(err.Error(), "away") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A server that stops has not lost its volumes: every call fails.
func TestStopping(t *testing.T) {
	b, local, remote := serve(t, dataDir(t))
	b.closed = true
	for name, k := range map[string]tools.Keeper{"local": local, "remote": remote} {
		_, listed := k.List(bg)
		_, shown := k.Show(bg, 1)
		_, verified := k.Verify(bg, 1, func(tools.Progress) {})
		_, compacted := k.Compact(bg, 1, func(tools.Progress) {})
		for what, err := range map[string]error{
			"list": listed, "show": shown, "verify": verified, "compact": compacted,
			"seal":   k.Seal(bg, 1, func(tools.Progress) {}),
			"export": k.Export(bg, 1, tools.ExportSink{}),
			"dump":   k.Dump(bg, 1, tools.Query{Alt: tools.AllAlts}, tools.DumpSink{}),
		} {
			if err == nil || errors.Is(err, volume.ErrNoVolume) || !strings.Contains(err.Error(), "closed") {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
	}
}

// Who dumps a volume in service keeps to the rate of its disk.
func TestDumpIsPaced(t *testing.T) {
	b, local, _ := serve(t, dataDir(t))
	for v, vol := range b.vols {
		b.paced = 0
		sink := tools.DumpSink{File: func(tools.DumpFile) error { return nil }, Record: func(tools.DumpRecord) error { return nil }}
		ok(t, local.Dump(bg, v, tools.Query{Alt: tools.AllAlts}, sink))
		if want := vol.Stats().FileBytes - volume.HeadBytes; b.paced < want*9/10 || b.paced > want {
			t.Errorf("volume %d: paid for %d bytes of %d", v, b.paced, want)
		}
	}
}
