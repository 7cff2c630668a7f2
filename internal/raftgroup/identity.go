package raftgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The file "identity" names the group and the member a directory belongs to:
//
//	"HLgroup1", u32 version 1, u16 length and bytes of the group's name,
//	u16 length and bytes of the member's id, u32 CRC32C of all before
//
// It is written once, after the log has its name and its first entry, so its
// presence means that the directory is not new.
const (
	identityName    = "identity"
	identityMagic   = "HLgroup1"
	identityVersion = 1
)

func encodeIdentity(group, node string) []byte {
	b := binary.LittleEndian.AppendUint32([]byte(identityMagic), identityVersion)
	for _, s := range []string{group, node} {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeIdentity(b []byte) (group, node string, err error) {
	if len(b) < len(identityMagic)+8 || string(b[:8]) != identityMagic {
		return "", "", fmt.Errorf("%w: not an identity file", ErrCorrupt)
	}
	body := b[:len(b)-4]
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(b[len(body):]) {
		return "", "", fmt.Errorf("%w: identity checksum", ErrCorrupt)
	}
	if v := binary.LittleEndian.Uint32(body[8:]); v != identityVersion {
		return "", "", fmt.Errorf("%w: identity version %d", ErrUnsupported, v)
	}
	rest := body[12:]
	var out [2]string
	for i := range out {
		if len(rest) < 2 || len(rest)-2 < int(binary.LittleEndian.Uint16(rest)) {
			return "", "", fmt.Errorf("%w: identity cut short", ErrCorrupt)
		}
		n := 2 + int(binary.LittleEndian.Uint16(rest))
		out[i], rest = string(rest[2:n]), rest[n:]
	}
	return out[0], out[1], nil
}

// checkIdentity reports whether dir was in use before, and refuses another
// group's or member's.
func checkIdentity(disk vfs.FS, dir, group, node string) (known bool, err error) {
	b, err := readFile(disk, disk.PathJoin(dir, identityName), 1<<20)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	haveGroup, haveNode, err := decodeIdentity(b)
	if err != nil {
		return false, err
	}
	if haveGroup != group || haveNode != node {
		return false, fmt.Errorf("%w: %s belongs to group %q, member %q, not to group %q, member %q",
			ErrForeign, dir, haveGroup, haveNode, group, node)
	}
	return true, nil
}

// writeIdentity writes the file unless it is there.
func writeIdentity(disk vfs.FS, dir, group, node string) error {
	path := disk.PathJoin(dir, identityName)
	if _, err := disk.Stat(path); err == nil {
		return nil
	}
	return writeNamed(disk, path, encodeIdentity(group, node))
}
