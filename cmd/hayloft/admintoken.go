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

	"hayloft/internal/vfs"
)

// adminTokenFile, in the first data directory, holds what guarded calls of the
// admin listener must show: 64 lower-case hex digits of 32 random bytes, and a
// line feed. Only its owner may read it.
const (
	adminTokenFile  = "admin.token"
	adminTokenBytes = 32
)

// adminToken reads the token, or draws one and makes it durable. loose says that
// others could read it until now.
func adminToken(dir string) (token string, loose bool, err error) {
	name := filepath.Join(dir, adminTokenFile)
	st, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		token, err = drawAdminToken(dir, name)
		return token, false, err
	}
	if err != nil {
		return "", false, err
	}
	if loose = st.Mode().Perm()&0o077 != 0; loose {
		if err := os.Chmod(name, 0o600); err != nil {
			return "", loose, err
		}
	}
	if token, err = readAdminToken(name); err != nil {
		err = fmt.Errorf("%w: remove the file, and the next start draws another", err)
	}
	return token, loose, err
}

// readAdminToken reads a token file.
func readAdminToken(name string) (string, error) {
	text, err := vfs.ReadFile(vfs.OS{}, name, 4096)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	if b, err := hex.DecodeString(token); err != nil || len(b) != adminTokenBytes {
		return "", fmt.Errorf("%s does not hold an admin token", name)
	}
	return token, nil
}

// drawAdminToken makes the file as vfs.WriteFile does, but readable for nobody
// else at any moment.
func drawAdminToken(dir, name string) (string, error) {
	var b [adminTokenBytes]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", err
	}
	token := hex.EncodeToString(b[:])
	tmp := name + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a crash
		return "", err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(token + "\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if err := os.Rename(tmp, name); err != nil {
		return "", err
	}
	return token, vfs.OS{}.SyncDir(dir)
}
