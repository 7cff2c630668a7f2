package server

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"
	"strings"
	"time"

	"hayloft/internal/vfs"
	"hayloft/volume"
)

// The names in a data directory.
const (
	identityName = "disk.id"
	volumesName  = "volumes"
)

// The identity file is four lines of text, each ended by a line feed:
//
//	hayloft disk 1
//	uuid <32 lower-case hex digits, random, not all zero>
//	created <RFC 3339, UTC, whole seconds; for people>
//	crc32c <8 lower-case hex digits, over the three lines before>
//
// It is written once, atomically, and valid if and only if it is exactly that.
// A first line with another number is of another version and refused, as is
// anything else: a directory is made a data directory only when it has neither
// identity file nor volumes.
const (
	identityMagic   = "hayloft disk "
	identityVersion = "1"
	identityLimit   = 4096
)

type identity struct {
	uuid    [16]byte
	created time.Time
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (i identity) encode() []byte {
	b := fmt.Appendf(nil, "%s%s\nuuid %x\ncreated %s\n", identityMagic, identityVersion, i.uuid, i.created.UTC().Format(time.RFC3339))
	return fmt.Appendf(b, "crc32c %08x\n", crc32.Checksum(b, castagnoli))
}

func decodeIdentity(b []byte) (identity, error) {
	first, _, _ := strings.Cut(string(b), "\n")
	version, ok := strings.CutPrefix(first, identityMagic)
	switch {
	case !ok:
		return identity{}, errors.New("it is not Hayloft's")
	case version != identityVersion:
		return identity{}, fmt.Errorf("it is of version %q, this program knows %s", version, identityVersion)
	}
	var i identity
	var id, created string
	if _, err := fmt.Sscanf(string(b[len(first):]), "\nuuid %32s\ncreated %s\n", &id, &created); err != nil {
		return identity{}, errors.New("it is damaged")
	}
	n, errID := hex.Decode(i.uuid[:], []byte(id))
	at, errAt := time.Parse(time.RFC3339, created)
	i.created = at
	if errID != nil || n != 16 || errAt != nil || i.uuid == [16]byte{} || string(i.encode()) != string(b) {
		return identity{}, errors.New("it is damaged")
	}
	return i, nil
}

// DiskUUID reads which disk a data directory is, without a lock. It is
// fs.ErrNotExist where there is no identity file.
func DiskUUID(fsys vfs.FS, dir string) ([16]byte, error) {
	b, err := vfs.ReadFile(fsys, filepath.Join(dir, identityName), identityLimit)
	if err != nil {
		return [16]byte{}, err
	}
	i, err := decodeIdentity(b)
	if err != nil {
		err = fmt.Errorf("%w: identity file of %s: %w", ErrDisk, dir, err)
	}
	return i.uuid, err
}

// claim reads a data directory's identity, makes a new one where there is
// nothing yet, and locks the directory until the returned file is closed. The
// error is ErrDisk when the directory must not be used, and another when it
// cannot be.
func claim(o *Options, dir string) (identity, vfs.File, error) {
	refuse := func(format string, args ...any) (identity, vfs.File, error) {
		return identity{}, nil, fmt.Errorf("%w: %s: %w", ErrDisk, dir, fmt.Errorf(format, args...))
	}
	fail := func(err error) (identity, vfs.File, error) {
		return identity{}, nil, fmt.Errorf("data directory %s: %w", dir, err)
	}
	if err := o.FS.MkdirAll(filepath.Join(dir, volumesName)); err != nil {
		return fail(err)
	}
	name := filepath.Join(dir, identityName)
	b, err := vfs.ReadFile(o.FS, name, identityLimit)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = found(o, dir, name)
	}
	if errors.Is(err, errLost) {
		return refuse("%w", err)
	}
	if err != nil {
		return fail(err)
	}
	i, err := decodeIdentity(b)
	if err != nil {
		return refuse("identity file %s: %w", identityName, err)
	}
	f, err := o.FS.OpenWrite(name)
	if errors.Is(err, vfs.ErrLocked) {
		return refuse("another process uses it")
	}
	if err != nil {
		return fail(err)
	}
	return i, f, nil
}

var errLost = errors.New("its identity is lost")

// found makes an identity for a directory that has none. One with volumes has
// lost its own: a new one would make strangers of them.
func found(o *Options, dir, name string) ([]byte, error) {
	entries, err := volume.List(o.FS, filepath.Join(dir, volumesName))
	if err != nil {
		return nil, err
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("%w: it holds %d volumes and no identity file %s", errLost, len(entries), identityName)
	}
	i := identity{created: o.Clock.Now()}
	if _, err := rand.Read(i.uuid[:]); err != nil {
		return nil, err
	}
	b := i.encode()
	return b, vfs.WriteFile(o.FS, name, b)
}
