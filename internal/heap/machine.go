package heap

import (
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
	text, err := vfs.ReadFile(vfs.OS{}, "/sys/fs/cgroup/memory.max", 64)
	if err != nil {
		return total
	}
	return least(total, string(text))
}

// least is the machine's memory, or what its control group allows: "max" or a number.
func least(total int64, group string) int64 {
	n, err := strconv.ParseInt(strings.TrimSpace(group), 10, 64)
	if err != nil || n <= 0 || total > 0 && n > total {
		return total
	}
	return n
}
