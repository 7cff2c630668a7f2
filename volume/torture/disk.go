package torture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoPower says that this machine cannot play power cuts.
var ErrNoPower = errors.New("power cuts need root, loop devices and mkfs.ext4")

const (
	// DiskBytes is the size of the image: a sparse file.
	DiskBytes = 512 << 20

	// The ioctl that shuts an ext4 file system down (EXT4_IOC_SHUTDOWN), and
	// the way that writes nothing back, not even the journal
	// (EXT4_GOING_FLAGS_NOLOGFLUSH).
	ext4Shutdown   = 0x8004587d
	withoutJournal = 2
)

// Disk is an ext4 file system with a journal on a loop device over an image
// file. The mount is seen by this process's mount namespace; the loop device
// gives itself up with its last user, so that even kill -9 leaves nothing but
// the image when the namespace is a private one.
type Disk struct {
	image, mount string
	loop         *os.File
	mounted      bool
}

// NewDisk makes image and mount point in dir and mounts. Errors that say that
// the machine cannot do this are ErrNoPower.
func NewDisk(dir string) (*Disk, error) {
	d := &Disk{image: filepath.Join(dir, "power.img"), mount: filepath.Join(dir, "power")}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// Dir is where the file system is mounted.
func (d *Disk) Dir() string { return d.mount }

func (d *Disk) open() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: not root", ErrNoPower)
	}
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrNoPower, err)
	}
	image, err := os.OpenFile(d.image, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer image.Close()
	if err := image.Truncate(DiskBytes); err != nil {
		return err
	}
	if out, err := exec.Command(mkfs, "-q", "-F", "-O", "has_journal", d.image).CombinedOutput(); err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, bytes.TrimSpace(out))
	}
	if err := os.Mkdir(d.mount, 0o700); err != nil {
		return err
	}
	if d.loop, err = attach(image); err != nil {
		return fmt.Errorf("%w: loop device: %w", ErrNoPower, err)
	}
	return d.mountIt()
}

// attach puts a free loop device over the image.
func attach(image *os.File) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	for tries := 0; ; tries++ {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("find a free one: %w", err)
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(image.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR}}
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		err = errors.Join(fmt.Errorf("%s: %w", loop.Name(), err), loop.Close())
		// Another process may have taken it meanwhile.
		if !errors.Is(err, unix.EBUSY) || tries == 20 {
			return nil, err
		}
	}
}

func (d *Disk) mountIt() error {
	if err := unix.Mount(d.loop.Name(), d.mount, "ext4", unix.MS_NODEV|unix.MS_NOSUID, ""); err != nil {
		err = fmt.Errorf("mount %s: %w", d.loop.Name(), err)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENODEV) {
			err = fmt.Errorf("%w: %w", ErrNoPower, err)
		}
		return err
	}
	d.mounted = true
	return nil
}

// Cut shuts the file system down: what was not synced is lost, every further
// call fails.
func (d *Disk) Cut() error {
	f, err := os.Open(d.mount)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), ext4Shutdown, withoutJournal); err != nil {
		return fmt.Errorf("shut the file system down: %w", err)
	}
	return nil
}

// Restart mounts again after a cut. Nothing may have a file open.
func (d *Disk) Restart() error {
	if err := d.unmount(); err != nil {
		return err
	}
	return d.mountIt()
}

func (d *Disk) unmount() error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		err := unix.Unmount(d.mount, 0)
		if err == nil {
			d.mounted = false
			return nil
		}
		// A killed process's files are closed a moment after it is gone.
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return fmt.Errorf("unmount %s: %w", d.mount, err)
		}
	}
}

// Close unmounts, gives the loop device back and removes the image.
func (d *Disk) Close() error {
	var errs []error
	if d.mounted {
		if err := d.unmount(); err != nil {
			errs = append(errs, err, unix.Unmount(d.mount, unix.MNT_DETACH))
		}
	}
	if d.loop != nil {
		errs = append(errs, d.loop.Close())
	}
	for _, name := range []string{d.mount, d.image} {
		if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
