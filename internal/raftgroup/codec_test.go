package raftgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func TestEnvelope(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cmds := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 300), 1, 20).Draw(t, "commands")
		var p packer
		for _, c := range cmds {
			if !p.fits(c) {
				t.Fatal("does not fit")
			}
			p.add(c)
		}
		id := ticketID{newTag(), rapid.Uint64().Draw(t, "number")}
		term := rapid.Uint64Min(1).Draw(t, "term")
		env := pack(term, id, p.counted())
		e, err := unpack(env)
		if err != nil || len(e.cmds) != len(cmds) || e.id != id || e.term != term || e.void(term) || !e.void(term+1) {
			t.Fatalf("%+v, %v", e, err)
		}
		got := e.cmds
		for i := range cmds {
			if !bytes.Equal(got[i], cmds[i]) {
				t.Fatalf("command %d: %x, want %x", i, got[i], cmds[i])
			}
		}
		cut := rapid.IntRange(0, len(env)-1).Draw(t, "cut")
		if _, err := unpack(env[:cut]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if _, err := unpack(append(env, 0)); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a byte too many: %v", err)
		}
	})
	if e, err := unpack([]byte{1, 1, 1, 'a'}); err != nil || string(e.cmds[0]) != "a" || e.void(7) { // of former versions
		t.Errorf("version 1: %+v, %v", e, err)
	}
	if _, err := unpack([]byte{1, 0}); !errors.Is(err, ErrCorrupt) {
		t.Errorf("version 1 without commands: %v", err)
	}
	if e, err := unpack(pack(3, ticketID{}, (&packer{}).counted())); err != nil || len(e.cmds) != 0 {
		t.Errorf("a mark: %+v, %v", e, err)
	}
	if _, err := unpack([]byte{3, 1, 0}); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrCorrupt) {
		t.Errorf("a later version: %v", err)
	}
	var p packer
	p.add(make([]byte, maxEntryBytes))
	if p.fits([]byte{1}) {
		t.Error("an entry grows without bound")
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte{1, 1, 1, 'a'})
	f.Add([]byte{1, 2, 0, 1, 'a'})
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Add(pack(3, ticketID{newTag(), 9}, []byte{1, 1, 'a'}))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := unpack(b)
		cmds := e.cmds
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		n := 0
		for _, c := range cmds {
			n += len(c)
		}
		if n > len(b) {
			t.Fatalf("%d commands of %d bytes out of %d", len(cmds), n, len(b))
		}
	})
}

func TestSeal(t *testing.T) {
	l := raft.Log{Index: 5, Term: 2, Type: raft.LogCommand, Data: []byte("data")}
	l.Extensions = seal(&l)
	if !sealed(&l) {
		t.Fatal("not sealed")
	}
	for name, change := range map[string]func(*raft.Log){
		"index": func(l *raft.Log) { l.Index++ }, "term": func(l *raft.Log) { l.Term++ }, "type": func(l *raft.Log) { l.Type++ },
		"data": func(l *raft.Log) { l.Data = []byte("dbta") }, "version": func(l *raft.Log) { l.Extensions = append([]byte{9}, l.Extensions[1:]...) },
		"none": func(l *raft.Log) { l.Extensions = nil },
	} {
		c := l
		if change(&c); sealed(&c) {
			t.Errorf("%s: the change was not seen", name)
		}
	}
}

func TestIdentity(t *testing.T) {
	b := encodeIdentity("directory", "n1")
	if g, n, err := decodeIdentity(b); err != nil || g != "directory" || n != "n1" {
		t.Fatalf("%q, %q, %v", g, n, err)
	}
	for i := range b {
		c := slices.Clone(b)
		c[i] ^= 1
		if _, _, err := decodeIdentity(c); !errors.Is(err, ErrCorrupt) {
			t.Errorf("flip at %d: %v", i, err)
		}
		if _, _, err := decodeIdentity(b[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v", i, err)
		}
	}
}

func TestSnapshotMeta(t *testing.T) {
	m := snapMeta{ID: "x", Index: 7, Term: 2, Configuration: []byte{1, 2}, StateIndex: 9, Files: []snapFile{{"a", 5}}}
	b, err := encodeMeta(m)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeMeta(b); err != nil || got.StateIndex != 9 || len(got.Files) != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range b {
		c := slices.Clone(b)
		c[i] ^= 4
		if _, err := decodeMeta(c); !errors.Is(err, ErrCorrupt) {
			t.Errorf("flip at %d: %v", i, err)
		}
	}
	for _, name := range []string{"", ".", "..", "../x", "a/b", "a\x00"} {
		m.Files = []snapFile{{name, 1}}
		b, err := encodeMeta(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeMeta(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("file %q was taken: %v", name, err)
		}
	}
}

// makeStream returns a stream of random files and the files.
func makeStream(t *testing.T, r *rand.Rand) ([]byte, []snapFile, *vfs.MemFS) {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("src", 0o700); err != nil {
		t.Fatal(err)
	}
	var files []snapFile
	for i, size := range []int{0, 1, 5000, streamChunk, streamChunk + 1, 2*streamChunk + r.IntN(1000)} {
		data := make([]byte, size)
		for k := range data {
			data[k] = byte(r.Uint32())
		}
		f := snapFile{string(rune('a' + i)), int64(size)}
		if err := writeSynced(fs, fs.PathJoin("src", f.Name), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	var out bytes.Buffer
	if err := writeStream(&out, fs, "src", 42, files); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), files, fs
}

func TestStream(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	b, files, fs := makeStream(t, r)
	if int64(len(b)) != streamSize(files) {
		t.Fatalf("%d bytes, announced %d", len(b), streamSize(files))
	}
	index, got, err := readStream(bytes.NewReader(b), fs, "dst")
	if err != nil || index != 42 || !slices.Equal(got, files) {
		t.Fatalf("%d, %v, %v", index, got, err)
	}
	for _, f := range files {
		x, err1 := readFile(fs, fs.PathJoin("src", f.Name), 1<<30)
		y, err2 := readFile(fs, fs.PathJoin("dst", f.Name), 1<<30)
		if err := errors.Join(err1, err2); err != nil || !bytes.Equal(x, y) {
			t.Errorf("%s differs, %v", f.Name, err)
		}
	}
	for range 60 {
		c := slices.Clone(b)
		at := r.IntN(len(c))
		if r.IntN(3) == 0 {
			at = r.IntN(100) // heads are small and would be missed
		}
		c[at] ^= 1 << r.IntN(8)
		if _, _, err := readStream(bytes.NewReader(c), vfs.NewMem(), "dst"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("flip at %d: %v", at, err)
		}
		cut := r.IntN(len(b))
		if _, _, err := readStream(bytes.NewReader(b[:cut]), vfs.NewMem(), "dst"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v", cut, err)
		}
	}
}

// FuzzIdentityAndMeta: what is accepted encodes to what decodes to the same.
func FuzzIdentityAndMeta(f *testing.F) {
	f.Add(encodeIdentity("feed", "node"))
	meta, err := encodeMeta(snapMeta{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(meta)
	f.Fuzz(func(t *testing.T, in []byte) {
		b := append([]byte(nil), in...)
		for range 2 {
			if group, node, err := decodeIdentity(b); err == nil {
				if g, n, err := decodeIdentity(encodeIdentity(group, node)); err != nil || g != group || n != node {
					t.Fatalf("%q, %q, %v", g, n, err)
				}
			}
			if m, err := decodeMeta(b); err == nil {
				again, err := encodeMeta(m)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := decodeMeta(again); err != nil {
					t.Fatal(err)
				}
			}
			if len(b) < 4 {
				return
			}
			body := b[:len(b)-4] // let the fuzzer past the checksum
			binary.LittleEndian.PutUint32(b[len(body):], crc32.Checksum(body, castagnoli))
		}
	})
}
