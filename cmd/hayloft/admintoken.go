package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"hayloft/internal/vfs"
)

// adminTokenFile, in every data directory, holds what guarded calls of the
// admin listener must show: 64 lower-case hex digits of 32 random bytes, and a
// line feed. Only its owner may read it.
const (
	adminTokenFile  = "admin.token"
	adminTokenBytes = 32
)

// adminTokenKept is the file in every data directory.
var adminTokenKept = kept{
	name:  adminTokenFile,
	valid: func(file string, text []byte) error { _, err := parseAdminToken(file, text); return err },
	write: writeAdminToken,
}

// adminToken reads the token, or draws one and makes it durable. loose names a file
// that others could read until now; weak says where no copy could be made.
func adminToken(dirs ...string) (token, loose string, weak, err error) {
	for _, name := range in(dirs, adminTokenFile) {
		st, err := os.Stat(name)
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			loose = name
			if err := os.Chmod(name, 0o600); err != nil {
				return "", loose, nil, err
			}
		}
	}
	text, lack, err := adminTokenKept.read(dirs)
	if err != nil {
		return "", loose, nil, fmt.Errorf("%w: remove the file in every data directory, and the next start draws another", err)
	}
	if text == nil {
		var b [adminTokenBytes]byte
		if _, err := rand.Read(b[:]); err != nil {
			return "", loose, nil, err
		}
		text = []byte(hex.EncodeToString(b[:]) + "\n")
		if weak, err = adminTokenKept.spread(lack, text); err != nil {
			return "", loose, nil, err
		}
	} else if some, err := adminTokenKept.spread(lack, text); some != nil || err != nil {
		weak = errors.Join(some, err)
	}
	return strings.TrimSpace(string(text)), loose, weak, nil
}

// readAdminToken reads a token file.
func readAdminToken(name string) (string, error) {
	text, err := vfs.ReadFile(vfs.OS{}, name, 4096)
	if err != nil {
		return "", err
	}
	return parseAdminToken(name, text)
}

func parseAdminToken(name string, text []byte) (string, error) {
	token := strings.TrimSpace(string(text))
	if b, err := hex.DecodeString(token); err != nil || len(b) != adminTokenBytes {
		return "", fmt.Errorf("%s does not hold an admin token", name)
	}
	return token, nil
}

func writeAdminToken(dir string, text []byte) error {
	return writeSecret(dir, adminTokenFile, text, 0o600)
}

// writeSecret puts a file in place as vfs.WriteFile does, but readable for nobody
// else at any moment. One that takes the place of another keeps its owner, and its
// mode as far as widest goes: a server that runs as somebody else can still read it.
func writeSecret(dir, file string, text []byte, widest fs.FileMode) error {
	name := filepath.Join(dir, file)
	tmp := name + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a crash
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if st, serr := os.Stat(name); serr == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			err = f.Chown(int(sys.Uid), int(sys.Gid))
		}
		err = errors.Join(err, f.Chmod(st.Mode().Perm()&widest))
	}
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	return vfs.OS{}.SyncDir(dir)
}
