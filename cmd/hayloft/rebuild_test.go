package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hayloft/directory"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/coding/lifecycle"
	"hayloft/volume/tools"

	"github.com/spf13/pflag"
)

// bareNode is a node of which nothing is open.
func bareNode(dir string, c clock.Clock) *node {
	s := &settings{}
	s.define(pflag.NewFlagSet("server", pflag.ContinueOnError))
	s.data = []string{dir}
	n := &node{s: s, log: slog.New(slog.DiscardHandler), clock: c, metrics: newMetrics(), rebuilding: true}
	n.work, n.stopWork = context.WithCancel(context.Background())
	return n
}

// surveyOf is one of each kind of volume on six disks.
func surveyOf(at id.Millis) *tools.Survey {
	s := &tools.Survey{Newest: at + 900}
	for i := range byte(6) {
		s.Disks = append(s.Disks, tools.SurveyedDisk{UUID: [16]byte{1 + i}})
	}
	seal := func(generation uint32) *volume.SealRecord {
		return &volume.SealRecord{End: 100_000, Needles: 5, DataBytes: 90_000, Digest: volume.Digest{byte(generation)}, Sealed: at.Time(), Source: generation - 1}
	}
	epoch := func(generation, number uint32) *tools.SurveyedEpoch {
		p := coding.Plan{Policy: coding.Policy{Data: 4, Parity: 2}, Volume: 1, Generation: generation, Epoch: number, Encoder: 7,
			SourceBytes: 100_000, SourceDigest: volume.Digest{byte(generation)}, IndexBytes: 500}
		return &tools.SurveyedEpoch{Plan: p, Epoch: number, Digests: make([]coding.Digest, 6), Homes: []int{0, 1, 2, 3, 4, 5}}
	}
	v := func(n int) tools.SurveyedVolume {
		return tools.SurveyedVolume{ID: volume.ID(n), Class: volume.ClassOriginals, Generation: 2, LastGeneration: 3, Opened: at.Time(), Closed: at,
			Slot: 600, From: at + id.Millis(100*n), To: at + id.Millis(100*n+100), Disks: []int{n % 6}, InSync: []int{n % 6}, Target: 1}
	}
	closing, sealed, grace, older, released := v(1), v(2), v(3), v(5), v(8)
	closing.Disks, closing.InSync, closing.Target = []int{4, 1, 2}, []int{1, 2}, 3
	sealed.Seal, grace.Seal, older.Seal, released.Seal = seal(2), seal(2), seal(2), seal(2)
	sealed.LastEpoch = 4
	grace.Epoch, grace.LastEpoch = epoch(2, 3), 4
	older.Epoch, older.LastEpoch = epoch(1, 3), 3
	released.Epoch, released.LastEpoch, released.Disks, released.InSync = epoch(2, 3), 3, nil, nil
	s.Volumes = []tools.SurveyedVolume{closing, sealed, grace, older, released}
	return s
}

// TestRebuildDirectoryRows takes every kind of row into a real directory, twice, with
// the clock behind the ids that are in use.
func TestRebuildDirectoryRows(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	fake := clock.NewFake(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
	now := id.MillisOf(fake.Now())
	survey := surveyOf(now + 1_000_000)
	for range 2 { // as after a crash at the very end
		n := bareNode(dir, fake)
		if err := errors.Join(n.rebuildDirectory(ctx, survey), n.stop()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(dir, rebuildingName)); err != nil {
			t.Error("the directory counts as whole before it was closed")
		}
	}
	n := bareNode(dir, fake)
	n.rebuilding = false
	if err := n.openData(ctx); err != nil {
		t.Fatal(err)
	}
	if err := n.openDirectory(ctx); err == nil || !strings.Contains(err.Error(), "was not made to its end") {
		t.Fatalf("opened: %v", err)
	}
	must(t, os.Remove(filepath.Join(dir, rebuildingName)))
	must(t, n.openDirectoryAlone(ctx))
	t.Cleanup(func() { must(t, n.stop()) })
	m := n.directory.Map()
	want := map[directory.VolumeID]lifecycle.State{1: lifecycle.Unsealed, 2: lifecycle.Sealed, 3: lifecycle.Coded, 5: lifecycle.Sealed, 8: lifecycle.Released}
	for v, state := range want {
		row, ok := m.Volume(v)
		if !ok || row.Coding.State() != state || (row.State == directory.StateSealed) != (state != lifecycle.Unsealed) || row.LastGeneration != 3 {
			t.Errorf("volume %d: %+v, want %s", v, row, state)
		}
	}
	if row, _ := m.Volume(5); row.Coding.Released != 1 || !row.Coding.Readable(3) {
		t.Errorf("the older epoch does not serve: %+v", row.Coding)
	}
	if row, _ := m.Volume(2); row.Coding.Epoch != 4 || !row.Coding.MayRemoveShards(4) {
		t.Errorf("an epoch that does not count: %+v", row.Coding)
	}
	if row, _ := m.Volume(1); !slices.Equal(row.Replicas, []directory.DiskID{5, 2, 3}) || !slices.Equal(row.InSync, []directory.DiskID{2, 3}) || row.Target != 3 || row.Sync != 1 {
		t.Errorf("several copies: %+v", row)
	}
	if len(m.Disks()) != 6 || len(m.Volumes()) != 5 {
		t.Errorf("%d disks, %d volumes", len(m.Disks()), len(m.Volumes()))
	}
	for _, kind := range []directory.Kind{directory.IDs, directory.Variants, directory.Originals} {
		lo, hi := kind.Slots()
		for worker := range uint16(hi - lo) {
			l, err := n.directory.AcquireSlot(ctx, directory.AcquireRequest{Node: n.nodeID, Incarnation: n.incarnation, Worker: worker, Kind: kind})
			if err != nil || l.From <= survey.Newest {
				t.Fatalf("slot %d is leased from %d, ids up to %d are in use: %v", l.Slot, l.From, survey.Newest, err)
			}
		}
	}
}

// With a clock that is past everything nothing has to be done about it.
func TestRebuildDirectoryByTheClock(t *testing.T) {
	fake := clock.NewFake(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
	n := bareNode(t.TempDir(), fake)
	t.Cleanup(func() { must(t, n.stop()) })
	must(t, n.rebuildDirectory(t.Context(), surveyOf(id.MillisOf(fake.Now())-1_000_000)))
	if w := n.directory.Map().Window(0); w != (id.Window{}) {
		t.Errorf("slot 0 was leased: %+v", w)
	}
}

func TestRebuildDirectoryRefuses(t *testing.T) {
	data, _ := bareVolume(t, 3)
	group := func(at []string) {
		dir := filepath.Join(append([]string{data}, at...)...)
		must(t, errors.Join(os.MkdirAll(dir, 0o750), os.WriteFile(filepath.Join(dir, groupLog), nil, 0o600)))
	}
	for want, make := range map[string]func(){
		"has lost its identity": func() {},
		"restore that first":    func() { group(feedGroup) },
		"there is still a":      func() { group(directoryGroup) },
	} {
		make()
		if _, _, err := command("cluster", "rebuild-directory", "--data", data, "--apply"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		must(t, os.RemoveAll(filepath.Join(data, "raft")))
	}
	s := &tools.Survey{Volumes: []tools.SurveyedVolume{{ID: 3}}, Left: []tools.LeftVolume{{ID: 2}}}
	if err := numbersTaken(s); err != nil {
		t.Error(err)
	}
	s.Left = append(s.Left, tools.LeftVolume{ID: 4})
	if err := numbersTaken(s); err == nil || !strings.Contains(err.Error(), "volume 4") {
		t.Errorf("%v", err)
	}
}
