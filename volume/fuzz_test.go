package volume

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"hayloft/internal/vfs"
)

// FuzzDeleteLog opens a sealed volume beside a delete log with arbitrary
// changes: nothing panics, what is live has its right bytes or is explicitly
// corrupt or not found, and nothing else is served in its place.
func FuzzDeleteLog(f *testing.F) {
	mem := newMem(f, 1)
	v, live, dead := sealSample(f, mem)
	closeVolume(f, v)
	name := "/d/" + DeleteLogName(7)
	log, err := vfs.ReadFile(mem, name, 1<<20)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(0), []byte{})
	f.Add(uint16(8), []byte{2})
	f.Add(uint16(dataStart), make([]byte, 2*headerSize))
	f.Add(uint16(dataStart+2*headerSize), log[dataStart:dataStart+2*headerSize])
	f.Add(uint16(len(log)), log[dataStart:])
	f.Fuzz(func(t *testing.T, off uint16, change []byte) {
		m := mem.Kill()
		b := append([]byte(nil), log...)
		b = append(b[:min(int(off), len(b))], append(change, b[min(int(off)+len(change), len(b)):]...)...)
		if err := vfs.WriteFile(m, name, b); err != nil {
			t.Fatal(err)
		}
		v, err := Open("/d", 7, Options{FS: m})
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		for _, n := range append(append([]Needle(nil), live...), dead...) {
			b, err := v.Read(bg, n.Key, n.Alt, n.Cookie)
			switch {
			case err == nil && bytes.Equal(b.Data, n.Data):
				b.Release()
			case errors.Is(err, ErrCorrupt), errors.Is(err, ErrNotFound):
			default:
				t.Fatalf("%v/%d: wrong bytes or error %v", n.Key, n.Alt, err)
			}
		}
		for _, n := range dead[:2] { // deleted before it was sealed: no log brings them back
			if err := readErr(v, n); err == nil {
				t.Fatalf("%v is back", n.Key)
			}
		}
		if _, err := v.Check(bg, func(Finding) {}); err != nil {
			t.Fatal(err)
		}
		closeVolume(t, v)
	})
}

// FuzzFileName: what is taken for a file of a volume has exactly that name.
func FuzzFileName(f *testing.F) {
	for _, name := range []string{FileName(7, 1), markerName(7, 1), IndexName(7, 1), DeleteLogName(7), "00000007-00000001.vol.tmp", "0-0.vol"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if v, g, ok := parseName(name); ok && FileName(v, g) != name {
			t.Fatalf("%q was taken for volume %d, generation %d", name, v, g)
		}
		if strings.Contains(name, "/") || name == "" {
			return
		}
		mem := newMem(t, 1)
		if err := vfs.WriteFile(mem, "/d/"+name, nil); err != nil {
			return // . and ..
		}
		if _, err := List(mem, "/d"); err != nil {
			t.Fatal(err)
		}
	})
}

// FuzzReceive takes a sealed generation with arbitrary changes: what gets its name has
// every needle, and what is refused leaves nothing.
func FuzzReceive(f *testing.F) {
	s := sendSample(f, 2)
	f.Add(uint16(0), []byte{}, uint16(0))
	f.Add(uint16(100), []byte{1, 2, 3}, uint16(0))
	f.Add(uint16(dataStart), make([]byte, headerSize), uint16(0))
	f.Add(uint16(dataStart+headerSize), []byte{7}, uint16(8))
	f.Add(uint16(0), s.bytes[:100], uint16(64))
	f.Fuzz(func(t *testing.T, off uint16, change []byte, less uint16) {
		mem := newMem(t, 1)
		b := append([]byte(nil), s.bytes...)
		b = append(b[:min(int(off), len(b))], append(change, b[min(int(off)+len(change), len(b)):]...)...)
		b = b[:max(0, len(b)-int(less))]
		err := s.receive(mem, s.expect(), b)
		if err != nil {
			if n := names(t, mem); len(n) != 0 {
				t.Fatalf("%v left %v", err, n)
			}
			return
		}
		v := reopen(t, mem)
		if err := checkNeedles(v, s.live, s.dead); err != nil {
			t.Fatal(err)
		}
		noFindings(t, v)
		closeVolume(t, v)
	})
}
