package main

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"hayloft/internal/mesh/certs"
	"hayloft/internal/vfs"

	"golang.org/x/sys/unix"
)

// nodeFile, in every data directory, holds this node's name.
const nodeFile = "node"

// nodeIdentity is who this process is, and its locks on the data directories.
type nodeIdentity struct {
	name  string // random, or that of the certificate: it outlives host names and addresses
	fresh bool   // drawn just now
	locks []*os.File
	weak  []error // directories that could not be locked or have no copy of the name
}

// nodeName is the file with the node's name.
var nodeName = kept{name: nodeFile, valid: func(file string, text []byte) error {
	if !certs.ValidName(strings.TrimSpace(string(text))) {
		return fmt.Errorf("%s does not hold a node name: restore it from a backup", file)
	}
	return nil
}}

// claimNode locks the directories against a second process, before anything in
// them is read or written, and reads the node's name, or takes the certified one,
// or draws one when that is empty, and makes it durable in each. The locks end with
// the process, however it ends. A directory that cannot be used is passed over, if
// another can.
func claimNode(dirs []string, certified string) (n nodeIdentity, err error) {
	for _, dir := range dirs {
		lock, err := lockDir(dir)
		if err != nil {
			if errors.Is(err, errInUse) {
				return n, err
			}
			n.weak = append(n.weak, err)
			continue
		}
		n.locks = append(n.locks, lock)
	}
	if len(n.locks) == 0 {
		return n, errors.Join(n.weak...)
	}
	text, lack, err := nodeName.read(dirs)
	if err != nil {
		return n, err
	}
	if n.fresh = text == nil; n.fresh {
		text = []byte(cmp.Or(certified, rand.Text()[:16]) + "\n")
	}
	n.name = strings.TrimSpace(string(text))
	if certified != "" && certified != n.name {
		return n, fmt.Errorf("the certificate is that of node %s, and the data directories are those of node %s: hayloft cert node --name %s makes the one that belongs to them", certified, n.name, n.name)
	}
	some, err := nodeName.spread(lack, text)
	if err != nil && n.fresh {
		return n, err
	}
	if err = errors.Join(some, err); err != nil {
		n.weak = append(n.weak, err)
	}
	return n, nil
}

var errInUse = errors.New("in use by another hayloft process")

// lockDir makes a directory and locks it.
func lockDir(dir string) (*os.File, error) {
	if err := (vfs.OS{}).MkdirAll(dir); err != nil {
		return nil, err
	}
	lock, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%s is %w", dir, errInUse)
		}
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

func (n *nodeIdentity) close() error {
	var errs []error
	for _, l := range n.locks {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// newIncarnation is a random number that tells this run from every other one.
func newIncarnation() (uint64, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b[:]) | 1, nil // never zero
}
