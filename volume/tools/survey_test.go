package tools_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/server"
	"hayloft/volume/tools"
)

// identify gives every disk an identity.
func (d *disks) identify() {
	d.t.Helper()
	for i, dir := range d.dirs {
		text := fmt.Sprintf("hayloft disk 1\nuuid %032x\ncreated 2026-03-01T00:00:00Z\n", i+1)
		text += fmt.Sprintf("crc32c %08x\n", crc32.Checksum([]byte(text), crc32.MakeTable(crc32.Castagnoli)))
		ok(d.t, os.WriteFile(filepath.Join(dir, "disk.id"), []byte(text), 0o640))
		_, err := server.DiskUUID(vfs.OS{}, dir)
		ok(d.t, err)
	}
}

func (d *disks) survey(dirs ...string) *tools.Survey {
	d.t.Helper()
	if dirs == nil {
		dirs = d.dirs
	}
	before := d.fingerprint()
	r, err := tools.OpenRescue(dirs, tools.RescueOptions{})
	ok(d.t, err)
	ok(d.t, r.Claim())
	s, err := r.SurveyDisks(bg)
	ok(d.t, errors.Join(err, r.Close()))
	if fmt.Sprint(before) != fmt.Sprint(d.fingerprint()) {
		d.t.Error("the survey changed the data directories")
	}
	return s
}

func volumeOf(t *testing.T, s *tools.Survey, v volume.ID) tools.SurveyedVolume {
	t.Helper()
	i := slices.IndexFunc(s.Volumes, func(o tools.SurveyedVolume) bool { return o.ID == v })
	if i < 0 {
		t.Fatalf("volume %d is not taken in: %+v", v, s.Left)
	}
	return s.Volumes[i]
}

func TestSurvey(t *testing.T) {
	d, coded, withSource := everything(t, 21)
	d.release(8, 0) // of an impossible slot
	d.identify()
	for _, i := range []int{1, 4} {
		ok(t, os.Remove(d.shardFile(coded.Plan, i)))
	}
	s := d.survey()
	if len(s.Disks) != policy.Shards() || len(s.Left) > 0 || len(s.Volumes) != 6 {
		t.Fatalf("%d disks, %d volumes, left %+v", len(s.Disks), len(s.Volumes), s.Left)
	}
	v := volumeOf(t, s, 1)
	if v.Seal != nil || v.Slot != 600 || v.From != 1000 || v.To != 1012 || !slices.Equal(v.Disks, []int{0}) || v.Generation != 1 {
		t.Errorf("open: %+v", v)
	}
	v = volumeOf(t, s, 2)
	if v.Seal == nil || v.From != 2000 || v.To != 2999 || !slices.Equal(v.Disks, []int{1}) {
		t.Errorf("sealed: %+v", v)
	}
	v = volumeOf(t, s, 3)
	if v.Seal == nil || v.Generation != 2 || v.LastGeneration != 2 || v.Seal.Source != 1 || !slices.Equal(v.Disks, []int{2}) {
		t.Errorf("compacted: %+v", v)
	}
	v = volumeOf(t, s, 4)
	if !v.Released() || v.Epoch == nil || v.LastEpoch != 9 || v.Generation != 2 || v.Seal.End != coded.SourceBytes || v.Epoch.Plan != coded.Plan ||
		!slices.Equal(v.Epoch.Digests, coded.Digests) || !slices.Equal(v.Epoch.Missing, []int{1, 4}) || !slices.Equal(v.Epoch.Homes, []int{0, 1, 2, 3, 4, 5}) {
		t.Errorf("coded: %+v %+v", v, v.Epoch)
	}
	v = volumeOf(t, s, 5)
	if v.Released() || v.Epoch == nil || v.Epoch.Plan != withSource.Plan || v.LastEpoch != 3 || !slices.Equal(v.Epoch.Digests, withSource.Digests) || len(v.Epoch.Missing) > 0 {
		t.Errorf("coded, with its source: %+v %+v", v, v.Epoch)
	}
	if v = volumeOf(t, s, 7); v.Seal != nil {
		t.Errorf("poisoned: %+v", v)
	}
	if s.Newest != 7006 {
		t.Errorf("newest %d", s.Newest)
	}
}

// leaves wants one volume left out, with a reason.
func leaves(t *testing.T, s *tools.Survey, v volume.ID, want string) {
	t.Helper()
	i := slices.IndexFunc(s.Left, func(l tools.LeftVolume) bool { return l.ID == v })
	if i < 0 || !strings.Contains(s.Left[i].Why, want) {
		t.Errorf("left: %+v; wanted volume %d because of %q", s.Left, v, want)
	}
	if slices.ContainsFunc(s.Volumes, func(o tools.SurveyedVolume) bool { return o.ID == v }) {
		t.Errorf("volume %d is taken in as well", v)
	}
}

func TestSurveyLeaves(t *testing.T) {
	t.Run("damaged, doubled and foreign files", func(t *testing.T) {
		d := newDisks(t, 22)
		ok(t, d.fill(1, 0, 5).Close())
		ok(t, d.fill(2, 0, 5).Close())
		vol := d.fill(3, 0, 5)
		d.seal(vol)
		ok(t, vol.Close())
		ok(t, d.fill(5, 0, 5).Close())
		d.identify()
		flip(t, d.file(0, 1, 1), 100)
		flip(t, d.file(0, 1, 1), 5000)
		next, err := volume.Create(d.volumes(1), volume.Identity{Volume: 2, Generation: 2, Class: volume.ClassOriginals}, volume.Options{})
		ok(t, errors.Join(err, next.Close()))
		other := newDisks(t, 23)
		vol = other.fill(3, 0, 5)
		_, err = vol.Seal(bg, volume.SealInfo{Slot: 600, From: 3000, To: 3999})
		ok(t, errors.Join(err, vol.Close()))
		b, err := os.ReadFile(other.file(0, 3, 1))
		ok(t, err)
		ok(t, os.WriteFile(d.file(2, 3, 1), b, 0o640))
		overlap, err := volume.Create(d.volumes(1), volume.Identity{Volume: 6, Generation: 1, Class: volume.ClassOriginals}, volume.Options{})
		ok(t, err)
		ok(t, overlap.Append(bg, []volume.Needle{{Key: id.Make(5001, 600, 9), Cookie: 1, Data: []byte("x")}}))
		ok(t, overlap.Close())
		wrong, err := volume.Create(d.volumes(1), volume.Identity{Volume: 7, Generation: 1, Class: volume.ClassVariants}, volume.Options{})
		ok(t, err)
		ok(t, wrong.Append(bg, []volume.Needle{{Key: id.Make(1, 600, 9), Cookie: 1, Data: []byte("x")}}))
		ok(t, wrong.Close())

		s := d.survey()
		leaves(t, s, 1, "superblock")
		leaves(t, s, 2, "nobody says that one counts")
		leaves(t, s, 3, "do not hold the same")
		leaves(t, s, 5, "overlaps that of volume 6")
		leaves(t, s, 6, "overlaps that of volume 5")
		leaves(t, s, 7, "another class")
		if len(s.Volumes) > 0 {
			t.Errorf("%+v", s.Volumes)
		}
	})
	t.Run("too few shards", func(t *testing.T) {
		d, coded := codedAlone(t)
		for _, i := range []int{0, 2, 4} {
			ok(t, os.Truncate(d.shardFile(coded.Plan, i), coded.FileBytes()-4096))
		}
		leaves(t, d.survey(), 4, "of 6 shards 3 are there")
	})
	t.Run("too few disks", func(t *testing.T) {
		d, coded := codedAlone(t)
		ok(t, os.Remove(d.shardFile(coded.Plan, 0)))
		for _, i := range []int{1, 2, 4} {
			ok(t, os.Rename(d.shardFile(coded.Plan, i), filepath.Join(d.shards(3), filepath.Base(d.shardFile(coded.Plan, i)))))
		}
		leaves(t, d.survey(), 4, "move shards")
	})
	t.Run("a delete log that lacks deletes", func(t *testing.T) {
		d, coded := codedAlone(t)
		ok(t, os.Remove(d.shardFile(coded.Plan, 0)))
		log, err := os.ReadFile(filepath.Join(d.shards(1), "00000004.deletes"))
		ok(t, err)
		// The source is still there, and the shards are not complete.
		back := d.shards(0)
		ok(t, coding.Decode(bg, coded, openAll(t, d, coded), vfs.OS{}, d.file(3, 4, 2), coding.Options{}))
		ok(t, os.WriteFile(filepath.Join(d.volumes(3), "00000004.deletes"), log, 0o640))
		if v := volumeOf(t, d.survey(), 4); v.Epoch != nil || v.Released() || v.LastEpoch != 9 || len(v.Notes) != 1 {
			t.Errorf("%+v", v)
		}
		ok(t, os.WriteFile(filepath.Join(d.volumes(3), "00000004.deletes"), log[:8192], 0o640))
		leaves(t, d.survey(), 4, "lacks 2 deletes")
		ok(t, os.RemoveAll(back))
	})
	t.Run("nothing but a log", func(t *testing.T) {
		d, coded := codedAlone(t)
		for i := range policy.Shards() {
			ok(t, os.Remove(d.shardFile(coded.Plan, i)))
		}
		leaves(t, d.survey(), 4, "nothing is left")
	})
}

// codedAlone is a coded volume without its source, with two deletes in its log.
func codedAlone(t *testing.T) (*disks, coding.Committed) {
	t.Helper()
	d := newDisks(t, 24)
	vol := d.fill(4, 3, 20)
	d.seal(vol)
	vol = d.compact(vol)
	d.deleteOne(vol)
	d.deleteOne(vol)
	coded := d.code(vol, 3, 9)
	d.release(4, 3)
	d.identify()
	return d, coded
}

func openAll(t *testing.T, d *disks, c coding.Committed) []coding.Shard {
	t.Helper()
	out := make([]coding.Shard, c.Shards())
	for i := range out {
		if f, err := coding.Open(coding.Home{FS: vfs.OS{}, Dir: d.shards(i)}, c, i); err == nil {
			t.Cleanup(func() { _ = f.Close() })
			out[i] = f
		}
	}
	return out
}

// An encoder that a crash cut short has given out its epoch all the same, and a disk
// with volumes has an identity, of its own.
func TestSurveyNumbersAndDisks(t *testing.T) {
	d, _ := codedAlone(t)
	ok(t, os.WriteFile(filepath.Join(d.shards(0), coding.FileName(4, 2, 12, 3)+".tmp"), []byte("?"), 0o640))
	empty, err := volume.Create(d.volumes(0), volume.Identity{Volume: 9, Generation: 1, Class: volume.ClassVariants}, volume.Options{})
	ok(t, err)
	ok(t, empty.Close())
	spare := t.TempDir()
	ok(t, os.Mkdir(filepath.Join(spare, "volumes"), 0o750))
	s := d.survey(append(slices.Clone(d.dirs), spare)...)
	if v := volumeOf(t, s, 4); v.LastEpoch != 12 || v.Epoch.Epoch != 9 {
		t.Errorf("%+v", v)
	}
	if v := volumeOf(t, s, 9); v.From != v.To || v.To == 0 || v.Slot != 64 || v.Seal != nil {
		t.Errorf("empty: %+v", v)
	}
	if len(s.Disks) != len(d.dirs) {
		t.Errorf("%d disks", len(s.Disks))
	}
	refused := func(want string) {
		t.Helper()
		r, err := tools.OpenRescue(d.dirs, tools.RescueOptions{})
		ok(t, err)
		if _, err := r.SurveyDisks(bg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	b, err := os.ReadFile(filepath.Join(d.dirs[1], "disk.id"))
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(d.dirs[0], "disk.id"), b, 0o640))
	refused("one of them is a copy")
	ok(t, os.Remove(filepath.Join(d.dirs[0], "disk.id")))
	refused("has lost its identity")
}
