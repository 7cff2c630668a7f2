package disk

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"hayloft/bench/library"
	"hayloft/volume"
)

const (
	// A writer puts groups of this many needles, from as many clients as it
	// takes to keep the engine busy.
	fillGroup   = 64
	fillClients = 8
	sayEvery    = 64 // groups between two lines
)

// WriterOptions say what Writer does.
type WriterOptions struct {
	Dir  string    // of the volume, which is made if it is not there
	From int       // the group to begin with
	Size int       // bytes of each needle
	Out  io.Writer // takes the report
}

// Writer is the process that Run kills: it appends groups of small needles to
// a volume until it is. It says how many needles were acknowledged and how
// much memory the index takes, a line each time. It returns when ctx ends, or
// with an error.
func Writer(ctx context.Context, o WriterOptions) error {
	v, err := openOrCreate(o.Dir)
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards groups and err
	groups := 0
	var next atomic.Int64
	next.Store(int64(o.From))
	var wg sync.WaitGroup
	for range fillClients {
		wg.Go(func() {
			bufs := make([][]byte, fillGroup)
			for i := range bufs {
				bufs[i] = bytes.Clone(library.Noise[:o.Size])
			}
			w := writing{size: o.Size, group: fillGroup, key: photoKey}
			for {
				perr := w.put(ctx, v, bufs, int(next.Add(1)-1))
				mu.Lock()
				if groups++; perr == nil && err == nil && groups%sayEvery == 0 {
					_, perr = fmt.Fprintf(o.Out, "%d %d\n", groups*fillGroup, v.Stats().IndexBytes)
				}
				err = errors.Join(err, perr)
				stop := err != nil
				mu.Unlock()
				if stop {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(err, v.Close())
}

func openOrCreate(dir string) (*volume.Volume, error) {
	v, err := volume.Open(dir, library.ID, volume.Options{})
	if errors.Is(err, volume.ErrNoVolume) {
		return volume.Create(dir, library.Ident, volume.Options{})
	}
	return v, err
}

// life is one life of a writer process.
type life struct {
	acknowledged int     // needles
	peak         float64 // largest memory of the index, bytes per needle, in the last nine tenths
}

// live starts the writer of command from group from on, and kills it with
// kill -9 when it has said that at least needles were acknowledged. have is how
// many needles the volume held before.
func live(ctx context.Context, command []string, o WriterOptions, have, needles int) (l life, err error) {
	cmd := exec.CommandContext(ctx, command[0], append(command[1:len(command):len(command)],
		"--dir", o.Dir, "--from", strconv.Itoa(o.From), "--size", strconv.Itoa(o.Size))...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return l, fmt.Errorf("start the writer: %w", err)
	}
	in := bufio.NewScanner(out)
	for in.Scan() {
		var index int64
		if _, err = fmt.Sscan(in.Text(), &l.acknowledged, &index); err != nil {
			err = fmt.Errorf("the writer said %q: %w", in.Text(), err)
			break
		}
		if all := have + l.acknowledged; l.acknowledged > needles/10 {
			l.peak = max(l.peak, float64(index)/float64(all))
		}
		if l.acknowledged >= needles {
			break
		}
	}
	kill := cmd.Process.Kill()
	if errors.Is(kill, os.ErrProcessDone) {
		kill = nil
	}
	wait := cmd.Wait() // "killed" is how it should end
	if err = errors.Join(err, in.Err(), kill, ctx.Err()); err != nil {
		return l, err
	}
	if l.acknowledged < needles {
		return l, fmt.Errorf("the writer ended by itself: %w: %s", wait, bytes.TrimSpace(stderr.Bytes()))
	}
	return l, nil
}
