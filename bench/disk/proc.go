package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hayloft/bench/raw"
)

// deviceBytes is how many bytes this process has made devices deliver so far.
// ok is false where the kernel does not say.
func deviceBytes() (n int64, ok bool) {
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if v, found := strings.CutPrefix(line, "read_bytes: "); found {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// blockReads is how many reads the block device under dir has completed, for
// whomever, and how many it merged into others. ok is false where dir lies on
// no block device.
func blockReads(dir string) (n int64, ok bool) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return 0, false
	}
	dev := uint64(st.Dev)
	name := fmt.Sprintf("/sys/dev/block/%d:%d/stat", unix.Major(dev), unix.Minor(dev))
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) < 1 {
		return 0, false
	}
	n, err = strconv.ParseInt(fields[0], 10, 64)
	return n, err == nil
}

// dropCaches forgets everything that the machine's file systems keep in
// memory. It reports whether it was allowed to.
func dropCaches() (bool, error) {
	unix.Sync()
	err := os.WriteFile("/proc/sys/vm/drop_caches", []byte("3\n"), 0)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.EROFS):
		return false, nil
	}
	return false, err
}

// resetPeak gives back what memory it can, makes the kernel forget the largest
// resident memory of this process, and returns the present one in bytes. ok is
// false where the kernel does not do that.
func resetPeak() (now int64, ok bool) {
	debug.FreeOSMemory()
	if os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) != nil {
		return 0, false
	}
	return peakResident(), true
}

// peakResident is the largest resident memory of this process, in bytes, since
// resetPeak; 0 where the kernel does not say.
func peakResident() int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb * kib
		}
	}
	return 0
}

// cached is how many bytes of a file are in the page cache, in pages: those
// that can be read without waiting for the device. It is 0 where there is no
// such file.
func cached(name string) (int64, error) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close() //nolint:errcheck // read only
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	total, b := int64(0), make([]byte, 1)
	for off := int64(0); off < st.Size(); off += raw.PageSize {
		n, err := unix.Preadv2(int(f.Fd()), [][]byte{b}, off, unix.RWF_NOWAIT)
		if n == 1 {
			total += raw.PageSize
		} else if err != nil && !errors.Is(err, unix.EAGAIN) {
			return 0, fmt.Errorf("pages of %s: %w", name, err)
		}
	}
	return total, nil
}

// mapped is the resident memory, in bytes, of what is mapped outside Go's heap
// and the program itself: an index used straight from its file, or kept in
// memory that the collector does not know. Some of it is the runtime's own,
// which changes by a few hundred kilobytes at a time. It is 0 where the kernel
// does not say.
func mapped() int64 {
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return 0
	}
	self, err := os.Executable()
	if err != nil {
		return 0
	}
	if real, err := filepath.EvalSymlinks(self); err == nil {
		self = real
	}
	return sumMapped(string(text), self, heapAddress())
}

// sumMapped adds up the resident memory in the text of smaps.
func sumMapped(text, self string, heap uint64) int64 {
	total, count := int64(0), false
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if from, _, found := strings.Cut(f[0], "-"); found {
			at, err := strconv.ParseUint(from, 16, 64)
			count = err == nil && at>>arenaBits != heap>>arenaBits && (len(f) < 6 || f[5] != self && !strings.HasPrefix(f[5], "["))
			continue
		}
		if count && f[0] == "Rss:" && len(f) > 1 {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			total += kb * kib
		}
	}
	return total
}

// Go's heap grows upwards from one address, drawn at random when the process
// starts and far from where the kernel puts mappings: within this many bits of
// address space there is nothing else.
const arenaBits = 40

// heapAddress is where some object on the heap lies.
func heapAddress() uint64 {
	object := make([]byte, 1<<20)
	at, err := strconv.ParseUint(strings.TrimPrefix(fmt.Sprintf("%p", object), "0x"), 16, 64)
	if err != nil {
		return 0
	}
	return at
}
