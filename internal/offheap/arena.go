package offheap

import (
	"errors"
	"fmt"
	"math/bits"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	pageShift = 12
	pageBytes = 1 << pageShift
	classes   = 19
	// Largest is the largest block, in bytes.
	Largest = pageBytes << (classes - 1)

	poison = 0xDD
)

// Size is how much memory a block of n bytes takes.
func Size(n int) int64 { return (int64(n) + pageBytes - 1) &^ (pageBytes - 1) }

// Arena is a set of blocks.
type Arena struct {
	fd   int // of the memory file; -1: the memory is anonymous
	base unsafe.Pointer
	mem  []byte // all addresses

	classes  [classes]class
	held     atomic.Int64
	poisoned bool

	mu     sync.Mutex // guards blocks and closed, and that the last one unmaps
	blocks int
	closed bool
}

// class is a stretch of addresses cut into slots of one size.
type class struct {
	start, slot int64 // where it begins in the file; bytes of a slot
	slots       int   // so many there is room for

	mu   sync.Mutex // guards all below
	cut  int        // slots that were ever given out: the first ones
	free []uint32   // of these, the free ones; the last one freed is the first given out
	used []uint64   // one bit for each of cut: it is a block now
}

// Options say how an Arena is made.
type Options struct {
	// Limit is how many bytes, by Size, the blocks may take at a time. It is
	// address space that is set aside for it, not memory. A block may be larger
	// if it is alone.
	Limit int64
	// Poison overwrites what is freed and keeps it so until it is given out again:
	// for tests. It is then that freed blocks keep their memory.
	Poison bool
	// Anonymous does without a memory file, as where the kernel has none: then
	// File knows no block.
	Anonymous bool
}

// New returns an empty arena. Its caller must Close it.
func New(o Options) (*Arena, error) {
	if o.Limit <= 0 || o.Limit > 1<<42 {
		return nil, fmt.Errorf("offheap: a limit of %d bytes", o.Limit)
	}
	a := &Arena{fd: -1, poisoned: o.Poison}
	var total int64
	for i := range a.classes {
		c := &a.classes[i]
		c.start, c.slot = total, pageBytes<<i
		// A block fills more than half of its slot: twice the limit has room for all.
		c.slots = int((2*o.Limit+c.slot-1)/c.slot) + 1
		total += int64(c.slots) * c.slot
	}
	if !o.Anonymous {
		a.fd = memoryFile(total)
	}
	if err := a.mapAll(total); err != nil {
		if a.fd >= 0 {
			_ = unix.Close(a.fd) // it was never used
		}
		return nil, fmt.Errorf("offheap: reserving %d bytes of addresses: %w", total, err)
	}
	return a, nil
}

// memoryFile returns a sparse memory file of that size from which pages can be
// cut out, or -1 where there is none.
func memoryFile(size int64) int {
	fd, err := unix.MemfdCreate("hayloft", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // Linux before 6.3 does not know that flag
		fd, err = unix.MemfdCreate("hayloft", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return -1
	}
	if unix.Ftruncate(fd, size) != nil || punch(fd, 0, pageBytes) != nil {
		_ = unix.Close(fd) // as if there had been none
		return -1
	}
	return fd
}

func punch(fd int, off, n int64) error {
	return unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
}

func (a *Arena) mapAll(total int64) (err error) {
	flags := unix.MAP_NORESERVE
	if a.fd >= 0 {
		flags |= unix.MAP_SHARED
	} else {
		flags |= unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
	}
	if a.mem, err = unix.Mmap(a.fd, 0, int(total), unix.PROT_READ|unix.PROT_WRITE, flags); err != nil {
		return err
	}
	a.base = unsafe.Pointer(unsafe.SliceData(a.mem))
	// Small pages: see the package's comment. Kernels without huge pages know
	// neither the advice nor the danger.
	if err := unix.Madvise(a.mem, unix.MADV_NOHUGEPAGE); err != nil && !errors.Is(err, unix.EINVAL) {
		return errors.Join(err, unix.Munmap(a.mem))
	}
	_ = unix.Madvise(a.mem, unix.MADV_DONTDUMP) // people's photos have no place in a core file; it works without
	return nil
}

// classOf returns the class of blocks of n bytes.
func classOf(n int) int { return bits.Len64(uint64(n-1) >> pageShift) }

// Alloc returns a block of n bytes, from 1 to Largest, full of zeroes (with
// Options.Poison: of anything). It is nil when there is no memory or no room,
// and after Close.
func (a *Arena) Alloc(n int) []byte {
	if n < 1 || n > Largest || !a.enter() {
		return nil
	}
	c := &a.classes[classOf(n)]
	slot, ok := c.take()
	if !ok {
		a.leave()
		return nil
	}
	off, size := c.start+int64(slot)*c.slot, Size(n)
	if err := a.populate(off, size); err != nil {
		c.end(off)
		a.giveBack(c, slot, off, size)
		return nil
	}
	a.held.Add(size)
	return a.mem[off : off+int64(n) : off+size]
}

// populate makes sure that there is memory behind the addresses: touching a page
// for which there is none would end the process.
func (a *Arena) populate(off, size int64) error {
	err := unix.Madvise(a.mem[off:off+size], unix.MADV_POPULATE_WRITE)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	if a.fd >= 0 { // Linux before 5.14
		return unix.Fallocate(a.fd, unix.FALLOC_FL_KEEP_SIZE, off, size)
	}
	return nil // nothing to be sure with
}

// Free takes a block back: all of what Alloc returned, or a part that begins
// where the block does and ends in its last page.
func (a *Arena) Free(b []byte) {
	off, ok := a.offset(b)
	c := &a.classes[0]
	if ok {
		c = &a.classes[classOf(len(b))]
	}
	if !ok || !c.end(off) {
		panic("offheap: Free of what is no block")
	}
	slot := uint32((off - c.start) / c.slot)
	size := Size(len(b))
	a.held.Add(-size)
	a.giveBack(c, slot, off, size)
}

// giveBack takes the memory of a slot away and then makes the slot free.
func (a *Arena) giveBack(c *class, slot uint32, off, size int64) {
	var err error
	if a.fd >= 0 {
		err = punch(a.fd, off, size)
	} else {
		err = unix.Madvise(a.mem[off:off+size], unix.MADV_DONTNEED)
	}
	if err == nil {
		if a.poisoned {
			b := a.mem[off : off+size]
			for i := range b {
				b[i] = poison
			}
		}
		c.put(slot)
	}
	// Else the pages may still be on their way to a client: nobody gets them any
	// more. New has tried that the call works, so this does not happen.
	a.leave()
}

// offset returns where b begins in the file.
func (a *Arena) offset(b []byte) (int64, bool) {
	off := int64(uintptr(unsafe.Pointer(unsafe.SliceData(b))) - uintptr(a.base))
	return off, len(b) > 0 && 0 <= off && off < int64(len(a.mem))
}

// File returns the descriptor of the memory file and where in it b lies, which
// is a part of a block. False: b is in no memory file.
func (a *Arena) File(b []byte) (fd int, off int64, ok bool) {
	off, ok = a.offset(b)
	return a.fd, off, ok && a.fd >= 0
}

// Held is how much memory the blocks take, in bytes.
func (a *Arena) Held() int64 { return a.held.Load() }

// Resident asks the kernel how much memory the memory file takes, in bytes.
func (a *Arena) Resident() (int64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(a.fd, &st); err != nil {
		return 0, fmt.Errorf("offheap: %w", err)
	}
	return st.Blocks * 512, nil
}

// enter counts a block that begins; false after Close.
func (a *Arena) enter() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return false
	}
	a.blocks++
	return true
}

func (a *Arena) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.blocks--
	a.unmapIfDone()
}

// Close gives all addresses back as soon as no block is left. Alloc returns nil
// from now on.
func (a *Arena) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.closed {
		a.closed = true
		a.unmapIfDone()
	}
}

// unmapIfDone needs mu.
func (a *Arena) unmapIfDone() {
	if !a.closed || a.blocks > 0 {
		return
	}
	_ = unix.Munmap(a.mem) // it is what Mmap returned
	if a.fd >= 0 {
		_ = unix.Close(a.fd) // nobody refers to it, nothing is to be written
	}
}

// take returns a slot that nobody has.
func (c *class) take() (slot uint32, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := len(c.free); n > 0 {
		slot, c.free = c.free[n-1], c.free[:n-1]
	} else {
		if c.cut == c.slots {
			return 0, false
		}
		slot = uint32(c.cut)
		c.cut++
		if c.cut > 64*len(c.used) {
			c.used = append(c.used, 0)
		}
	}
	c.used[slot/64] |= 1 << (slot % 64)
	return slot, true
}

// put makes a slot free that was ended.
func (c *class) put(slot uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.free = append(c.free, slot)
}

// end ends the block that begins at off in the file; false if there is none.
func (c *class) end(off int64) bool {
	slot := (off - c.start) / c.slot
	if off < c.start || c.start+slot*c.slot != off {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	bit := uint64(1) << (slot % 64)
	if slot >= int64(c.cut) || c.used[slot/64]&bit == 0 {
		return false
	}
	c.used[slot/64] &^= bit
	return true
}
