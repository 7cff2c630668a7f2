package tools_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hayloft/volume"
	"hayloft/volume/tools"
)

// copyTo copies files of a volume from one disk to another as they are now.
func (d *disks) copyTo(from, to int, names ...string) {
	d.t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(d.volumes(from), name))
		ok(d.t, err)
		ok(d.t, os.WriteFile(filepath.Join(d.volumes(to), name), b, 0o640))
	}
}

// again opens the volume on a disk.
func (d *disks) again(disk int, v volume.ID) *volume.Volume {
	d.t.Helper()
	vol, err := volume.Open(d.volumes(disk), v, volume.Options{AllocChunk: 64 << 10})
	ok(d.t, err)
	return vol
}

func wantCopies(t *testing.T, v tools.SurveyedVolume, target int, disks, inSync []int) {
	t.Helper()
	if v.Target != target || !slices.Equal(v.Disks, disks) || !slices.Equal(v.InSync, inSync) {
		t.Errorf("volume %d: on %v, in sync %v, target %d; want %v, %v, %d (%v)", v.ID, v.Disks, v.InSync, v.Target, disks, inSync, target, v.Notes)
	}
}

// TestSurveyCopies: all intact copies that hold the same are replicas, and those in
// sync that have every delete.
func TestSurveyCopies(t *testing.T) {
	file := func(v volume.ID) string { return volume.FileName(v, 1) }
	d := newDisks(t, 31)
	// 1: closing. Disk 1 was away when a photo was deleted.
	vol := d.fill(1, 0, 10)
	d.copyTo(0, 1, file(1))
	d.deleteOne(vol)
	ok(t, vol.Close())
	d.copyTo(0, 2, file(1))
	// 2: closing, and each of two copies has a delete that the other one has not.
	vol = d.fill(2, 0, 10)
	ok(t, vol.Close())
	d.copyTo(0, 1, file(2))
	for _, disk := range []int{0, 1} {
		vol = d.again(disk, 2)
		d.deleteOne(vol)
		ok(t, vol.Close())
	}
	// 3: sealed. Disk 1 has no delete log.
	vol = d.fill(3, 0, 10)
	d.seal(vol)
	d.deleteOne(vol)
	ok(t, vol.Close())
	d.copyTo(0, 1, file(3))
	d.copyTo(0, 2, file(3), "00000003.deletes")
	// 4: sealed on disk 0, and left out of the seal on disk 1.
	vol = d.fill(4, 0, 10)
	d.copyTo(0, 1, file(4))
	d.seal(vol)
	ok(t, vol.Close())
	// 5: so as well, but with a delete that the sealed one has not.
	vol = d.fill(5, 0, 10)
	d.copyTo(0, 1, file(5))
	d.seal(vol)
	ok(t, vol.Close())
	vol = d.again(1, 5)
	d.deleteOne(vol)
	ok(t, vol.Close())
	// 6: two files of that number which are not one volume.
	ok(t, d.fill(6, 0, 10).Close())
	ok(t, d.fill(6, 1, 10).Close())
	// 7: closing, and a log of a disk that has no file any more tells of a delete.
	vol = d.fill(7, 0, 10)
	ok(t, vol.Close())
	d.copyTo(0, 3, file(7))
	vol = d.again(3, 7)
	d.seal(vol)
	d.deleteOne(vol)
	ok(t, vol.Close())
	for _, name := range []string{file(7), volume.IndexName(7, 1)} {
		ok(t, os.Remove(filepath.Join(d.volumes(3), name)))
	}
	d.identify()

	s := d.survey()
	wantCopies(t, volumeOf(t, s, 1), 3, []int{0, 1, 2}, []int{0, 2})
	leaves(t, s, 2, "lacks 1 deletes")
	wantCopies(t, volumeOf(t, s, 3), 3, []int{0, 1, 2}, []int{0, 2})
	wantCopies(t, volumeOf(t, s, 4), 1, []int{0}, []int{0})
	leaves(t, s, 5, "lacks 1 deletes")
	leaves(t, s, 6, "nothing in common")
	leaves(t, s, 7, "lacks 1 deletes")
}

// TestSurveyManyCopies: a row names eight replicas, rather those in sync.
func TestSurveyManyCopies(t *testing.T) {
	d := newDisks(t, 32)
	vol := d.fill(3, 0, 10)
	d.seal(vol)
	d.deleteOne(vol)
	ok(t, vol.Close())
	for len(d.dirs) < 10 {
		d.dirs = append(d.dirs, t.TempDir())
		ok(t, os.Mkdir(d.volumes(len(d.dirs)-1), 0o750))
	}
	for disk := 1; disk < 10; disk++ {
		d.copyTo(0, disk, volume.FileName(3, 1))
	}
	d.copyTo(0, 9, "00000003.deletes")
	d.identify()
	wantCopies(t, volumeOf(t, d.survey(), 3), 8, []int{0, 9, 1, 2, 3, 4, 5, 6}, []int{0, 9})
}
