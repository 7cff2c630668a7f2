package server_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/vfs"
	"hayloft/volume"
	"hayloft/volume/server"
)

func must[T any](got T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
}

// A server lives on the directory in memory as on the real one.
func TestServerOnTheDirectoryInMemory(t *testing.T) {
	c := clock.NewFake(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))
	n := &fakeNode{d: newFakeDir(c), node: 1, incarnation: 7}
	s := must(server.Open(t.Context(), server.Options{Dirs: []string{"/d"}, Directory: n, FS: vfs.NewMem(1), Clock: c,
		AllocChunk: 4096, WatchEvery: -1, ScrubEvery: -1, NoUpkeep: true}))(t)
	defer s.Close(context.Background()) //nolint:errcheck // nothing is at stake
	blob, cookie, err := s.Reserve(t.Context(), volume.ClassOriginals)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), blob, group(blob, cookie, 100, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Seal(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	got := must(s.Read(t.Context(), blob, 0, cookie))(t)
	got.Release()
	if row := n.table().rows[1]; row.State != server.StateSealed || row.Seal.Needles != 1 {
		t.Errorf("the row is %+v", row.Row)
	}
}

// The directory in memory decides over replica sets as the real one does.
func TestReplicaSetsOfTheDirectoryInMemory(t *testing.T) {
	ctx, c := t.Context(), clock.NewFake(time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC))
	n := &fakeNode{d: newFakeDir(c), node: 1, incarnation: 7}
	for i := range 4 {
		must(n.RegisterDisk(ctx, [16]byte{byte(i)}, 1))(t)
	}
	lease := must(n.Leaser(volume.ClassOriginals, 0, 0).Acquire(ctx, id.MillisOf(c.Now())))(t)
	ident := must(n.OpenVolume(ctx, lease, []uint32{2, 1, 3}, 3, lease.From))(t)
	v := ident.Volume
	is := func(r server.Row, err error) func(sync uint32, disks, inSync []uint32) {
		t.Helper()
		return func(sync uint32, disks, inSync []uint32) {
			t.Helper()
			if err != nil || r.Sync != sync || !slices.Equal(r.Disks, disks) || !slices.Equal(r.InSync, inSync) {
				t.Fatalf("%v; the row is %+v, want epoch %d, %v, %v", err, r, sync, disks, inSync)
			}
		}
	}
	refused := func(_ server.Row, err error) {
		t.Helper()
		if !errors.Is(err, errRefused) {
			t.Fatalf("%v, want a refusal", err)
		}
	}
	is(n.ConfirmVolume(ctx, v, 1))(1, []uint32{2, 1, 3}, []uint32{2, 1, 3})
	refused(n.LeaveSync(ctx, v, 2, 7))
	refused(n.AddReplica(ctx, v, 4, 1)) // it is open
	is(n.LeaveSync(ctx, v, 2, 1))(2, []uint32{2, 1, 3}, []uint32{1, 3})
	is(n.LeaveSync(ctx, v, 2, 1))(2, []uint32{2, 1, 3}, []uint32{1, 3})
	is(n.LeaveSync(ctx, v, 3, 2))(3, []uint32{2, 1, 3}, []uint32{1})
	refused(n.LeaveSync(ctx, v, 1, 3))
	if err := n.CloseTile(ctx, lease, lease.From+1); err != nil {
		t.Fatal(err)
	}
	refused(n.SealVolume(ctx, v, 1, []uint32{2, 3}, server.Sealed{Digest: volume.Digest{1}, Bytes: 9000})) // none was in sync
	is(n.SealVolume(ctx, v, 1, []uint32{1, 2}, server.Sealed{Digest: volume.Digest{1}, Bytes: 9000}))(4, []uint32{2, 1}, []uint32{1})
	is(n.SealVolume(ctx, v, 1, []uint32{1, 2}, server.Sealed{Digest: volume.Digest{1}, Bytes: 9000}))(4, []uint32{2, 1}, []uint32{1})
	is(n.AddReplica(ctx, v, 4, 4))(5, []uint32{2, 1, 4}, []uint32{1})
	refused(n.JoinSync(ctx, v, 4, 2, 5))
	refused(n.JoinSync(ctx, v, 4, 1, 4))
	is(n.JoinSync(ctx, v, 4, 1, 5))(6, []uint32{2, 1, 4}, []uint32{1, 4})
	is(n.BeginCompaction(ctx, v, 1, volume.Digest{1}, 0))(6, []uint32{2, 1, 4}, []uint32{1, 4})
	is(n.CommitCompaction(ctx, v, 2, []uint32{2, 4}, server.Sealed{Digest: volume.Digest{2}, Bytes: 9000}))(7, []uint32{2, 1, 4}, []uint32{4})
	is(n.JoinSync(ctx, v, 2, 2, 7))(8, []uint32{2, 1, 4}, []uint32{2, 4})
	is(n.RemoveReplica(ctx, v, 1, 8))(9, []uint32{2, 4}, []uint32{2, 4})
	is(n.RemoveReplica(ctx, v, 2, 9))(10, []uint32{4}, []uint32{4})
	refused(n.RemoveReplica(ctx, v, 4, 10))
}
