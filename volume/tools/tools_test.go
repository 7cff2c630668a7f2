package tools_test

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"hayloft/internal/admin"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/coding"
	"hayloft/volume/server"
	"hayloft/volume/tools"
)

var bg = context.Background()

// blobs is a blob server that holds a few volumes and can be made to fail.
type blobs struct {
	dir  string
	vols map[volume.ID]*volume.Volume
	sick map[volume.ID]error

	lost   map[volume.ID]error // on a disk that is in no directory
	closed bool

	retry   error // of every volume
	verify  error
	seal    func(ctx context.Context, v volume.ID, report func(server.Progress)) error
	compact func(ctx context.Context, v volume.ID, report func(server.Progress)) (volume.SealRecord, error)

	shards map[volume.ID]*volume.Volume // beside vols, as disk 0; nil for one that cannot be served
	coded  []server.CodedInfo
	probe  func(id.ID) (server.Probed, error)
	stats  server.Stats
	table  []server.Row
	nodes  []tools.Node

	rows   map[volume.ID]server.Row // the directory's
	tiles  map[id.ID]volume.ID      // of blobs
	disks  []tools.Disk
	photos map[id.ID]tools.Photo
	encode error

	hold chan struct{} // if not nil, exports wait until it is closed
	held chan struct{} // told of each that waits

	mu    sync.Mutex // guards paced
	paced int64
}

func (b *blobs) Volumes() (out []server.VolumeInfo, err error) {
	if b.closed {
		return nil, server.ErrClosed
	}
	for v, vol := range b.vols {
		i := server.VolumeInfo{Volume: v, Class: vol.Identity().Class, Generation: 1, Disk: 1, Dir: b.dir, State: "open", Stats: vol.Stats(), Retry: b.retry, Work: "sealing"}
		if _, ok := vol.Sealed(); ok {
			i.State = "sealed"
		}
		out = append(out, i)
	}
	for v, vol := range b.shards {
		i := server.VolumeInfo{Volume: v, Class: volume.ClassVariants, Generation: 1, State: "coded", Epoch: 3, Shards: 6, Of: 6}
		if vol != nil {
			i.Stats = vol.Stats()
		} else {
			i.State, i.Sick = "sick", b.coded[0].Sick
		}
		out = append(out, i)
	}
	for v, err := range b.sick {
		out = append(out, server.VolumeInfo{Volume: v, Disk: 1, Dir: b.dir, State: "sick", Sick: err})
	}
	for v, err := range b.lost {
		out = append(out, server.VolumeInfo{Volume: v, Disk: 2, UUID: "0a0b", State: "sick", Sick: err})
	}
	slices.SortFunc(out, func(a, b server.VolumeInfo) int {
		return cmp.Or(cmp.Compare(a.Volume, b.Volume), cmp.Compare(a.Disk, b.Disk))
	})
	return out, nil
}

func (b *blobs) Use(v volume.ID, disk uint32, fn func(*volume.Volume) error) error {
	if disk == 0 {
		return fn(b.shards[v])
	}
	return fn(b.vols[v])
}

func (b *blobs) Verify(ctx context.Context, v volume.ID, disk uint32, found func(volume.Finding), report func(server.Progress)) (volume.Report, error) {
	if b.verify != nil {
		return volume.Report{}, b.verify
	}
	report(server.Progress{Volume: v, Step: "verifying", Done: 1, Total: 2})
	if disk == 0 {
		return b.shards[v].Check(ctx, found)
	}
	return b.vols[v].Check(ctx, found)
}

func (b *blobs) Seal(ctx context.Context, v volume.ID, report func(server.Progress)) error {
	return b.seal(ctx, v, report)
}

func (b *blobs) Compact(ctx context.Context, v volume.ID, report func(server.Progress)) (volume.SealRecord, error) {
	return b.compact(ctx, v, report)
}

func (b *blobs) Throttle(_ context.Context, _ uint32, n int64) error {
	if b.hold != nil {
		select {
		case b.held <- struct{}{}:
		case <-b.hold:
		}
		<-b.hold
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.paced += n
	return nil
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// blob is a deterministic id.
func blob(n int) id.ID { return id.Make(id.Millis(1000+n), 600, uint16(n)) }

// dataDir makes a data directory with an open volume of masters, of which one is
// deleted, a sealed one of variants, and a damaged file.
func dataDir(t testing.TB) string {
	t.Helper()
	data := t.TempDir()
	dir := filepath.Join(data, "volumes")
	ok(t, os.Mkdir(dir, 0o750))
	fill := func(v volume.ID, class volume.Class) *volume.Volume {
		vol, err := volume.Create(dir, volume.Identity{Volume: v, Generation: 1, Class: class}, volume.Options{})
		ok(t, err)
		for n := range 6 {
			needle := volume.Needle{Key: blob(n), Alt: 0, Cookie: id.Cookie(77 + n), Data: []byte(strings.Repeat(fmt.Sprint(v, n), 1000*n))}
			if class == volume.ClassOriginals {
				needle.Master = &volume.MasterInfo{Photo: blob(100 + n), Owner: blob(200), ContentType: "image/png", Time: time.UnixMilli(1_790_000_000_000)}
			}
			ok(t, vol.Append(bg, []volume.Needle{needle}))
		}
		return vol
	}
	vol := fill(1, volume.ClassOriginals)
	ok(t, vol.Delete(bg, blob(3)))
	ok(t, vol.Close())
	vol = fill(2, volume.ClassVariants)
	_, err := vol.Seal(bg, volume.SealInfo{Slot: 600, From: 1000, To: 2000})
	ok(t, err)
	ok(t, vol.Close())
	ok(t, os.WriteFile(filepath.Join(dir, volume.FileName(3, 1)), make([]byte, 20_000), 0o640))
	return data
}

// serve opens the directory's volumes as a server would and returns it, itself
// and behind a listener.
func serve(t testing.TB, data string) (*blobs, *tools.Local, *tools.Remote) {
	t.Helper()
	b := &blobs{dir: data, vols: map[volume.ID]*volume.Volume{}, sick: map[volume.ID]error{}}
	for _, v := range []volume.ID{1, 2, 3} {
		vol, err := volume.Open(filepath.Join(data, "volumes"), v, volume.Options{})
		if err != nil {
			b.sick[v] = err
			continue
		}
		b.vols[v] = vol
		t.Cleanup(func() { vol.Close() })
	}
	local := tools.NewLocal(tools.LocalOptions{Blobs: b, Replicas: func(volume.ID) int { return 1 }, Clock: clock.NewFake(noon.Add(10 * time.Second)),
		Policy: coding.Policy{Data: 4, Parity: 2}, Directory: b, Photo: b.Photo, Access: b.Access, Metadata: func() tools.Metadata { return tools.Metadata{Disks: 2, Hosts: 1, Where: "three copies"} }})
	door := admin.NewDoor(admin.Options{Token: "secret", Problem: tools.ProblemOf})
	tools.Serve(door, local, nil)
	s := httptest.NewServer(door)
	t.Cleanup(s.Close)
	c, err := admin.NewClient(s.URL, "secret")
	ok(t, err)
	t.Cleanup(c.Close)
	return b, local, tools.NewRemote(c)
}

// seen is everything that a Source tells, as text, without what only one of
// them can know.
func seen(t *testing.T, s tools.Source) string {
	t.Helper()
	var out strings.Builder
	rows, err := s.List(bg)
	ok(t, err)
	for _, r := range rows {
		r.Replicas, r.Epoch, r.Shards, r.SizeBytes, r.Work = nil, nil, nil, 0, ""
		note(t, &out, "row", r)
		details, err := s.Show(bg, r.ID)
		ok(t, err)
		for _, d := range details {
			d.Replicas, d.Epoch, d.Shards, d.SizeBytes, d.Events, d.Work = nil, nil, nil, 0, nil, ""
			note(t, &out, "detail", d)
		}
		err = s.Dump(bg, r.ID, tools.Query{Alt: tools.AllAlts, Cookies: true}, tools.DumpSink{
			File:   func(f tools.DumpFile) error { note(t, &out, "file", f); return nil },
			Record: func(r tools.DumpRecord) error { note(t, &out, "record", r); return nil },
		})
		if r.ID == 3 {
			if err == nil {
				t.Error("a damaged superblock was read")
			}
		} else if err != nil {
			t.Error(err)
		}
		verified, err := s.Verify(bg, r.ID, func(tools.Progress) {})
		ok(t, err)
		for _, v := range verified {
			note(t, &out, "verified", v)
		}
		ok(t, s.Export(bg, r.ID, tools.ExportSink{
			Needle: func(e tools.Exported, data []byte) error {
				note(t, &out, "needle", e)
				fmt.Fprintf(&out, "%d bytes %x\n", len(data), sha256.Sum256(data))
				return nil
			},
			Damaged: func(text string) error { fmt.Fprintf(&out, "damaged: %s\n", text); return nil },
		}))
	}
	return out.String()
}

func note(t *testing.T, out *strings.Builder, what string, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	ok(t, err)
	fmt.Fprintf(out, "%s %s\n", what, text)
}

// Files, a server and the same server behind its listener tell the same.
func TestSourcesAgree(t *testing.T) {
	data := dataDir(t)
	files, err := tools.OpenFiles([]string{data})
	ok(t, err)
	ok(t, files.Claim())
	offline := seen(t, files)
	ok(t, files.Close())
	b, local, remote := serve(t, data)
	here, there := seen(t, local), seen(t, remote)
	if here != there {
		t.Errorf("here:\n%s\nbehind the listener:\n%s", here, there)
	}
	if offline != here {
		t.Errorf("offline:\n%s\nonline:\n%s", offline, here)
	}
	for what, n := range map[string]int{"needle {": 5 + 6, "record ": 12 + 1, "detail {": 3, "damaged: ": 1} {
		if got := strings.Count(offline, what); got < n || what != "record " && got != n {
			t.Errorf("%d times %q, want %d:\n%s", got, what, n, offline)
		}
	}
	for _, want := range []string{`"state":"open"`, `"state":"sealed"`, `"state":"corrupt"`, `"kind":"open"`, `"cookie":"`, `"digest":"`, "originals/" + blob(200).String() + "/"} {
		if !strings.Contains(offline, want) {
			t.Errorf("%s is missing in:\n%s", want, offline)
		}
	}
	if b.paced == 0 {
		t.Error("the exports asked nobody for their pace")
	}
}

// Errors keep their meaning and their text on the way.
func TestErrorsOnTheWay(t *testing.T) {
	b, local, remote := serve(t, dataDir(t))
	cause := errors.New("why not")
	for _, e := range []error{
		nil,
		fmt.Errorf("%w: %w", volume.ErrNotSealed, cause), fmt.Errorf("%w: %w", server.ErrUnavailable, cause), fmt.Errorf("%w: %w", server.ErrNoSpace, cause),
		fmt.Errorf("%w: %w", volume.ErrNoSpace, cause), fmt.Errorf("%w: %w", volume.ErrCorrupt, cause), fmt.Errorf("%w: %w", server.ErrClosed, cause), cause,
	} {
		b.verify = e
		b.seal = func(context.Context, volume.ID, func(server.Progress)) error { return e }
		b.compact = func(context.Context, volume.ID, func(server.Progress)) (volume.SealRecord, error) {
			return volume.SealRecord{Needles: 6, End: 9000}, e
		}
		for _, k := range []tools.Keeper{local, remote} {
			_, err := k.Verify(bg, 1, func(tools.Progress) {})
			same(t, err, e)
			same(t, k.Seal(bg, 1, func(tools.Progress) {}), e)
			c, err := k.Compact(bg, 2, func(tools.Progress) {})
			same(t, err, e)
			if e == nil && (c.Needles != 6 || c.After != 9000 || c.Generation != 1 || c.Before == 0) {
				t.Errorf("%+v", c)
			}
			if err != nil && tools.OfVolume(err) != (e != nil) && k == tools.Keeper(remote) {
				t.Errorf("%v says nothing of the volume", err)
			}
		}
	}
	for _, k := range []tools.Keeper{local, remote} {
		_, show := k.Show(bg, 9)
		_, verify := k.Verify(bg, 9, nil)
		_, compact := k.Compact(bg, 9, nil)
		for _, err := range []error{show, verify, compact, k.Seal(bg, 9, nil), k.Dump(bg, 9, tools.Query{}, tools.DumpSink{}), k.Export(bg, 9, tools.ExportSink{})} {
			if !errors.Is(err, volume.ErrNoVolume) || !strings.Contains(err.Error(), "9") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
		}
	}
}

func same(t *testing.T, got, want error) {
	t.Helper()
	if (got == nil) != (want == nil) || want != nil && !strings.Contains(got.Error(), want.Error()) {
		t.Errorf("%v became %v", want, got)
	}
	if errors.Is(want, volume.ErrNotSealed) != errors.Is(got, volume.ErrNotSealed) {
		t.Errorf("%v became %v", want, got)
	}
}

// A server tells what is under way and what it will try again.
func TestWorkAndRetry(t *testing.T) {
	b, _, remote := serve(t, dataDir(t))
	b.retry = errors.New("no room\nfor it")
	rows, err := remote.List(bg)
	ok(t, err)
	if r := rows[0]; r.Work != "sealing" || r.Retry != "no room; for it" || *r.Replicas != 1 || *r.Epoch != 0 || *r.Shards != 0 || r.SizeBytes < *r.FileBytes {
		t.Errorf("%+v", r)
	}
}

// Progress comes through, and who leaves gets its context's error.
func TestProgressAndLeaving(t *testing.T) {
	b, _, remote := serve(t, dataDir(t))
	left := make(chan error, 1)
	b.seal = func(ctx context.Context, v volume.ID, report func(server.Progress)) error {
		report(server.Progress{Volume: v, Step: "sealing", Done: 3, Total: 7})
		<-ctx.Done()
		left <- ctx.Err()
		return ctx.Err()
	}
	ctx, leave := context.WithCancel(bg)
	err := remote.Seal(ctx, 1, func(p tools.Progress) {
		if p != (tools.Progress{Volume: 1, Step: "sealing", Done: 3, Total: 7}) {
			t.Errorf("%+v", p)
		}
		leave()
	})
	if !errors.Is(err, context.Canceled) || !errors.Is(<-left, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// No more than a few long readings at once; the next one is told so.
func TestBusy(t *testing.T) {
	b, _, remote := serve(t, dataDir(t))
	b.hold, b.held = make(chan struct{}), make(chan struct{})
	sink := tools.ExportSink{Needle: func(tools.Exported, []byte) error { return nil }}
	var ended sync.WaitGroup
	for range 4 {
		ended.Go(func() {
			if err := remote.Export(bg, 2, sink); err != nil {
				t.Error(err)
			}
		})
		<-b.held
	}
	_, err := remote.Verify(bg, 2, nil)
	var p *admin.Problem
	if !errors.As(err, &p) || !p.Named("busy") {
		t.Errorf("the fifth: %v", err)
	}
	close(b.hold)
	ended.Wait()
	// Their clients have the last line a moment before their places are free.
	for p = nil; ; p = nil {
		if _, err = remote.Verify(bg, 2, func(tools.Progress) {}); !errors.As(err, &p) || !p.Named("busy") {
			break
		}
	}
	if err != nil {
		t.Errorf("when the others have ended: %v", err)
	}
}

func TestFilesRefuse(t *testing.T) {
	data := dataDir(t)
	for _, c := range []struct {
		dirs []string
		says string
	}{
		{[]string{data + "/nope"}, "no directory"},
		{[]string{data, data + "/"}, "twice"},
		{[]string{filepath.Join(data, "volumes", volume.FileName(1, 1))}, "not a directory"},
		{[]string{filepath.Join(data, "volumes")}, "name the directory above it"},
		{[]string{t.TempDir()}, "not a data directory"},
	} {
		if _, err := tools.OpenFiles(c.dirs); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: %v", c.dirs, err)
		}
	}
	ok(t, os.WriteFile(filepath.Join(data, "disk.id"), nil, 0o640))
	f, err := vfs.OS{}.OpenWrite(filepath.Join(data, "disk.id"))
	ok(t, err)
	files, err := tools.OpenFiles([]string{data})
	ok(t, err)
	if used := files.Used(); !slices.Equal(used, []string{data}) {
		t.Errorf("used: %v", used)
	}
	if err := files.Claim(); !errors.Is(err, tools.ErrInUse) {
		t.Errorf("%v", err)
	}
	ok(t, files.Close())
	ok(t, f.Close())
	if used := files.Used(); len(used) > 0 {
		t.Errorf("used: %v", used)
	}
}

func (b *blobs) Coded() []server.CodedInfo { return b.coded }
func (b *blobs) Stats() server.Stats       { return b.stats }
func (b *blobs) Probe(_ context.Context, blob id.ID) (server.Probed, error) {
	return b.probe(blob)
}

func (b *blobs) Encode(_ context.Context, v volume.ID, report func(server.Progress)) error {
	report(server.Progress{Volume: v, Step: "encode", Done: 1, Total: 2})
	return b.encode
}

func (b *blobs) Rebuild(_ context.Context, v volume.ID, report func(server.Progress)) error {
	report(server.Progress{Volume: v, Step: "rebuild", Done: 1, Total: 2})
	return b.encode
}
