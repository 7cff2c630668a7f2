package raftgroup

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The file "mirrors" in every candidate directory says where the group is kept
// (docs/group-format.md). It is the same in all of them:
//
//	"HLmirrs1", u32 version 1, u32 length of the body, body (JSON), u32 CRC32C of all before
const (
	recordName    = "mirrors"
	recordMagic   = "HLmirrs1"
	recordVersion = 1
	maxRecordSize = 1 << 20
)

// tag is a random number that tells groups, or mirrors, apart. Zero: none.
type tag [16]byte

func newTag() (t tag) {
	_, _ = rand.Read(t[:]) // never fails
	return t
}

// MarshalText implements encoding.TextMarshaler.
func (t tag) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(t[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (t *tag) UnmarshalText(b []byte) error {
	if len(b) != 2*len(t) {
		return fmt.Errorf("%w: a tag of %d digits", ErrCorrupt, len(b))
	}
	_, err := hex.Decode(t[:], b)
	return err
}

// record is the body of the file.
type record struct {
	Group, Member string
	Birth         tag            // of the group: drawn when its first log was made
	Epoch         uint64         // grows with every change; the greatest is true
	Mirrors       []recordMirror // in order of preference, never empty
	Dirs          []string       // every candidate, as absolute paths
}

type recordMirror struct {
	ID  tag // drawn when the mirror was made, also in its log
	Dir string
}

// mirror returns the place of a mirror in the record, -1 if it is not there.
func (r *record) mirror(id tag) int {
	return slices.IndexFunc(r.Mirrors, func(m recordMirror) bool { return m.ID == id })
}

func (r *record) dirs() []string {
	out := make([]string, len(r.Mirrors))
	for i, m := range r.Mirrors {
		out[i] = m.Dir
	}
	return out
}

func encodeRecord(r record) ([]byte, error) { return encodeBody(recordMagic, recordVersion, r) }

func decodeRecord(b []byte) (*record, error) {
	r := &record{}
	if err := decodeBody(b, recordMagic, recordVersion, "record of mirrors", r); err != nil {
		return nil, err
	}
	if r.Birth == (tag{}) || r.Epoch == 0 || len(r.Mirrors) == 0 {
		return nil, fmt.Errorf("%w: record of mirrors is incomplete", ErrCorrupt)
	}
	return r, nil
}

// readRecord returns nil when dir has none.
func readRecord(disk vfs.FS, dir string) (*record, error) {
	b, err := readFile(disk, disk.PathJoin(dir, recordName), maxRecordSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return decodeRecord(b)
}

func writeRecord(disk vfs.FS, dir string, b []byte) error {
	return writeNamed(disk, disk.PathJoin(dir, recordName), b)
}

// encodeBody is the frame of the files whose body is JSON.
func encodeBody(magic string, version uint32, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	b := binary.LittleEndian.AppendUint32([]byte(magic), version)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)), nil
}

func decodeBody(b []byte, magic string, version uint32, what string, body any) error {
	if len(b) < 20 || string(b[:8]) != magic {
		return fmt.Errorf("%w: not a %s", ErrCorrupt, what)
	}
	text, sum := b[:len(b)-4], binary.LittleEndian.Uint32(b[len(b)-4:])
	if crc32.Checksum(text, castagnoli) != sum {
		return fmt.Errorf("%w: %s checksum", ErrCorrupt, what)
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != version {
		return fmt.Errorf("%w: %s version %d", ErrUnsupported, what, v)
	}
	if int(binary.LittleEndian.Uint32(b[12:])) != len(text)-16 {
		return fmt.Errorf("%w: %s length", ErrCorrupt, what)
	}
	if err := json.Unmarshal(text[16:], body); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	return nil
}
