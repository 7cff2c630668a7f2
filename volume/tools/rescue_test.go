package tools_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/internal/testenv"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/tools"
)

var rescueSeed = flag.Uint64("rescue.seed", 0, "repeat the random rescue with this seed alone")

var policy = coding.Policy{Data: 4, Parity: 2}

// disks are data directories of which everything but volumes/ and shards/ is gone,
// and what was stored in them.
type disks struct {
	t    *testing.T
	rng  *rand.Rand
	dirs []string
	live map[id.ID][32]byte // masters that were not deleted, by blob
	dead map[id.ID][32]byte // masters that were
	of   map[id.ID]volume.ID
	next int
}

func newDisks(t *testing.T, seed uint64) *disks {
	d := &disks{t: t, rng: rand.New(rand.NewPCG(seed, 7)), live: map[id.ID][32]byte{}, dead: map[id.ID][32]byte{}, of: map[id.ID]volume.ID{}}
	root := t.TempDir()
	for i := range policy.Shards() {
		dir := filepath.Join(root, fmt.Sprintf("disk%d", i))
		ok(t, errors.Join(os.MkdirAll(filepath.Join(dir, "volumes"), 0o750), os.MkdirAll(filepath.Join(dir, "shards", "00000004-00000001"), 0o750)))
		d.dirs = append(d.dirs, dir)
	}
	return d
}

func (d *disks) volumes(disk int) string { return filepath.Join(d.dirs[disk], "volumes") }
func (d *disks) shards(disk int) string {
	return filepath.Join(d.dirs[disk], "shards", "00000004-00000001")
}

func (d *disks) file(disk int, v volume.ID, generation uint32) string {
	return filepath.Join(d.volumes(disk), volume.FileName(v, generation))
}

// fill makes an open volume with n masters of which every fifth is deleted.
func (d *disks) fill(v volume.ID, disk, n int) *volume.Volume {
	d.t.Helper()
	vol, err := volume.Create(d.volumes(disk), volume.Identity{Volume: v, Generation: 1, Class: volume.ClassOriginals}, volume.Options{AllocChunk: 64 << 10})
	ok(d.t, err)
	d.put(vol, n)
	return vol
}

func (d *disks) put(vol *volume.Volume, n int) {
	d.t.Helper()
	v := vol.Identity().Volume
	for i := range n {
		d.next++
		size := 1 + d.rng.IntN(40_000)
		if i == n/2 {
			size = 300_000 // with a table of block sums
		}
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(d.rng.Uint32())
		}
		key := id.Make(id.Millis(1000*int(v)+i), 600, uint16(d.next))
		ok(d.t, vol.Append(bg, []volume.Needle{{Key: key, Cookie: id.Cookie(d.rng.Uint64() | 1), Data: data,
			Master: &volume.MasterInfo{Photo: id.ID(d.next), Owner: 9, ContentType: "image/jpeg", Time: time.UnixMilli(1_790_000_000_000)}}}))
		d.live[key], d.of[key] = sha256.Sum256(data), v
		if i%5 == 4 {
			d.delete(vol, key)
		}
	}
}

func (d *disks) delete(vol *volume.Volume, key id.ID) {
	d.t.Helper()
	ok(d.t, vol.Delete(bg, key))
	d.dead[key] = d.live[key]
	delete(d.live, key)
}

// deleteOne deletes any of a volume's needles.
func (d *disks) deleteOne(vol *volume.Volume) {
	d.t.Helper()
	for _, key := range slices.Sorted(maps.Keys(d.live)) {
		if d.of[key] == vol.Identity().Volume {
			d.delete(vol, key)
			return
		}
	}
	d.t.Fatal("nothing to delete")
}

func (d *disks) seal(vol *volume.Volume) {
	d.t.Helper()
	v := id.Millis(vol.Identity().Volume)
	_, err := vol.Seal(bg, volume.SealInfo{Slot: 600, From: 1000 * v, To: 1000*v + 999})
	ok(d.t, err)
}

// compact makes the next generation; the former one stays.
func (d *disks) compact(vol *volume.Volume) *volume.Volume {
	d.t.Helper()
	deletes, err := vol.Deletes(bg, 0, func(volume.Delete) error { return nil })
	ok(d.t, err)
	next, err := vol.Compact(bg, volume.CompactOptions{Generation: vol.Identity().Generation + 1, Deletes: deletes})
	ok(d.t, err)
	ok(d.t, vol.Close())
	return next
}

// code makes the shards of a sealed volume, one on each disk, each with a copy of
// the delete log, and closes the volume.
func (d *disks) code(vol *volume.Volume, disk int, epoch uint32) coding.Committed {
	d.t.Helper()
	ident := vol.Identity()
	rec, _ := vol.Sealed()
	ok(d.t, vol.Close())
	index, err := os.ReadFile(filepath.Join(d.volumes(disk), volume.IndexName(ident.Volume, ident.Generation)))
	ok(d.t, err)
	p := coding.Plan{Policy: policy, Volume: ident.Volume, Generation: ident.Generation, Epoch: epoch, Encoder: d.rng.Uint64() | 1,
		SourceBytes: rec.End, SourceDigest: rec.Digest, IndexBytes: int64(len(index))}
	var homes []coding.Home
	for i := range policy.Shards() {
		homes = append(homes, coding.Home{FS: vfs.OS{}, Dir: d.shards(i)})
	}
	digests, err := coding.Encode(bg, p, coding.Source{FS: vfs.OS{}, Name: d.file(disk, ident.Volume, ident.Generation), Index: index}, homes, coding.Options{})
	ok(d.t, err)
	name := fmt.Sprintf("%08x.deletes", uint32(ident.Volume))
	log, err := os.ReadFile(filepath.Join(d.volumes(disk), name))
	ok(d.t, err)
	for i := range d.dirs {
		ok(d.t, os.WriteFile(filepath.Join(d.shards(i), name), log, 0o640))
	}
	return coding.Committed{Plan: p, Digests: digests}
}

// release removes a volume's own files.
func (d *disks) release(v volume.ID, disk int) {
	d.t.Helper()
	names, err := filepath.Glob(filepath.Join(d.volumes(disk), fmt.Sprintf("%08x*", uint32(v))))
	ok(d.t, err)
	for _, n := range names {
		ok(d.t, os.Remove(n))
	}
}

func (d *disks) shardFile(p coding.Plan, i int) string {
	return filepath.Join(d.shards(i), coding.FileName(p.Volume, p.Generation, p.Epoch, i))
}

// flip turns bits of a file at an offset around.
func flip(t *testing.T, name string, off int64) {
	t.Helper()
	b, err := os.ReadFile(name)
	ok(t, err)
	b[off] ^= 0x5a
	ok(t, os.WriteFile(name, b, 0o640))
}

// rescued is what a rescue gave.
type rescued struct {
	rows     []tools.RescuedVolume
	got      map[id.ID][32]byte
	lost     map[id.ID]string
	problems []string
	absent   []volume.ID
}

func (r *rescued) row(t *testing.T, v volume.ID) tools.RescuedVolume {
	t.Helper()
	i := slices.IndexFunc(r.rows, func(row tools.RescuedVolume) bool { return row.ID == v })
	if i < 0 {
		t.Fatalf("no row of volume %d", v)
	}
	return r.rows[i]
}

// rescue runs one, and sees to it that it changes nothing.
func (d *disks) rescue(o tools.RescueOptions, dirs ...string) *rescued {
	d.t.Helper()
	if dirs == nil {
		dirs = d.dirs
	}
	before := d.fingerprint()
	r, err := tools.OpenRescue(dirs, o)
	ok(d.t, err)
	ok(d.t, r.Claim())
	files := map[string]bool{}
	out := &rescued{got: map[id.ID][32]byte{}, lost: map[id.ID]string{}}
	out.rows, out.absent, err = r.Run(bg, tools.RescueSink{
		ExportSink: tools.ExportSink{
			Needle: func(e tools.Exported, data []byte) error {
				if files[e.File] {
					d.t.Errorf("%s came twice", e.File)
				}
				files[e.File] = true
				out.got[e.Blob] = sha256.Sum256(data)
				return nil
			},
			Damaged: func(text string) error { out.problems = append(out.problems, text); return nil },
		},
		Lost: func(l tools.Lost) error { out.lost[l.Blob] = l.Why; return nil },
	})
	ok(d.t, errors.Join(err, r.Close()))
	if !maps.Equal(before, d.fingerprint()) {
		d.t.Error("the rescue changed the data directories")
	}
	return out
}

// fingerprint is every file with its bytes, size and times.
func (d *disks) fingerprint() map[string]string {
	d.t.Helper()
	all := map[string]string{}
	for _, dir := range d.dirs {
		ok(d.t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			st, err := os.Stat(path)
			all[path] = fmt.Sprintf("%x %v", sha256.Sum256(b), st.ModTime())
			return err
		}))
	}
	return all
}

// whole fails unless everything live, and nothing deleted, came back.
func (d *disks) whole(r *rescued) {
	d.t.Helper()
	if !maps.Equal(r.got, d.live) || len(r.lost) > 0 || len(r.problems) > 0 {
		missing, wrong := 0, 0
		for key, sum := range d.live {
			if got, there := r.got[key]; !there {
				missing++
			} else if got != sum {
				wrong++
			}
		}
		d.t.Errorf("%d of %d needles are missing, %d wrong, %d are too many; lost %v; %s", missing, len(d.live), wrong, len(r.got)+missing-len(d.live), r.lost, strings.Join(r.problems, "\n"))
	}
}

// everything makes volumes in all their states.
func everything(t *testing.T, seed uint64) (d *disks, coded, withSource coding.Committed) {
	d = newDisks(t, seed)
	ok(t, d.fill(1, 0, 12).Close()) // open

	vol := d.fill(2, 1, 12) // sealed in place, with deletes before and after
	d.seal(vol)
	d.deleteOne(vol)
	ok(t, vol.Close())

	vol = d.fill(3, 2, 12) // compacted, the former generation still there
	d.seal(vol)
	d.deleteOne(vol)
	vol = d.compact(vol)
	d.deleteOne(vol)
	ok(t, vol.Close())

	vol = d.fill(4, 3, 40) // coded, the source released
	d.seal(vol)
	d.deleteOne(vol)
	vol = d.compact(vol)
	d.deleteOne(vol)
	coded = d.code(vol, 3, 9)
	d.release(4, 3)

	vol = d.fill(5, 4, 20) // coded, with the source, beside a void epoch
	d.seal(vol)
	vol = d.compact(vol)
	withSource = d.code(vol, 4, 3)
	vol, err := volume.OpenGeneration(d.volumes(4), 5, 2, volume.Options{})
	ok(t, err)
	d.deleteOne(vol)
	void := d.code(vol, 4, 2)
	for _, i := range []int{1, 3, 5} {
		ok(t, os.Remove(d.shardFile(void.Plan, i)))
	}

	vol = d.fill(7, 5, 6) // poisoned; nothing has number 6
	ok(t, vol.Close())
	ok(t, os.WriteFile(strings.TrimSuffix(d.file(5, 7, 1), ".vol")+".poisoned", []byte("?"), 0o640))

	variants, err := volume.Create(d.volumes(0), volume.Identity{Volume: 8, Generation: 1, Class: volume.ClassVariants}, volume.Options{})
	ok(t, err)
	ok(t, variants.Append(bg, []volume.Needle{{Key: 1, Alt: 0, Cookie: 1, Data: []byte("a")}, {Key: 1, Alt: 1, Cookie: 1, Data: []byte("b")}}))
	ok(t, variants.Close())
	return d, coded, withSource
}

func TestRescueEverything(t *testing.T) {
	d, _, _ := everything(t, 1)
	r := d.rescue(tools.RescueOptions{})
	d.whole(r)
	if !slices.Equal(r.absent, []volume.ID{6}) || len(r.rows) != 6 {
		t.Errorf("absent %v, %d rows", r.absent, len(r.rows))
	}
	if row := r.row(t, 5); len(row.Copies) != 4 || row.Copies[0].File == "" || !row.Copies[0].Read || row.Copies[1].Read || row.Deleted == 0 {
		t.Errorf("the source alone should have been read: %+v", row)
	}

	r = d.rescue(tools.RescueOptions{Deleted: true})
	for key := range d.dead {
		if d.of[key] <= 3 && r.got[key] != d.dead[key] { // whose files still hold them
			t.Errorf("deleted needle %v of volume %d is not there", key, d.of[key])
		}
	}
	for key, sum := range d.live {
		if r.got[key] != sum {
			t.Errorf("needle %v of volume %d is not there", key, d.of[key])
		}
	}

	r = d.rescue(tools.RescueOptions{All: true})
	if row := r.row(t, 8); row.Needles != 2 || row.Class != "variants" || len(r.problems) > 0 || len(r.got) != len(d.live)+1 {
		t.Errorf("%d blobs, %v, variants: %+v", len(r.got), r.problems, row)
	}
}

// Up to m shards are lost or damaged, and any disk with its other files stays away.
func TestRescueDamage(t *testing.T) {
	round := func(seed uint64) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("repeat with: go test ./volume/tools -run TestRescueDamage -rescue.seed=%d", seed)
				}
			})
			d, coded, withSource := everything(t, seed)
			ok(t, os.Remove(d.shardFile(withSource.Plan, d.rng.IntN(policy.Shards()))))
			sick := d.rng.Perm(policy.Shards())[:policy.Parity]
			for _, i := range sick {
				name := d.shardFile(coded.Plan, i)
				st, err := os.Stat(name)
				ok(t, err)
				switch d.rng.IntN(3) {
				case 0:
					ok(t, os.Remove(name))
				case 1:
					ok(t, os.Truncate(name, d.rng.Int64N(st.Size())))
				default:
					for range 1 + d.rng.IntN(20) {
						flip(t, name, d.rng.Int64N(st.Size()))
					}
				}
			}
			// A needle of the source, and what a crash leaves at the end of an open file.
			flip(t, d.file(4, 5, 2), 9000+d.rng.Int64N(100_000))
			f, err := os.OpenFile(d.file(0, 1, 1), os.O_APPEND|os.O_WRONLY, 0)
			ok(t, err)
			_, err = f.Write(bytes.Repeat([]byte("torn"), 1+d.rng.IntN(5000)))
			ok(t, errors.Join(err, f.Close()))
			d.whole(d.rescue(tools.RescueOptions{}))
		})
	}
	if *rescueSeed != 0 {
		round(*rescueSeed)
		return
	}
	base := rand.Uint64()>>1 + 1
	for i := range testenv.Rounds(12) {
		round(base + uint64(i))
	}
}

// With more than m shards lost, what lies in the data shards that are left comes
// back, and everything else is named.
func TestRescueTooFewShards(t *testing.T) {
	for _, gone := range [][]int{{1, 2, 5}, {0, 4, 5}, {0, 1, 2, 3, 4}, {1, 2, 3, 4, 5}} {
		t.Run(fmt.Sprint(gone), func(t *testing.T) {
			d := newDisks(t, 3)
			vol := d.fill(4, 3, 40)
			d.seal(vol)
			vol = d.compact(vol)
			d.deleteOne(vol)
			coded := d.code(vol, 3, 9)
			places := map[id.ID]bool{} // that are left
			file, err := os.Open(d.file(3, 4, 2))
			ok(t, err)
			_, err = volume.ScanAt(file, coded.SourceBytes, true, func(r volume.Record) error {
				from, to := r.Offset/coded.ShardBytes(), (r.Offset+r.Size-1)/coded.ShardBytes()
				places[r.Key] = !slices.Contains(gone, int(from)) && !slices.Contains(gone, int(to))
				return nil
			})
			ok(t, errors.Join(err, file.Close()))
			d.release(4, 3)
			for _, i := range gone {
				ok(t, os.Remove(d.shardFile(coded.Plan, i)))
			}

			r := d.rescue(tools.RescueOptions{})
			for key, sum := range d.live {
				got, there := r.got[key]
				_, named := r.lost[key]
				if there != places[key] || named == there || there && got != sum {
					t.Errorf("needle %v: there %v, named %v, in a shard that is left %v", key, there, named, places[key])
				}
			}
			row := r.row(t, 4)
			if int(row.Needles) != len(r.got) || int(row.Lost) != len(r.lost) || len(r.got)+len(r.lost) != len(d.live) {
				t.Errorf("%d needles, %d lost; the row says %+v", len(r.got), len(r.lost), row)
			}
			want := fmt.Sprintf("volume 4: %d of %d needles are lost", len(r.lost), len(d.live)+1)
			if all := strings.Join(r.problems, "\n"); !strings.Contains(all, want) || !strings.Contains(all, "missing "+strings.Trim(strings.ReplaceAll(fmt.Sprint(gone), " ", ", "), "[]")) {
				t.Errorf("problems: %s", all)
			}
		})
	}
}

// A shard that is cut off gives what lies in front of the cut.
func TestRescueCutShard(t *testing.T) {
	d := newDisks(t, 4)
	vol := d.fill(4, 3, 40)
	d.seal(vol)
	vol = d.compact(vol)
	coded := d.code(vol, 3, 9)
	const cut = 100_000
	want := map[id.ID][32]byte{}
	_, err := volume.Scan(nil, d.file(3, 4, 2), func(r volume.Record) error {
		if r.Kind == volume.KindNeedle && r.Offset+r.Size <= cut {
			want[r.Key] = d.live[r.Key]
		}
		return nil
	})
	ok(t, err)
	d.release(4, 3)
	for i := range policy.Shards() - 1 {
		ok(t, os.Remove(d.shardFile(coded.Plan, i+1)))
	}
	ok(t, os.Truncate(d.shardFile(coded.Plan, 0), 8192+cut/4096*4096+4096))
	if r := d.rescue(tools.RescueOptions{}); !maps.Equal(r.got, want) || len(want) == 0 || len(r.problems) == 0 {
		t.Errorf("%d needles of %d: %v", len(r.got), len(want), r.problems)
	}
}

// Shards of two epochs of one source, each of them too few, together have more.
func TestRescueUnitesEpochs(t *testing.T) {
	d := newDisks(t, 5)
	vol := d.fill(4, 0, 40)
	d.seal(vol)
	vol = d.compact(vol)
	a := d.code(vol, 0, 1)
	vol, err := volume.OpenGeneration(d.volumes(0), 4, 2, volume.Options{})
	ok(t, err)
	b := d.code(vol, 0, 2)
	d.release(4, 0)
	for _, i := range []int{0, 1, 4, 5} {
		ok(t, os.Remove(d.shardFile(a.Plan, i)))
	}
	for _, i := range []int{2, 3, 4} {
		ok(t, os.Remove(d.shardFile(b.Plan, i)))
	}
	r := d.rescue(tools.RescueOptions{})
	if n := len(d.live) - len(r.got); n > 1 || len(r.lost) != n { // one may lie across shards 1 and 2
		t.Errorf("%d of %d needles are not there, %d named: %v", n, len(d.live), len(r.lost), r.problems)
	}
}

// Damage that leaves everything provable: superblocks, indexes, shard heads, table.
func TestRescueWithoutHeads(t *testing.T) {
	d := newDisks(t, 6)
	vol := d.fill(5, 0, 30)
	d.seal(vol)
	vol = d.compact(vol)
	coded := d.code(vol, 0, 1)
	// The source has no superblock left: that of the shards opens it. Too few shards
	// are there, and their tables are gone.
	for _, off := range []int64{100, 5000} {
		flip(t, d.file(0, 5, 2), off)
	}
	ok(t, os.Remove(filepath.Join(d.volumes(0), volume.IndexName(5, 2))))
	ok(t, os.Remove(d.file(0, 5, 1)))
	for i := range policy.Shards() {
		name := d.shardFile(coded.Plan, i)
		if i > 2 {
			ok(t, os.Remove(name))
			continue
		}
		flip(t, name, 10) // the first head
		flip(t, name, coded.FileBytes()-8192-4096+7)
	}
	d.whole(d.rescue(tools.RescueOptions{}))

	// The same out of the shards alone: what lies in the first three quarters.
	d.release(5, 0)
	r := d.rescue(tools.RescueOptions{})
	if len(r.got) < len(d.live)/2 || len(r.got)+len(r.lost) != len(d.live) {
		t.Errorf("%d came back and %d are named, of %d: %v", len(r.got), len(r.lost), len(d.live), r.problems)
	}
	for key, sum := range r.got {
		if d.live[key] != sum {
			t.Errorf("needle %v is wrong", key)
		}
	}
}

// What nobody can know is said.
func TestRescueUnknown(t *testing.T) {
	said := func(t *testing.T, r *rescued, want string) {
		t.Helper()
		if all := strings.Join(r.problems, "\n"); !strings.Contains(all, want) {
			t.Errorf("problems %q, want %q", all, want)
		}
	}
	t.Run("gap in an open file", func(t *testing.T) {
		d := newDisks(t, 8)
		ok(t, d.fill(1, 0, 10).Close())
		flip(t, d.file(0, 1, 1), 8192+20) // the first record's header
		r := d.rescue(tools.RescueOptions{})
		if len(r.got) != len(d.live)-1 {
			t.Errorf("%d of %d needles", len(r.got), len(d.live))
		}
		said(t, r, "nobody knows what they held")
	})
	t.Run("damaged data in an open file", func(t *testing.T) {
		d := newDisks(t, 8)
		ok(t, d.fill(1, 0, 10).Close())
		flip(t, d.file(0, 1, 1), 8192+64+60) // behind header and master info
		r := d.rescue(tools.RescueOptions{})
		if len(r.got) != len(d.live)-1 || len(r.lost) != 1 {
			t.Errorf("%d of %d needles, %v lost", len(r.got), len(d.live), r.lost)
		}
		said(t, r, "volume 1: 1 needles are lost")
	})
	t.Run("no delete log", func(t *testing.T) {
		d := newDisks(t, 8)
		vol := d.fill(1, 0, 10)
		d.seal(vol)
		ok(t, vol.Close())
		ok(t, os.Remove(filepath.Join(d.volumes(0), "00000001.deletes")))
		r := d.rescue(tools.RescueOptions{})
		if !maps.Equal(r.got, d.live) {
			t.Errorf("%d of %d needles", len(r.got), len(d.live))
		}
		said(t, r, "no delete log is left")
	})
	t.Run("a fenced volume with its delete log, and without", func(t *testing.T) {
		d := newDisks(t, 8)
		vol := d.fill(1, 0, 10)
		ok(t, vol.Fence(context.Background()))
		d.deleteOne(vol)
		ok(t, vol.Close())
		d.whole(d.rescue(tools.RescueOptions{}))
		ok(t, os.Remove(filepath.Join(d.volumes(0), "00000001.deletes")))
		r := d.rescue(tools.RescueOptions{})
		said(t, r, "no delete log is left")
		if len(r.got) != len(d.live)+1 {
			t.Errorf("%d needles, %d live", len(r.got), len(d.live))
		}
	})
	t.Run("a delete log with a hole, and one without", func(t *testing.T) {
		d := newDisks(t, 8)
		vol := d.fill(1, 0, 10)
		d.seal(vol)
		d.deleteOne(vol)
		d.deleteOne(vol)
		ok(t, vol.Close())
		log := filepath.Join(d.volumes(0), "00000001.deletes")
		b, err := os.ReadFile(log)
		ok(t, err)
		ok(t, os.WriteFile(filepath.Join(d.shards(3), "00000001.deletes"), b, 0o640))
		flip(t, log, 8192+20)
		flip(t, log, 8192+64+20) // the twin too
		d.whole(d.rescue(tools.RescueOptions{}))
		ok(t, os.Remove(filepath.Join(d.shards(3), "00000001.deletes")))
		said(t, d.rescue(tools.RescueOptions{}), "no whole delete log is left")
	})
	t.Run("a delete log with a hole, and an older one without", func(t *testing.T) {
		d := newDisks(t, 8)
		vol := d.fill(1, 0, 10)
		d.seal(vol)
		d.deleteOne(vol)
		log := filepath.Join(d.volumes(0), "00000001.deletes")
		old, err := os.ReadFile(log)
		ok(t, err)
		d.deleteOne(vol)
		d.deleteOne(vol)
		ok(t, vol.Close())
		ok(t, os.WriteFile(filepath.Join(d.shards(3), "00000001.deletes"), old, 0o640))
		_, err = volume.Scan(nil, log, func(r volume.Record) error {
			if r.Kind == volume.KindTombstone && r.Deletes == 1 { // the second, and its twin
				flip(t, log, r.Offset+20)
			}
			return nil
		})
		ok(t, err)
		r := d.rescue(tools.RescueOptions{})
		said(t, r, "no whole delete log is left")
		if len(r.got) != len(d.live)+1 {
			t.Errorf("%d needles, %d live", len(r.got), len(d.live))
		}
	})
	t.Run("a lost tombstone", func(t *testing.T) {
		d := newDisks(t, 8)
		vol := d.fill(1, 0, 5) // the last one is deleted
		ok(t, vol.Append(bg, []volume.Needle{{Key: 77, Cookie: 1, Data: []byte("no master")}}))
		ok(t, vol.Close())
		var at []int64
		_, err := volume.Scan(nil, d.file(0, 1, 1), func(r volume.Record) error {
			if r.Kind == volume.KindTombstone {
				at = append(at, r.Offset)
			}
			return nil
		})
		ok(t, err)
		for _, off := range at {
			flip(t, d.file(0, 1, 1), off+20)
		}
		r := d.rescue(tools.RescueOptions{})
		said(t, r, "held a delete")
		if len(r.got) != 5 {
			t.Errorf("%d needles", len(r.got))
		}
	})
	t.Run("nothing but a log", func(t *testing.T) {
		d := newDisks(t, 8)
		vol := d.fill(3, 0, 5)
		d.seal(vol)
		ok(t, vol.Close())
		ok(t, os.Remove(d.file(0, 3, 1)))
		r := d.rescue(tools.RescueOptions{})
		said(t, r, "volume 3: nothing is left of it but a delete log")
		if !slices.Equal(r.absent, []volume.ID{1, 2}) {
			t.Errorf("absent: %v", r.absent)
		}
	})
	t.Run("a newer program's file", func(t *testing.T) {
		d := newDisks(t, 8)
		ok(t, os.WriteFile(d.file(0, 1, 1), make([]byte, 9000), 0o640))
		said(t, d.rescue(tools.RescueOptions{}), "no copy of it can be read")
	})
}

// A newer generation says what was deleted, for keys of its tile alone: another
// server's volume may have the same number.
func TestRescueGenerations(t *testing.T) {
	d := newDisks(t, 9)
	vol := d.fill(3, 0, 10)
	d.seal(vol)
	d.deleteOne(vol)
	vol = d.compact(vol)
	ok(t, vol.Close())
	// The log is empty again, as a restored copy may be: generation 2 still knows.
	empty := newDisks(t, 10)
	other := empty.fill(3, 0, 1)
	empty.seal(other)
	ok(t, other.Close())
	b, err := os.ReadFile(filepath.Join(empty.volumes(0), "00000003.deletes"))
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(d.volumes(0), "00000003.deletes"), b, 0o640))
	r := d.rescue(tools.RescueOptions{})
	if !maps.Equal(r.got, d.live) {
		t.Errorf("%d needles, %d live", len(r.got), len(d.live))
	}

	// A volume of the same number and another tile, of generation 1.
	foreign, err := volume.Create(d.volumes(1), volume.Identity{Volume: 3, Generation: 1, Class: volume.ClassOriginals}, volume.Options{})
	ok(t, err)
	key := id.Make(900_000, 600, 1)
	data := []byte("another server's")
	ok(t, foreign.Append(bg, []volume.Needle{{Key: key, Cookie: 1, Data: data, Master: &volume.MasterInfo{Photo: 1, Owner: 1}}}))
	ok(t, foreign.Close())
	d.live[key] = sha256.Sum256(data)
	r = d.rescue(tools.RescueOptions{})
	if !maps.Equal(r.got, d.live) {
		t.Errorf("%d needles, %d live", len(r.got), len(d.live))
	}
}

// A shard that was moved may lie on two disks, one of them damaged.
func TestRescueChoosesTheSounderShard(t *testing.T) {
	d := newDisks(t, 11)
	vol := d.fill(4, 0, 30)
	d.seal(vol)
	vol = d.compact(vol)
	coded := d.code(vol, 0, 1)
	d.release(4, 0)
	for _, i := range []int{4, 5} {
		ok(t, os.Remove(d.shardFile(coded.Plan, i)))
	}
	b, err := os.ReadFile(d.shardFile(coded.Plan, 2))
	ok(t, err)
	ok(t, os.WriteFile(filepath.Join(d.shards(5), filepath.Base(d.shardFile(coded.Plan, 2))), b, 0o640))
	flip(t, d.shardFile(coded.Plan, 2), 20_000)
	d.whole(d.rescue(tools.RescueOptions{}))
}

func TestRescueStopsAndRefuses(t *testing.T) {
	d := newDisks(t, 12)
	ok(t, d.fill(1, 0, 5).Close())
	r, err := tools.OpenRescue(d.dirs[:1], tools.RescueOptions{})
	ok(t, err)
	ctx, stop := context.WithCancel(bg)
	stop()
	if _, _, err := r.Run(ctx, tools.RescueSink{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
	boom := errors.New("boom")
	sink := tools.RescueSink{ExportSink: tools.ExportSink{Needle: func(tools.Exported, []byte) error { return boom }}}
	if _, _, err := r.Run(bg, sink); !errors.Is(err, boom) {
		t.Errorf("a full disk: %v", err)
	}
	for _, dirs := range [][]string{{d.dirs[0], d.dirs[0]}, {t.TempDir()}, {filepath.Join(t.TempDir(), "none")}} {
		if _, err := tools.OpenRescue(dirs, tools.RescueOptions{}); err == nil {
			t.Errorf("%v was taken", dirs)
		}
	}
	ok(t, os.WriteFile(filepath.Join(d.dirs[0], "disk.id"), []byte("?"), 0o640))
	lock, err := vfs.OS{}.OpenWrite(filepath.Join(d.dirs[0], "disk.id"))
	ok(t, err)
	if err := r.Claim(); !errors.Is(err, tools.ErrInUse) {
		t.Errorf("claimed beside a server: %v", err)
	}
	ok(t, errors.Join(r.Close(), lock.Close()))
}
