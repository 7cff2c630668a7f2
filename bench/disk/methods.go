package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"hayloft/bench"
	"hayloft/bench/contest"
	"hayloft/bench/library"
	"hayloft/bench/raw"
)

const (
	methodChunk = 16 << 20 // room is made in these steps, while being measured
	methodSlice = 256 << 20
)

// Methods compares ways to write durably and to read, without the engine: the
// figures behind docs/decisions/100. Of o it uses the first directory, Rounds,
// Slice, Bytes and Progress.
func Methods(ctx context.Context, o Options) (*bench.Report, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("bench disk: %w", err)
	}
	if o.Slice == 0 {
		o.Slice = 300 * time.Millisecond
	}
	if o.Bytes == 0 {
		o.Bytes = 1 << 30
	}
	o = o.withDefaults()
	dir, err := os.MkdirTemp(o.Dirs[0], "hayloft-bench-disk-")
	if err != nil {
		return nil, fmt.Errorf("bench disk: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // what is left is named bench
	report := &bench.Report{
		Bench: "disk --methods", When: time.Now().UTC(), Machine: bench.ThisMachine(dir), Ratios: map[string]float64{},
		Settings: map[string]string{
			"rounds": fmt.Sprintf("%d of %v for each method, in turn; medians", o.Rounds, o.Slice),
			"writes": fmt.Sprintf("one writer, room made %d MiB at a time while being measured", methodChunk>>20),
		},
	}
	for _, step := range []func(context.Context, Options, string, *bench.Report) error{writeMethods, readMethods} {
		if err := step(ctx, o, dir, report); err != nil {
			return report, fmt.Errorf("bench disk: %w", err)
		}
	}
	return report, nil
}

func writeMethods(ctx context.Context, o Options, dir string, report *bench.Report) error {
	for _, size := range []int{4 * kib, 64 * kib, 200 * kib, 1024 * kib, 4096 * kib} {
		o.Progress(fmt.Sprintf("writes of %d KiB", size/kib))
		var arms []*contest.Arm
		for _, m := range methods {
			arms = append(arms, methodArm(filepath.Join(dir, "log"), m, size))
		}
		c := contest.Contest{Rounds: o.Rounds, Slice: o.Slice, Arms: arms}
		if err := c.Run(ctx); err != nil {
			return err
		}
		for _, a := range arms {
			a.Name = fmt.Sprintf("write %d KiB: %s", size/kib, a.Name)
			report.Results = append(report.Results, a.Results("B/s", 1)...)
		}
	}
	return nil
}

func methodArm(file string, m method, size int) *contest.Arm {
	return &contest.Arm{Name: m.name, Clients: 1, Start: func(context.Context) (contest.Job, error) {
		buf, err := raw.AlignedBuf(size + raw.PageSize)
		if err != nil {
			return contest.Job{}, err
		}
		for at := 0; at < len(buf); {
			at += copy(buf[at:], library.Noise)
		}
		l, err := newLog(file, m, 0, methodChunk)
		if err != nil {
			raw.FreeBuf(buf)
			return contest.Job{}, err
		}
		return contest.Job{Limit: max(1, methodSlice/size), Do: func(context.Context, int, int) (float64, error) {
			return float64(size), l.append(buf, size)
		}, Stop: func() error { raw.FreeBuf(buf); return l.close() }}, nil
	}}
}

// readMethod is one way to read a record that starts at any multiple of 8.
type readMethod struct {
	name   string
	direct bool
	align  int64 // of direct reads; 0: what the device asks for
	random bool  // the kernel is told not to read ahead
	hot    bool  // the pages are in the cache
}

var readMethodsAll = []readMethod{
	{name: "O_DIRECT, extents of 512", direct: true},
	{name: "O_DIRECT, extents of 4096", direct: true, align: raw.PageSize},
	{name: "buffered, cold"},
	{name: "buffered, told random, cold", random: true},
	{name: "buffered, hot", random: true, hot: true},
}

func readMethods(ctx context.Context, o Options, dir string, report *bench.Report) error {
	for _, size := range []int{8 * kib, 64 * kib, 200 * kib} {
		o.Progress(fmt.Sprintf("reads of %d KiB", size/kib))
		lib, err := library.Build(ctx, filepath.Join(dir, "lib"), o.Bytes, library.Only(size))
		if err != nil {
			return err
		}
		for _, clients := range []int{1, readers16} {
			var arms []*contest.Arm
			for _, m := range readMethodsAll {
				arms = append(arms, m.arm(lib, clients))
			}
			c := contest.Contest{Rounds: o.Rounds, Slice: o.Slice, Arms: arms}
			if err := c.Run(ctx); err != nil {
				return err
			}
			for _, a := range arms {
				a.Name = fmt.Sprintf("read %d KiB, %d at once: %s", size/kib, clients, a.Name)
				report.Results = append(report.Results, a.Results("1/s", 1)...)
			}
		}
		if err := os.RemoveAll(lib.Dir); err != nil {
			return err
		}
	}
	return nil
}

func (m readMethod) arm(lib *library.Library, clients int) *contest.Arm {
	order := library.NewOrder(lib, uint64(clients))
	return &contest.Arm{Name: m.name, Clients: clients, Start: func(ctx context.Context) (contest.Job, error) {
		list, err := order.Fresh()
		if err != nil {
			return contest.Job{}, err
		}
		f, align, err := m.open(lib.File)
		if err != nil {
			return contest.Job{}, err
		}
		bufs, free, err := raw.ClientBufs(clients, library.MaxExtent)
		if err != nil {
			return contest.Job{}, errors.Join(err, f.Close())
		}
		do := func(_ context.Context, client, i int) (float64, error) {
			return 1, library.ReadExtent(f, bufs[client], &lib.Needles[list[i]], align)
		}
		if m.hot {
			const few = 500 // fit into any cache
			list = list[:min(few, len(list))]
			for i := range list {
				if _, err := do(ctx, 0, i); err != nil {
					return contest.Job{}, errors.Join(err, f.Close())
				}
			}
		}
		limit := len(list)
		if m.hot {
			limit = 1 << 30
			cold := do
			do = func(ctx context.Context, client, i int) (float64, error) { return cold(ctx, client, i%len(list)) }
		}
		return contest.Job{Limit: limit, Do: do, Stop: func() error { free(); return f.Close() }}, nil
	}}
}

func (m readMethod) open(name string) (*os.File, int64, error) {
	if !m.direct {
		f, err := os.Open(name)
		if err == nil && m.random {
			err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_RANDOM)
		}
		return f, 1, err
	}
	f, direct, err := raw.OpenDirect(name, os.O_RDONLY)
	if err == nil && !direct {
		err = errors.Join(fmt.Errorf("%s: this file system does not know O_DIRECT", name), f.Close())
	}
	if err != nil {
		return nil, 0, err
	}
	if m.align != 0 {
		return f, m.align, nil
	}
	return f, raw.MinAlign(f), nil
}
