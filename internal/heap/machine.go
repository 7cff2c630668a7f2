package heap

import (
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hayloft/internal/vfs"
)

// Machine is the memory that a process may take here, in bytes: the machine's, or that of
// its control group when that is less. 0: it is not known.
func Machine() int64 {
	var total int64
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		total = int64(info.Totalram) * int64(info.Unit)
	}
	own, err := vfs.ReadFile(vfs.OS{}, "/proc/self/cgroup", 4096)
	if err != nil {
		return total
	}
	for _, dir := range groups(string(own)) {
		if text, err := vfs.ReadFile(vfs.OS{}, path.Join("/sys/fs/cgroup", dir, "memory.max"), 64); err == nil {
			total = least(total, string(text))
		}
	}
	return total
}

// groups are the control group of /proc/self/cgroup (version 2) and those it is in: each may
// have a limit of its own.
func groups(text string) (all []string) {
	for line := range strings.Lines(text) {
		dir, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for ok && path.IsAbs(dir) {
			all = append(all, dir)
			if dir == "/" {
				break
			}
			dir = path.Dir(dir)
		}
	}
	return all
}

// least is the machine's memory, or what its control group allows: "max" or a number.
func least(total int64, group string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(group), 10, 64)
	if err != nil || n <= 0 || total > 0 && n > total {
		return total
	}
	return n
}
