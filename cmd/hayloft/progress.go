package main

import (
	"fmt"
	"io/fs"
	"os"
	"sync/atomic"
	"time"

	"hayloft/internal/units"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

// progress tells on standard error how far long work is: a line that is
// written over on a terminal, a line every ten seconds elsewhere.
type progress struct {
	stop chan struct{}
	done chan struct{}
}

func startProgress(cmd *cobra.Command, tell func() string) *progress {
	p := &progress{stop: make(chan struct{}), done: make(chan struct{})}
	out := cmd.ErrOrStderr()
	every, form := 10*time.Second, "hayloft: %s\n"
	file, ok := out.(*os.File)
	st, err := fileMode(file, ok)
	terminal := err == nil && st&os.ModeCharDevice != 0
	if terminal {
		every, form = time.Second/5, "\r\x1b[K%s"
	}
	go func() {
		defer close(p.done)
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-p.stop:
				if terminal {
					fmt.Fprint(out, "\r\x1b[K")
				}
				return
			case <-t.C:
				fmt.Fprintf(out, form, tell())
			}
		}
	}()
	return p
}

func fileMode(f *os.File, ok bool) (os.FileMode, error) {
	if !ok {
		return 0, fs.ErrInvalid
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Mode(), nil
}

func (p *progress) end() {
	close(p.stop)
	<-p.done
}

// steps follows work on one volume after another.
type steps struct {
	verb  string
	done  atomic.Int64
	total int
	now   atomic.Pointer[tools.Progress]
}

func (s *steps) report(p tools.Progress) { s.now.Store(&p) }

func (s *steps) next() {
	s.done.Add(1)
	s.now.Store(nil)
}

// tell is one line.
func (s *steps) tell() string {
	text := fmt.Sprintf("%s: %d of %d volumes", s.verb, s.done.Load(), s.total)
	p := s.now.Load()
	switch {
	case p == nil:
	case p.Total > 0:
		text += fmt.Sprintf(", volume %d: %s %s of %s", p.Volume, p.Step, roughly(p.Done), roughly(p.Total))
	case p.Done > 0:
		text += fmt.Sprintf(", volume %d: %s %s", p.Volume, p.Step, roughly(p.Done))
	default:
		text += fmt.Sprintf(", volume %d: %s", p.Volume, p.Step)
	}
	return text
}

// roughly writes a size for people.
func roughly(n int64) string {
	f := float64(n)
	for _, u := range []string{"B", "KiB", "MiB", "GiB"} {
		if f < 1024 {
			if u == "B" {
				return units.Size(n).String()
			}
			return fmt.Sprintf("%.1f%s", f, u)
		}
		f /= 1024
	}
	return fmt.Sprintf("%.1fTiB", f)
}
