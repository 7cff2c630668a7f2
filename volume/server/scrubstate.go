package server

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"time"
)

// The file scrub of a data directory says when what lies there was read whole; its
// format is in docs/data-directory.md.
const (
	scrubName    = "scrub"
	scrubMagic   = "hayloft scrub "
	scrubVersion = "1"
	scrubLimit   = 64 << 20 // bytes: half a million items
)

// scrubItem is what is read in one go.
type scrubItem struct {
	at    time.Time // when it was read whole, or first seen
	read  bool      // it was read
	due   bool      // it is to be read now: somebody asked
	bytes int64     // there are to read, as last seen; not kept
	until time.Time // it is left alone until then: reading it failed; not kept
}

// scrubState is how far the scrub of a disk is.
type scrubState struct {
	uuid  [16]byte // of the disk
	begun time.Time
	items map[string]*scrubItem
}

func (st *scrubState) encode() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s%s\nuuid %x\nbegun %s\n", scrubMagic, scrubVersion, st.uuid, st.begun.UTC().Format(time.RFC3339Nano))
	names := make([]string, 0, len(st.items))
	for name := range st.items {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		i, word := st.items[name], "seen"
		switch {
		case i.due:
			word = "due"
		case i.read:
			word = "read"
		}
		fmt.Fprintf(&b, "%s %s %s\n", word, i.at.UTC().Format(time.RFC3339Nano), name)
	}
	return fmt.Appendf(b.Bytes(), "crc32c %08x\n", crc32.Checksum(b.Bytes(), castagnoli))
}

// errScrubState: the file is not one of this version, whole, of this disk.
var errScrubState = errors.New("it is damaged, of another disk, or of another version")

// decodeScrubState is the inverse of encode. What writing it again does not give
// the same bytes is not believed.
func decodeScrubState(b []byte, uuid [16]byte) (*scrubState, error) {
	st := &scrubState{items: make(map[string]*scrubItem)}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 5 || lines[0] != scrubMagic+scrubVersion || lines[1] != fmt.Sprintf("uuid %x", uuid) {
		return nil, errScrubState
	}
	st.uuid = uuid
	begun, ok := strings.CutPrefix(lines[2], "begun ")
	at, err := time.Parse(time.RFC3339Nano, begun)
	if !ok || err != nil {
		return nil, errScrubState
	}
	st.begun = at
	for _, line := range lines[3 : len(lines)-2] {
		part := strings.SplitN(line, " ", 3)
		if len(part) != 3 || part[2] == "" || st.items[part[2]] != nil {
			return nil, errScrubState
		}
		i := &scrubItem{read: part[0] == "read", due: part[0] == "due"}
		if i.at, err = time.Parse(time.RFC3339Nano, part[1]); err != nil {
			return nil, errScrubState
		}
		st.items[part[2]] = i
	}
	if !bytes.Equal(st.encode(), b) {
		return nil, errScrubState
	}
	return st, nil
}
