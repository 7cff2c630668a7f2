package volume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"testing"
	"time"
)

// reseal recomputes a block's CRC at off over what lies in front of it.
func reseal(b []byte, off int) {
	binary.LittleEndian.PutUint32(b[off:], crc32.Checksum(b[:off], castagnoli))
}

func testSuperblock() superblock {
	s := superblock{Identity: testIdent, Sequence: 3, Created: time.UnixMilli(1_790_000_000_123).UTC()}
	for i := range s.Secret {
		s.Secret[i] = byte(i*i + 1)
	}
	return s
}

func testSealedSuperblock() superblock {
	s := testSuperblock()
	s.State, s.Generation = stateSealed, 4
	s.Seal = &SealRecord{SealInfo: SealInfo{Slot: 1023, From: 1, To: 1<<41 - 1, Replicas: []byte("abc"), Policy: make([]byte, MaxSealTexts-3)},
		End: maxOffset, Needles: 5, DataBytes: 6, Digest: Digest{1, 31: 2}, Sealed: s.Created, Deletes: maxDeletes, Source: 3, SourceDigest: Digest{4, 31: 5}}
	return s
}

// TestSealedSuperblockCodec: the seal is read as it was written, and fields
// beyond their limits are damage.
func TestSealedSuperblockCodec(t *testing.T) {
	s := testSealedSuperblock()
	b := encodeSuperblock(s)
	if got, err := decodeSuperblock(b); err != nil || !reflect.DeepEqual(got, s) {
		t.Fatalf("%+v, %v", got.Seal, err)
	}
	bad := map[string]func([]byte){
		"end": func(b []byte) { b[72] = 1 }, "end too low": func(b []byte) { clear(b[72:80]) }, "needles": func(b []byte) { b[87] = 0x80 },
		"data": func(b []byte) { b[95] = 1 }, "deletes": func(b []byte) { b[140] = 1 }, "slot": func(b []byte) { b[149] = 4 },
		"texts": func(b []byte) { b[150] = 4 }, "tile": func(b []byte) { clear(b[168:176]) },
	}
	for name, change := range bad {
		b := encodeSuperblock(s)
		change(b)
		reseal(b, 4092)
		if _, err := decodeSuperblock(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	wantErr(t, SealInfo{Policy: make([]byte, MaxSealTexts+1)}.validate(), ErrInvalid)
	wantErr(t, SealInfo{From: 2, To: 1}.validate(), ErrInvalid)
}

func TestCheckValue(t *testing.T) {
	if got := crc32.Checksum([]byte("123456789"), castagnoli); got != 0xe3069283 {
		t.Fatalf("CRC32C of the check string: %08x", got)
	}
}

func TestSuperblockCodec(t *testing.T) {
	s := testSuperblock()
	b := encodeSuperblock(s)
	got, err := decodeSuperblock(b)
	if err != nil || got != s {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range b {
		b[i] ^= 0x10
		if _, err := decodeSuperblock(b); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a flipped bit at %d: %v", i, err)
		}
		b[i] ^= 0x10
	}
	unsupported := map[string]func([]byte){
		"version": func(b []byte) { b[8] = 2 }, "state": func(b []byte) { b[11] = 3 }, "features": func(b []byte) { b[15] = 1 },
	}
	for name, change := range unsupported {
		b := encodeSuperblock(s)
		change(b)
		reseal(b, 4092)
		if _, err := decodeSuperblock(b); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, off := range []int{10, 16, 20} { // class, volume, generation
		b := encodeSuperblock(s)
		copy(b[off:], []byte{0, 0, 0, 0}[:map[int]int{10: 1, 16: 4, 20: 4}[off]])
		reseal(b, 4092)
		if _, err := decodeSuperblock(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("zero at %d: %v", off, err)
		}
	}
	if _, err := decodeSuperblock(b[:4095]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("short: %v", err)
	}
	// The larger sequence counts.
	newer := s
	newer.Sequence++
	for _, copies := range [][2][]byte{{encodeSuperblock(s), encodeSuperblock(newer)}, {encodeSuperblock(newer), encodeSuperblock(s)}} {
		if got, damaged, err := chooseSuperblock(copies); err != nil || damaged || got != newer {
			t.Errorf("choose: %+v, %v, %v", got, damaged, err)
		}
	}
}

// TestRecordCodec: what is written is read, and no flipped bit passes.
func TestRecordCodec(t *testing.T) {
	s := newSeal(testSuperblock())
	for _, n := range []Needle{testNeedle(5, 0, 100), testNeedle(5, 1, 0), testNeedle(6, 0, blocksAbove+5)} {
		h, meta := newNeedle(&n)
		h.SyncedTo, h.Deletes = dataStart, 7
		const off = dataStart + 64
		s.putHeader(meta, &h, off)
		got, err := s.decodeHeader(meta, off)
		if err != nil || got != h {
			t.Fatalf("%+v, %v, want %+v", got, err, h)
		}
		m, err := got.master(meta)
		if err != nil || !m.equal(n.Master) {
			t.Fatalf("master: %+v, %v", m, err)
		}
		if err := errors.Join(got.verifyData(n.Data, off)); err != nil {
			t.Fatal(err)
		}
		if h.Flags&flagBlocks != 0 {
			if err := got.verifyAll(meta, n.Data, off); err != nil {
				t.Fatal(err)
			}
			if _, err := got.verifyBlocks(meta, n.Data[BlockSize:], 1, 0, off); err != nil {
				t.Fatal(err)
			}
			if _, err := got.verifyBlocks(meta, n.Data[:BlockSize], 1, 0, off); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("block 0 as block 1: %v", err)
			}
		}
		for i := range meta {
			meta[i] ^= 1
			if _, err := s.decodeHeader(meta, off); !errors.Is(err, ErrCorrupt) && !errors.Is(err, errShort) {
				t.Fatalf("a flipped bit at %d: %v", i, err)
			}
			meta[i] ^= 1
		}
		if _, err := s.decodeHeader(meta, off+8); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("at another offset: %v", err)
		}
		for n := range meta {
			if _, err := s.decodeHeader(meta[:n], off); !errors.Is(err, errShort) {
				t.Fatalf("cut at %d: %v", n, err)
			}
		}
		other := testSuperblock()
		other.Generation++
		foreign := newSeal(other)
		if _, err := foreign.decodeHeader(meta, off); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("of another generation: %v", err)
		}
		other = testSuperblock()
		other.Secret[31]++
		foreign = newSeal(other)
		if _, err := foreign.decodeHeader(meta, off); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("of another file: %v", err)
		}
	}
}

// TestHeaderFields: sealed headers whose fields disagree are not valid.
func TestHeaderFields(t *testing.T) {
	s := newSeal(testSuperblock())
	const off = dataStart + 640
	good := map[Kind]header{
		KindNeedle:    {Kind: KindNeedle, Key: 1, Cookie: 1, SyncedTo: dataStart, Length: 10},
		KindTombstone: {Kind: KindTombstone, Key: 1, SyncedTo: off},
		KindVoid:      {Kind: KindVoid, SyncedTo: dataStart, Length: 1 << 30},
		KindMark:      {Kind: KindMark, SyncedTo: off},
		KindPadding:   {Kind: KindPadding, SyncedTo: dataStart, Length: 448},
	}
	bad := map[string]func(*header){
		"needle: no key":            func(h *header) { h.Key = 0 },
		"needle: no cookie":         func(h *header) { h.Cookie = 0 },
		"needle: alt":               func(h *header) { h.Alt = 255 },
		"needle: blocks unasked":    func(h *header) { h.Flags = flagBlocks },
		"needle: master flag alone": func(h *header) { h.Flags = flagMaster },
		"needle: synced_to above":   func(h *header) { h.SyncedTo = off + 8 },
		"needle: synced_to below":   func(h *header) { h.SyncedTo = dataStart - 8 },
		"needle: synced_to uneven":  func(h *header) { h.SyncedTo = dataStart + 4 },
		"needle: length":            func(h *header) { h.Length = MaxData + 1 },
		"tombstone: no key":         func(h *header) { h.Key = 0 },
		"tombstone: length":         func(h *header) { h.Length = 8 },
		"tombstone: cookie":         func(h *header) { h.Cookie = 1 },
		"void: key":                 func(h *header) { h.Key = 1 },
		"void: length uneven":       func(h *header) { h.Length = 12 },
		"mark: key":                 func(h *header) { h.Key = 1 },
		"mark: data crc":            func(h *header) { h.DataCRC = 1 },
		"mark: alt":                 func(h *header) { h.Alt = 1 },
		"padding: key":              func(h *header) { h.Key = 1 },
		"padding: length uneven":    func(h *header) { h.Length = 12 },
		"padding: length":           func(h *header) { h.Length = maxPadding + 8 },
	}
	kinds := map[string]Kind{"needle": KindNeedle, "tombs": KindTombstone, "void:": KindVoid, "mark:": KindMark, "paddi": KindPadding}
	for name, change := range bad {
		var h header
		for prefix, kind := range kinds {
			if bytes.HasPrefix([]byte(name), []byte(prefix)) {
				h = good[kind]
			}
		}
		b := make([]byte, 2048)
		s.putHeader(b[:headerSize], &h, off)
		if _, err := s.decodeHeader(b, off); err != nil {
			t.Fatalf("%s: the good one: %v", name, err)
		}
		change(&h)
		clear(b)
		s.putHeader(b[:headerSize], &h, off)
		binary.LittleEndian.PutUint32(b[60:], s.recordCRC(b[:h.metaLen()], off))
		if _, err := s.decodeHeader(b, off); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, h := range []header{{Kind: 6, SyncedTo: dataStart}, {Kind: KindMark, Flags: 4, SyncedTo: dataStart}} {
		b := make([]byte, headerSize)
		s.putHeader(b, &h, off)
		if _, err := s.decodeHeader(b, off); !errors.Is(err, ErrUnsupported) {
			t.Errorf("kind %d, flags %d: %v", h.Kind, h.Flags, err)
		}
	}
}

func TestMarkerCodec(t *testing.T) {
	m := marker{Volume: 9, Generation: 2, SyncedTo: dataStart + 8, When: time.UnixMilli(5).UTC()}
	b := encodeMarker(m)
	if got, err := decodeMarker(b); err != nil || got != m {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range b {
		b[i] ^= 1
		if _, err := decodeMarker(b); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("a flipped bit at %d: %v", i, err)
		}
		b[i] ^= 1
	}
	b[8] = 2
	reseal(b, 60)
	if _, err := decodeMarker(b); !errors.Is(err, ErrUnsupported) {
		t.Fatal(err)
	}
}

func TestFileNames(t *testing.T) {
	for _, name := range []string{"00000007-00000001.vol", "ffffffff-0000000a.vol"} {
		v, g, ok := parseName(name)
		if !ok || FileName(v, g) != name {
			t.Errorf("%s: %v", name, ok)
		}
	}
	for _, name := range []string{"", "7-1.vol", "00000007-00000001.vol.tmp", "0000000G-00000001.vol", "0000000A-00000001.vol",
		"+0000007-00000001.vol", "00000007-00000001.poisoned", "00000007_00000001.vol"} {
		if _, _, ok := parseName(name); ok {
			t.Errorf("%q was taken for a volume", name)
		}
	}
}

// The decoders meet arbitrary bytes: they never panic, never read beyond, and
// what they accept encodes to what was read.

func FuzzSuperblock(f *testing.F) {
	f.Add(encodeSuperblock(testSuperblock()))
	f.Add(encodeSuperblock(testSealedSuperblock()))
	f.Add(make([]byte, superblockSize))
	f.Fuzz(func(t *testing.T, in []byte) {
		b := append([]byte(nil), in...)
		for range 2 {
			s, err := decodeSuperblock(b)
			if err == nil {
				if again, err := decodeSuperblock(encodeSuperblock(s)); err != nil || !reflect.DeepEqual(again, s) {
					t.Fatalf("%+v, %v", again, err)
				}
			}
			if len(b) != superblockSize {
				return
			}
			copy(b, superblockMagic) // let the fuzzer past the checksum
			reseal(b, 4092)
		}
	})
}

func FuzzHeader(f *testing.F) {
	s := newSeal(testSuperblock())
	const off = dataStart + 8
	for _, n := range []Needle{testNeedle(5, 0, 100), testNeedle(6, 0, blocksAbove+5)} {
		h, meta := newNeedle(&n)
		h.SyncedTo = dataStart
		s.putHeader(meta, &h, off)
		f.Add(meta)
	}
	for _, h := range []header{{Kind: KindVoid, SyncedTo: dataStart, Length: 64}, {Kind: KindMark, SyncedTo: dataStart},
		{Kind: KindPadding, SyncedTo: dataStart, Length: 64},
		{Kind: KindTombstone, Key: 4, SyncedTo: dataStart}} {
		b := make([]byte, headerSize)
		s.putHeader(b, &h, off)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		b := append([]byte(nil), in...)
		for range 2 {
			h, err := s.decodeHeader(b, off)
			if err == nil {
				again := append([]byte(nil), b[:h.metaLen()]...)
				s.putHeader(again, &h, off)
				if !bytes.Equal(again, b[:h.metaLen()]) {
					t.Fatalf("accepted bytes do not encode to themselves: %+v", h)
				}
				if m, err := h.master(b[:h.metaLen()]); err == nil && m != nil {
					if o, err := decodeMaster(appendMaster(nil, m)); err != nil || !reflect.DeepEqual(m, o) {
						t.Fatalf("master: %+v, %v", o, err)
					}
				}
				_, _ = h.verifyBlocks(b, b, 0, 0, off)
			}
			if len(b) < headerSize {
				return
			}
			copy(b, recordMagic) // let the fuzzer past the checksum
			copy(b[8:], s.sign[:])
			var p header
			p.parse(b)
			if len(b) < p.metaLen() {
				return
			}
			binary.LittleEndian.PutUint32(b[60:], s.recordCRC(b[:p.metaLen()], off))
		}
	})
}

func FuzzMarker(f *testing.F) {
	f.Add(encodeMarker(marker{Volume: 1, Generation: 1, SyncedTo: dataStart}))
	f.Add(encodeMarker(marker{Volume: 1, Generation: 1, SyncedTo: 2 * dataStart, Torn: dataStart}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMarker(b)
		if err == nil {
			if again, err := decodeMarker(encodeMarker(m)); err != nil || again != m {
				t.Fatalf("%+v, %v", again, err)
			}
		}
	})
}
