package bench

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine describes where a benchmark ran, as far as figures depend on it.
type Machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	MemoryB    int64  `json:"memory_bytes"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"` // of the data directory
	Go         string `json:"go"`
}

func (m Machine) String() string {
	return fmt.Sprintf("%s, %d cores, %d GB, Linux %s, %s, %s",
		m.CPU, m.Cores, (m.MemoryB+5e8)/1e9, m.Kernel, m.FileSystem, m.Go)
}

// ThisMachine describes this machine; dir is where the data lies.
func ThisMachine(dir string) Machine {
	m := Machine{CPU: "unknown CPU", Cores: runtime.NumCPU(), Kernel: "unknown", FileSystem: "unknown file system", Go: runtime.Version()}
	if v, ok := field("/proc/cpuinfo", "model name"); ok {
		m.CPU = v
	}
	if v, ok := field("/proc/meminfo", "MemTotal"); ok {
		kb, _ := strconv.ParseInt(strings.TrimSuffix(v, " kB"), 10, 64)
		m.MemoryB = kb << 10
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) == nil {
		m.FileSystem = fileSystems[int64(fs.Type)]
		if m.FileSystem == "" {
			m.FileSystem = fmt.Sprintf("file system %#x", fs.Type)
		}
	}
	return m
}

var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs",
	unix.TMPFS_MAGIC: "tmpfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
}

// field returns the first value of a "key : value" file.
func field(name, key string) (string, bool) {
	text, err := os.ReadFile(name)
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(text)) {
		k, v, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v), true
		}
	}
	return "", false
}
