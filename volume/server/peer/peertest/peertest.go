package peertest

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/server"
)

// Subject is a Peer and what stands around it.
type Subject struct {
	Peer server.Peer
	Name string // of its node
	Disk uint32 // one of it
	Away uint32 // one of another node
	// Open has the directory open a volume with a replica on Disk, alone, and not
	// confirmed yet; Confirm confirms it, Close closes its tile, Sealed commits its seal.
	Open    func() volume.Identity
	Confirm func(volume.Identity)
	Close   func(volume.ID)
	Sealed  func(volume.ID, server.Sealed)
}

var bg = context.Background()

// trial is one volume being tried.
type trial struct {
	*testing.T
	Subject
	ident volume.Identity
	v     volume.ID
}

// Run tries a Peer. open makes one with its surroundings for each test.
func Run(t *testing.T, open func(t *testing.T) Subject) {
	for name, try := range map[string]func(*trial){
		"Create": create, "Append": appends, "Read": reads, "Range": ranges, "Probe": probes, "Entomb": entombs, "Delete": deletes,
		"Fence": fences, "LogDeletes": logs, "Holdings": holdings, "Fetch": fetches, "Fill": fills, "Bury": buries,
		"Seal": seals, "Copy": copies, "Shelf": shelves, "Mend": mends, "Elsewhere": elsewhere, "Context": contexts,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			tr := &trial{T: t, Subject: s, ident: s.Open()}
			tr.v = tr.ident.Volume
			if got := s.Peer.Node(); got != s.Name {
				t.Errorf("the node is called %q, want %q", got, s.Name)
			}
			try(tr)
		})
	}
}

// is ends the test unless err is want.
func (t *trial) is(err, want error, what string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: %v, want %v", what, err, want)
	}
}

func (t *trial) ok(err error, what string) {
	t.Helper()
	t.is(err, nil, what)
}

// made creates the volume's file and confirms it.
func (t *trial) made() {
	t.Helper()
	t.ok(t.Peer.Create(bg, t.Disk, t.ident), "create")
	t.Confirm(t.ident)
}

func needle(key id.ID, alt uint8, n int) volume.Needle {
	out := volume.Needle{Key: key, Alt: alt, Cookie: id.Cookie(key) * 7, Data: make([]byte, n)}
	for i := range out.Data {
		out.Data[i] = byte(i*int(key)) ^ byte(i>>8) ^ alt
	}
	if alt == 0 {
		out.Master = &volume.MasterInfo{Photo: key + 1, Owner: key + 2, ContentType: "image/avif", Time: time.UnixMilli(1_700_000_000_123).UTC()}
	}
	return out
}

// put makes the volume with needles: two of key 10, one of key 20 that is large.
func (t *trial) put() []volume.Needle {
	t.Helper()
	t.made()
	all := []volume.Needle{needle(10, 0, 300), needle(10, 1, 70_000), needle(20, 0, 1<<20+1234)}
	t.ok(t.Peer.Append(bg, t.Disk, t.ident, all[:2]), "append")
	t.ok(t.Peer.Append(bg, t.Disk, t.ident, all[2:]), "append")
	return all
}

// fenced makes the volume with needles, closes its tile and fences it.
func (t *trial) fenced() []volume.Needle {
	t.Helper()
	all := t.put()
	t.Close(t.v)
	st, err := t.Peer.Fence(bg, t.Disk, t.v)
	t.ok(err, "fence")
	if !st.Fenced || st.Poisoned || st.Generation != 1 || st.Sealed != nil || st.Made != nil || st.Deletes != 0 {
		t.Fatalf("fenced, it stands at %+v", st)
	}
	return all
}

// has compares a needle with what Read says.
func (t *trial) has(n volume.Needle) {
	t.Helper()
	b, err := t.Peer.Read(bg, t.Disk, t.v, n.Key, n.Alt, n.Cookie)
	t.ok(err, "read")
	defer b.Release()
	if !bytes.Equal(b.Data, n.Data) || b.ETag != sum(n.Data) || !sameMaster(b.Master, n.Master) {
		t.Fatalf("key %v alt %d: %d bytes, ETag %x, %+v", n.Key, n.Alt, len(b.Data), b.ETag, b.Master)
	}
}

// lacks ends the test unless a needle is not found.
func (t *trial) lacks(n volume.Needle) {
	t.Helper()
	b, err := t.Peer.Read(bg, t.Disk, t.v, n.Key, n.Alt, n.Cookie)
	b.Release()
	t.is(err, volume.ErrNotFound, "read of what is not there")
}

func create(t *trial) {
	st, err := t.Peer.Standing(bg, t.Disk, t.v)
	t.ok(err, "standing")
	if st != (server.Standing{}) {
		t.Errorf("without a file it stands at %+v", st)
	}
	t.ok(t.Peer.Create(bg, t.Disk, t.ident), "create")
	t.ok(t.Peer.Create(bg, t.Disk, t.ident), "create again")
	st, err = t.Peer.Standing(bg, t.Disk, t.v)
	t.ok(err, "standing")
	if st != (server.Standing{Generation: 1}) {
		t.Errorf("new, it stands at %+v", st)
	}
	other := t.ident
	other.Volume += 1000
	t.is(t.Peer.Create(bg, t.Disk, other), server.ErrUnavailable, "create what the directory does not know")
}

func appends(t *trial) {
	all := t.put()
	for _, n := range all {
		t.has(n)
	}
	t.ok(t.Peer.Append(bg, t.Disk, t.ident, all[:2]), "the same again")
	changed := needle(10, 0, 301)
	t.is(t.Peer.Append(bg, t.Disk, t.ident, []volume.Needle{changed}), volume.ErrConflict, "another content")
	t.is(t.Peer.Append(bg, t.Disk, t.ident, []volume.Needle{{Key: 0, Cookie: 1}}), volume.ErrInvalid, "no key")
	later := t.ident
	later.Generation++
	t.is(t.Peer.Append(bg, t.Disk, later, all[:1]), server.ErrUnavailable, "another generation")
	empty := volume.Needle{Key: 30, Cookie: 1}
	t.ok(t.Peer.Append(bg, t.Disk, t.ident, []volume.Needle{empty}), "no data")
	t.has(empty)
}

func reads(t *trial) {
	all := t.put()
	wrong := all[0]
	wrong.Cookie++
	t.lacks(wrong)
	t.lacks(needle(11, 0, 1))
	t.lacks(needle(10, 2, 1))
	_, err := t.Peer.Read(bg, t.Disk, t.v+1000, 10, 0, 1)
	t.is(err, server.ErrUnavailable, "read of an unknown volume")
}

func ranges(t *trial) {
	n := t.put()[2]
	size := int64(len(n.Data))
	for _, part := range [][2]int64{{0, 10}, {5, 0}, {100, 100_000}, {size - 5, 100}, {size, 7}, {size + 9, 7}, {0, size}} {
		r, err := t.Peer.ReadRange(bg, t.Disk, t.v, n.Key, 0, n.Cookie, part[0], part[1])
		t.ok(err, "range")
		from, to := min(part[0], size), min(part[0]+part[1], size)
		if !bytes.Equal(r.Data, n.Data[from:to]) || r.Size != size || r.ETag != sum(n.Data) || !sameMaster(r.Master, n.Master) || len(r.Data) > 0 && r.Offset != part[0] {
			t.Errorf("%d bytes at %d are %d at %d of %d", part[1], part[0], len(r.Data), r.Offset, r.Size)
		}
		r.Release()
	}
	for _, part := range [][2]int64{{-1, 10}, {0, -1}} {
		_, err := t.Peer.ReadRange(bg, t.Disk, t.v, n.Key, 0, n.Cookie, part[0], part[1])
		t.is(err, volume.ErrInvalid, "a range that is none")
	}
	_, err := t.Peer.ReadRange(bg, t.Disk, t.v, n.Key, 0, n.Cookie+1, 0, 10)
	t.is(err, volume.ErrNotFound, "a range with a wrong cookie")
}

func probes(t *trial) {
	t.put()
	p, err := t.Peer.Probe(bg, t.Disk, t.v, 10)
	t.ok(err, "probe")
	if p.Deleted || len(p.Needles) != 2 || p.Needles[1].Alt != 1 || p.Needles[1].Size < 70_000 || p.Needles[0].Err != nil {
		t.Errorf("%+v", p)
	}
	_, err = t.Peer.Probe(bg, t.Disk, t.v, 99)
	t.is(err, volume.ErrNotFound, "probe of nothing")
	t.ok(t.Peer.Entomb(bg, t.Disk, t.v, 10), "entomb")
	if p, err = t.Peer.Probe(bg, t.Disk, t.v, 10); err != nil || !p.Deleted || len(p.Needles) != 0 {
		t.Errorf("deleted: %+v, %v", p, err)
	}
}

func entombs(t *trial) {
	all := t.put()
	t.ok(t.Peer.Entomb(bg, t.Disk, t.v, 10), "entomb")
	t.ok(t.Peer.Entomb(bg, t.Disk, t.v, 10), "entomb again")
	t.lacks(all[0])
	t.lacks(all[1])
	t.has(all[2])
	t.is(t.Peer.Append(bg, t.Disk, t.ident, all[:1]), volume.ErrTombstoned, "put what was deleted")
}

func deletes(t *trial) {
	all := t.fenced()
	t.ok(t.Peer.Delete(bg, t.Disk, t.v, 20), "delete at the primary")
	t.ok(t.Peer.Delete(bg, t.Disk, t.v, 20), "delete again")
	t.lacks(all[2])
	t.has(all[0])
	list, newest, err := t.Peer.Deletes(bg, t.Disk, t.v, 0, 10)
	t.ok(err, "deletes")
	if len(list) != 1 || list[0].Key != 20 || newest != list[0].Number {
		t.Errorf("deletes %v, newest %d", list, newest)
	}
}

func fences(t *trial) {
	t.fenced()
	t.is(t.Peer.Append(bg, t.Disk, t.ident, []volume.Needle{needle(40, 0, 5)}), volume.ErrSealed, "append behind the fence")
	t.is(t.Peer.Entomb(bg, t.Disk, t.v, 10), volume.ErrSealed, "entomb behind the fence")
	st, err := t.Peer.Fence(bg, t.Disk, t.v)
	t.ok(err, "fence again")
	if again, err := t.Peer.Standing(bg, t.Disk, t.v); err != nil || again != st {
		t.Errorf("it stands at %+v, %v, said the fence; %+v later", st, err, again)
	}
}

// epoch is the sync epoch of a volume whose replicas never changed.
const epoch = 1

func logs(t *trial) {
	all := t.fenced()
	log := func(after uint32, keys ...id.ID) (uint32, error) {
		return t.Peer.LogDeletes(bg, t.Disk, t.v, epoch, after, keys)
	}
	n, err := log(0, 10, 55)
	if err != nil || n != 2 {
		t.Fatalf("the first two: %d, %v", n, err)
	}
	t.lacks(all[0])
	if n, err = log(0, 10, 55, 56); err != nil || n != 3 {
		t.Fatalf("two of them again: %d, %v", n, err)
	}
	if n, err = log(7, 20); err != nil || n != 3 {
		t.Fatalf("behind a gap: %d, %v", n, err)
	}
	t.has(all[2])
	_, err = log(1, 20)
	t.is(err, volume.ErrConflict, "another second one")
	if n, err = log(3); err != nil || n != 3 {
		t.Fatalf("none: %d, %v", n, err)
	}
	for _, page := range []struct {
		after uint32
		limit int
		want  []id.ID
	}{{0, 10, []id.ID{10, 55, 56}}, {0, 2, []id.ID{10, 55}}, {2, 10, []id.ID{56}}, {3, 10, nil}, {9, 10, nil}} {
		list, newest, err := t.Peer.Deletes(bg, t.Disk, t.v, page.after, page.limit)
		t.ok(err, "deletes")
		if newest != 3 || len(list) != len(page.want) {
			t.Fatalf("behind %d: %v, newest %d", page.after, list, newest)
		}
		for i, d := range list {
			if d.Number != page.after+1+uint32(i) || d.Key != page.want[i] {
				t.Fatalf("behind %d: %v", page.after, list)
			}
		}
	}
}

// held lists what Holdings gives.
func (t *trial) held() (all []server.Holding) {
	t.Helper()
	t.ok(t.Peer.Holdings(bg, t.Disk, t.v, func(h server.Holding) error {
		all = append(all, h)
		return nil
	}), "holdings")
	return all
}

func holdings(t *trial) {
	all := t.put()
	t.ok(t.Peer.Entomb(bg, t.Disk, t.v, 15), "entomb")
	t.Close(t.v)
	_, err := t.Peer.Fence(bg, t.Disk, t.v)
	t.ok(err, "fence")
	held := t.held()
	if len(held) != 4 || held[2] != (server.Holding{Key: 15, Tombstone: true}) {
		t.Fatalf("holdings %+v", held)
	}
	for i, n := range map[int]volume.Needle{0: all[0], 1: all[1], 3: all[2]} {
		want := server.Holding{Key: n.Key, Alt: n.Alt, Cookie: n.Cookie, Length: int64(len(n.Data)), ETag: sum(n.Data)}
		if held[i] != want {
			t.Errorf("holding %+v, want %+v", held[i], want)
		}
	}
	stop, calls := errors.New("enough"), 0
	err = t.Peer.Holdings(bg, t.Disk, t.v, func(server.Holding) error {
		calls++
		return stop
	})
	if t.is(err, stop, "holdings ended by their reader"); calls != 1 {
		t.Errorf("%d calls", calls)
	}
}

func fetches(t *trial) {
	all := t.fenced()
	var got []volume.Needle
	fetch := func(keys ...id.ID) {
		t.Helper()
		got = nil
		t.ok(t.Peer.Fetch(bg, t.Disk, t.v, keys, func(n volume.Needle) error {
			n.Data = bytes.Clone(n.Data)
			got = append(got, n)
			return nil
		}), "fetch")
	}
	fetch(20, 99, 10)
	if len(got) != 3 {
		t.Fatalf("%d needles", len(got))
	}
	for _, g := range got {
		for _, n := range all {
			if n.Key == g.Key && n.Alt == g.Alt && (n.Cookie != g.Cookie || !bytes.Equal(n.Data, g.Data) || !sameMaster(n.Master, g.Master)) {
				t.Errorf("needle %v alt %d differs", g.Key, g.Alt)
			}
		}
	}
	if fetch(99); len(got) != 0 {
		t.Errorf("%d needles of no key", len(got))
	}
	stop := errors.New("enough")
	t.is(t.Peer.Fetch(bg, t.Disk, t.v, []id.ID{10}, func(volume.Needle) error { return stop }), stop, "fetch ended by its reader")
}

func fills(t *trial) {
	all := t.fenced()
	more := []volume.Needle{needle(5, 0, 2000), needle(70, 3, 90_000)}
	t.ok(t.Peer.Fill(bg, t.Disk, t.ident, more), "fill")
	t.ok(t.Peer.Fill(bg, t.Disk, t.ident, append(more, all...)), "fill again, and more")
	for _, n := range append(more, all...) {
		t.has(n)
	}
	if held := t.held(); len(held) != 5 {
		t.Errorf("holdings %+v", held)
	}
	t.is(t.Peer.Fill(bg, t.Disk, t.ident, []volume.Needle{needle(5, 0, 2001)}), volume.ErrConflict, "fill another content")
}

func buries(t *trial) {
	all := t.fenced()
	t.ok(t.Peer.Bury(bg, t.Disk, t.v, []id.ID{10, 60}), "bury")
	t.ok(t.Peer.Bury(bg, t.Disk, t.v, []id.ID{60, 10}), "bury again")
	t.lacks(all[0])
	if held := t.held(); len(held) != 3 || !held[0].Tombstone || !held[2].Tombstone {
		t.Errorf("holdings %+v", held)
	}
	t.ok(t.Peer.Fill(bg, t.Disk, t.ident, all), "fill what was deleted")
	t.lacks(all[1])
}

func seals(t *trial) {
	all := t.fenced()
	info := volume.SealInfo{Slot: 600, From: 1, To: 2_000_000, United: true, Replicas: []byte("some disks"), Policy: []byte("a policy")}
	sealed, err := t.Peer.Seal(bg, t.Disk, t.v, info)
	t.ok(err, "seal")
	again, err := t.Peer.Seal(bg, t.Disk, t.v, info)
	t.ok(err, "seal again")
	if again != sealed || sealed.Needles != 3 || sealed.DataBytes != 300+70_000+1<<20+1234 || sealed.Bytes < sealed.DataBytes || sealed.Sealed.IsZero() {
		t.Fatalf("sealed %+v, again %+v", sealed, again)
	}
	st, err := t.Peer.Standing(bg, t.Disk, t.v)
	t.ok(err, "standing")
	if st.Sealed == nil || *st.Sealed != sealed || !st.Fenced {
		t.Fatalf("sealed, it stands at %+v", st)
	}
	t.Sealed(t.v, sealed)
	for _, n := range all {
		t.has(n)
	}
	t.is(t.Peer.Bury(bg, t.Disk, t.v, []id.ID{10}), volume.ErrSealed, "bury in a sealed volume")
	t.ok(t.Peer.Delete(bg, t.Disk, t.v, 10), "delete in a sealed volume")
	t.lacks(all[0])
}

func copies(t *trial) {
	t.fenced()
	sealed, err := t.Peer.Seal(bg, t.Disk, t.v, volume.SealInfo{Slot: 600, From: 1, To: 2_000_000, United: true})
	t.ok(err, "seal")
	t.Sealed(t.v, sealed)
	var file []byte
	said, err := t.Peer.Copy(bg, t.Disk, t.v, 1, func(b []byte) error {
		file = append(file, b...)
		return nil
	})
	t.ok(err, "copy")
	origin, err := volume.ReadOrigin(bytes.NewReader(file))
	t.ok(err, "superblock of the copy")
	if said != sealed || int64(len(file)) != sealed.Bytes || origin.Identity != t.ident || origin.Seal == nil || origin.Seal.Digest != sealed.Digest {
		t.Errorf("%d bytes of %+v, said %+v, is %+v", len(file), sealed, said, origin)
	}
	_, err = t.Peer.Copy(bg, t.Disk, t.v, 2, func([]byte) error { return nil })
	t.is(err, volume.ErrNoVolume, "copy of another generation")
	stop := errors.New("enough")
	_, err = t.Peer.Copy(bg, t.Disk, t.v, 1, func([]byte) error { return stop })
	t.is(err, stop, "copy ended by its reader")
}

// elsewhere asks for disks of others.
func elsewhere(t *trial) {
	t.put()
	disk := t.Away
	_, read := t.Peer.Read(bg, disk, t.v, 10, 0, 70)
	_, standing := t.Peer.Standing(bg, disk, t.v)
	_, shelf := t.Peer.Shelf(bg, disk, t.v, 1, 0)
	_, logged := t.Peer.LogDeletes(bg, disk, t.v, epoch, 0, []id.ID{1})
	for what, err := range map[string]error{
		"create": t.Peer.Create(bg, disk, t.ident), "append": t.Peer.Append(bg, disk, t.ident, []volume.Needle{needle(1, 0, 1)}),
		"entomb": t.Peer.Entomb(bg, disk, t.v, 1), "read": read, "standing": standing, "log": logged, "bury": t.Peer.Bury(bg, disk, t.v, nil),
		"shelf": shelf, "admit": t.Peer.Admit(bg, disk, t.v, t.Disk),
	} {
		t.is(err, server.ErrUnavailable, what+" on the disk of another node")
	}
}

// contexts calls with contexts that have ended.
func contexts(t *trial) {
	all := t.put()
	ctx, cancel := context.WithCancel(bg)
	cancel()
	_, err := t.Peer.Read(ctx, t.Disk, t.v, 20, 0, all[2].Cookie)
	if err == nil {
		t.Error("a read whose context had ended")
	}
	// Whether it happened nobody knows; it can be repeated.
	_ = t.Peer.Append(ctx, t.Disk, t.ident, []volume.Needle{needle(80, 0, 100)})
	t.ok(t.Peer.Append(bg, t.Disk, t.ident, []volume.Needle{needle(80, 0, 100)}), "append again")
	t.has(needle(80, 0, 100))
}

func sum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

func sameMaster(a, b *volume.MasterInfo) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Photo == b.Photo && a.Owner == b.Owner && a.ContentType == b.ContentType && a.Time.Equal(b.Time)
}
