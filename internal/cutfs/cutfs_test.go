package cutfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errGone = errors.New("the disk is gone")

// TestPasses runs Pebble on it, on the machine's files and in memory.
func TestPasses(t *testing.T) {
	for name, under := range map[string]vfs.FS{"machine": vfs.Default, "memory": vfs.NewMem()} {
		t.Run(name, func(t *testing.T) {
			dir, fs := t.TempDir(), New(under)
			for round := range 2 {
				db, err := pebble.Open(dir, &pebble.Options{FS: fs, Logger: quiet{}})
				if err != nil {
					t.Fatal(err)
				}
				for i := range 300 {
					key := fmt.Appendf(nil, "k%d", i)
					if round == 0 {
						err = db.Set(key, bytes.Repeat(key, 500), pebble.Sync)
					} else if v, c, gerr := db.Get(key); gerr != nil || !bytes.Equal(v, bytes.Repeat(key, 500)) {
						t.Fatalf("%s: %d bytes, %v", key, len(v), gerr)
					} else {
						c.Close()
					}
					if err != nil {
						t.Fatal(err)
					}
				}
				if err := errors.Join(db.Flush(), db.Compact(t.Context(), []byte("a"), []byte("z"), false), db.Close()); err != nil {
					t.Fatal(err)
				}
			}
			if err := fs.Failed(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCutEndsWhatHangs: operations on a disk that hangs return when it is cut
// off, and what they would have opened is closed.
func TestCutEndsWhatHangs(t *testing.T) {
	mem := vfs.NewMem()
	f, err := mem.Create("f", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("bytes")); err != nil || f.Close() != nil {
		t.Fatal(err)
	}
	hang, entered := make(chan struct{}), make(chan struct{}, 16)
	hangs := false
	fs := New(errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if hangs && op.Kind != errorfs.OpFileClose {
			entered <- struct{}{}
			<-hang
		}
		return nil
	})))
	open, err := fs.Open("f")
	if err != nil {
		t.Fatal(err)
	}
	hangs = true
	p := make([]byte, 5)
	ops := map[string]func() error{
		"read":   func() error { _, err := open.ReadAt(p, 0); return err },
		"open":   func() error { _, err := fs.Open("f"); return err },
		"create": func() error { _, err := fs.Create("g", vfs.WriteCategoryUnspecified); return err },
		"list":   func() error { _, err := fs.List("/"); return err },
	}
	ended := make(chan error, len(ops))
	for name, op := range ops {
		go func() {
			if err := op(); !errors.Is(err, errGone) {
				ended <- fmt.Errorf("%s: %w", name, err)
				return
			}
			ended <- nil
		}()
	}
	for range ops {
		<-entered
	}
	fs.Cut(errGone)
	for range ops {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if _, err := fs.Stat("f"); !errors.Is(err, errGone) {
		t.Errorf("after the cut: %v", err)
	}
	close(hang)
	if err := open.Close(); !errors.Is(err, errGone) {
		t.Errorf("close: %v", err)
	}
	if !bytes.Equal(p, make([]byte, 5)) {
		t.Errorf("a read that was left behind wrote %q", p)
	}
}

// TestFailed: what the disk fails with is remembered, what is merely not there
// is not.
func TestFailed(t *testing.T) {
	dir := t.TempDir()
	fail := false
	fs := New(errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if fail && op.Kind == errorfs.OpFileWrite {
			return os.ErrPermission
		}
		return nil
	})))
	if _, err := fs.Open(fs.PathJoin(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	f, err := fs.Create(fs.PathJoin(dir, "f"), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Read(make([]byte, 1)); err != io.EOF {
		t.Fatal(err)
	}
	if err := fs.Failed(); err != nil {
		t.Fatalf("%v counts as a failure", err)
	}
	fail = true
	if _, err := f.Write([]byte("x")); !errors.Is(err, os.ErrPermission) || !errors.Is(fs.Failed(), os.ErrPermission) {
		t.Fatalf("%v, %v", err, fs.Failed())
	}
}

type quiet struct{}

func (quiet) Infof(string, ...any)              {}
func (quiet) Errorf(string, ...any)             {}
func (quiet) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
