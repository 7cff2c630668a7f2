package main

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"hayloft/internal/vfs"

	"golang.org/x/sys/unix"
)

// nodeFile holds this node's name.
const nodeFile = "node"

// nodeIdentity is who this process is, and its lock on the first data directory.
type nodeIdentity struct {
	name  string // random: it outlives host names and addresses
	fresh bool   // drawn just now
	lock  *os.File
}

// claimNode locks the directory against a second process, before anything in it
// is read or written, and reads the node's name, or draws one and makes it
// durable. The lock ends with the process, however it ends.
func claimNode(dir string) (n nodeIdentity, err error) {
	disk := vfs.OS{}
	if err := disk.MkdirAll(dir); err != nil {
		return n, err
	}
	if n.lock, err = os.Open(dir); err != nil {
		return n, err
	}
	if err := unix.Flock(int(n.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%s is in use by another hayloft process", dir)
		}
		return n, err
	}
	file := filepath.Join(dir, nodeFile)
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
	return n, nil
}

// newIncarnation is a random number that tells this run from every other one.
func newIncarnation() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[:]) | 1, nil // never zero
}
