package volume

import (
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"hayloft/internal/vfs"
)

// directFiles counts the files that are open past the page cache, by name.
type directFiles struct {
	vfs.FS
	mu   sync.Mutex // guards open
	open map[string]int
}

type directFile struct {
	vfs.File
	fs   *directFiles
	name string
}

func (d *directFiles) count(name string, n int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open[name] += n
	return d.open[name]
}

func (d *directFiles) wrap(f vfs.File, unit int, err error, name string) (vfs.File, int, error) {
	if err != nil {
		return nil, 0, err
	}
	name = filepath.Base(name)
	d.count(name, 1)
	return &directFile{File: f, fs: d, name: name}, unit, nil
}

func (d *directFiles) OpenDirect(name string) (vfs.File, int, error) {
	f, unit, err := d.FS.OpenDirect(name)
	return d.wrap(f, unit, err, name)
}

func (d *directFiles) OpenDirectWrite(name string) (vfs.File, int, error) {
	f, unit, err := d.FS.OpenDirectWrite(name)
	return d.wrap(f, unit, err, name)
}

func (f *directFile) Close() error {
	f.fs.count(f.name, -1)
	return f.File.Close()
}

// TestFilesOfASealedVolume: a volume has a file to read and one to write past the
// page cache. Once it is sealed nobody writes, and from a delete log nobody reads
// needles: a disk has a thousand of both.
func TestFilesOfASealedVolume(t *testing.T) {
	d := &directFiles{FS: newMem(t, 1), open: map[string]int{}}
	v := create(t, d)
	mustAppend(t, v, testNeedle(1, 1, 500))
	if n := d.count(filepath.Base(testFile), 0); n != 2 {
		t.Fatalf("an open volume has %d files", n)
	}
	for range 2 {
		if _, err := v.Seal(bg, SealInfo{}); err != nil {
			t.Fatal(err)
		}
		if err := v.Delete(bg, 2); err != nil {
			t.Fatal(err)
		}
		mustRead(t, v, testNeedle(1, 1, 500))
		file, log := d.count(filepath.Base(testFile), 0), d.count(DeleteLogName(testIdent.Volume), 0)
		if file != 1 || log != 0 {
			t.Errorf("%d files of the sealed volume are open, %d of its delete log", file, log)
		}
		closeVolume(t, v)
		v = reopen(t, d)
	}
	closeVolume(t, v)
	for name, n := range d.open {
		if n != 0 {
			t.Errorf("%d files %s are still open", n, name)
		}
	}
}

// TestCloseBesideAHungRead: while Close waits for a read that the device does not
// answer, others are told that the volume is closed.
func TestCloseBesideAHungRead(t *testing.T) {
	g := newGate(vfs.OpRead)
	v := create(t, &vfs.Fault{FS: newMem(t, 1), Before: g.before})
	mustAppend(t, v, testNeedle(1, 1, 500))
	g.set(true)
	read := make(chan error, 1)
	go func() { read <- readErr(v, testNeedle(1, 1, 500)) }()
	<-g.arrived
	closed := make(chan error, 1)
	go func() { closed <- v.Close() }()
	for v.use() == nil { // until Close waits
		v.release()
		runtime.Gosched()
	}
	wantErr(t, readErr(v, testNeedle(1, 1, 500)), ErrClosed)
	select {
	case err := <-closed:
		t.Fatalf("Close did not wait: %v", err)
	default:
	}
	g.set(false)
	close(g.pass)
	for _, c := range []chan error{read, closed} {
		if err := <-c; err != nil {
			t.Fatal(err)
		}
	}
}
