package server

import (
	"math"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
)

// spaceOf asks the machine about its own files; another FS is boundless.
func spaceOf(fsys vfs.FS) func(string) (Space, error) {
	switch fsys.(type) {
	case nil, vfs.OS, *vfs.OS:
		return statfs
	}
	return func(string) (Space, error) { return Space{math.MaxInt64, math.MaxInt64}, nil }
}

// statfs counts what an unprivileged process may use.
func statfs(dir string) (Space, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return Space{}, err
	}
	return Space{Free: int64(st.Bavail) * st.Bsize, Capacity: int64(st.Blocks) * st.Bsize}, nil
}
