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
		var arms []*arm
		for _, m := range methods {
			arms = append(arms, methodArm(filepath.Join(dir, "log"), m, size))
		}
		c := contest{rounds: o.Rounds, slice: o.Slice, arms: arms}
		if err := c.run(ctx); err != nil {
			return err
		}
		for _, a := range arms {
			a.name = fmt.Sprintf("write %d KiB: %s", size/kib, a.name)
			report.Results = append(report.Results, a.results("B/s", 1)...)
		}
	}
	return nil
}

func methodArm(file string, m method, size int) *arm {
	return &arm{name: m.name, clients: 1, start: func(context.Context) (job, error) {
		buf, err := alignedBuf(size + pageSize)
		if err != nil {
			return job{}, err
		}
		for at := 0; at < len(buf); {
			at += copy(buf[at:], noise)
		}
		l, err := newLog(file, m, 0, methodChunk)
		if err != nil {
			freeBuf(buf)
			return job{}, err
		}
		return job{limit: max(1, methodSlice/size), do: func(context.Context, int, int) (float64, error) {
			return float64(size), l.append(buf, size)
		}, stop: func() error { freeBuf(buf); return l.close() }}, nil
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
	{name: "O_DIRECT, extents of 4096", direct: true, align: pageSize},
	{name: "buffered, cold"},
	{name: "buffered, told random, cold", random: true},
	{name: "buffered, hot", random: true, hot: true},
}

func readMethods(ctx context.Context, o Options, dir string, report *bench.Report) error {
	for _, size := range []int{8 * kib, 64 * kib, 200 * kib} {
		o.Progress(fmt.Sprintf("reads of %d KiB", size/kib))
		lib, err := buildLibrary(ctx, filepath.Join(dir, "lib"), o.Bytes, only(size))
		if err != nil {
			return err
		}
		for _, clients := range []int{1, readers16} {
			var arms []*arm
			for _, m := range readMethodsAll {
				arms = append(arms, m.arm(lib, clients))
			}
			c := contest{rounds: o.Rounds, slice: o.Slice, arms: arms}
			if err := c.run(ctx); err != nil {
				return err
			}
			for _, a := range arms {
				a.name = fmt.Sprintf("read %d KiB, %d at once: %s", size/kib, clients, a.name)
				report.Results = append(report.Results, a.results("1/s", 1)...)
			}
		}
		if err := os.RemoveAll(lib.dir); err != nil {
			return err
		}
	}
	return nil
}

func (m readMethod) arm(lib *library, clients int) *arm {
	order := newOrder(lib, uint64(clients))
	return &arm{name: m.name, clients: clients, start: func(ctx context.Context) (job, error) {
		list, err := order.fresh()
		if err != nil {
			return job{}, err
		}
		f, align, err := m.open(lib.file)
		if err != nil {
			return job{}, err
		}
		bufs, free, err := clientBufs(clients, len(noise)+2*pageSize)
		if err != nil {
			return job{}, errors.Join(err, f.Close())
		}
		do := func(_ context.Context, client, i int) (float64, error) {
			return 1, readExtent(f, bufs[client], &lib.needles[list[i]], align)
		}
		if m.hot {
			const few = 500 // fit into any cache
			list = list[:min(few, len(list))]
			for i := range list {
				if _, err := do(ctx, 0, i); err != nil {
					return job{}, errors.Join(err, f.Close())
				}
			}
		}
		limit := len(list)
		if m.hot {
			limit = 1 << 30
			cold := do
			do = func(ctx context.Context, client, i int) (float64, error) { return cold(ctx, client, i%len(list)) }
		}
		return job{limit: limit, do: do, stop: func() error { free(); return f.Close() }}, nil
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
	f, direct, err := openDirect(name, os.O_RDONLY)
	if err == nil && !direct {
		err = errors.Join(fmt.Errorf("%s: this file system does not know O_DIRECT", name), f.Close())
	}
	if err != nil {
		return nil, 0, err
	}
	if m.align != 0 {
		return f, m.align, nil
	}
	return f, minAlign(f), nil
}
