package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"hayloft/internal/vfs"
)

// nodeFile holds this node's name; it is locked while the process runs, before
// anything else in the data directory is opened.
const nodeFile = "node"

// nodeIdentity is who this process is, and its lock on the first data directory.
type nodeIdentity struct {
	name  string // random: it outlives host names and addresses
	fresh bool   // drawn just now
	lock  vfs.File
}

// claimNode reads the node's name, or draws one and makes it durable, and locks
// the directory against a second process.
func claimNode(dir string) (nodeIdentity, error) {
	var n nodeIdentity
	disk := vfs.OS{}
	file := filepath.Join(dir, nodeFile)
	if err := disk.MkdirAll(dir); err != nil {
		return n, err
	}
	text, err := vfs.ReadFile(disk, file, 64)
	if errors.Is(err, fs.ErrNotExist) {
		n.fresh = true
		text = []byte(rand.Text()[:16] + "\n")
		err = vfs.WriteFile(disk, file, text)
	}
	if err != nil {
		return n, err
	}
	if n.name = strings.TrimSpace(string(text)); len(n.name) != 16 {
		return n, fmt.Errorf("%s does not hold a node name: restore it from a backup", file)
	}
	n.lock, err = disk.OpenWrite(file)
	if errors.Is(err, vfs.ErrLocked) {
		return n, fmt.Errorf("%s is in use by another hayloft process", dir)
	}
	return n, err
}

// newIncarnation is a random number that tells this run from every other one.
func newIncarnation() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[:]) | 1, nil // never zero
}
