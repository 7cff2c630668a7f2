package ec

import (
	"errors"
	"fmt"
	"time"

	"hayloft/volume/coding"
	"hayloft/volume/server"
)

// Options of Run. The zero value but for Dirs works.
type Options struct {
	// Dirs take the shards in turn; the volume that is coded lies in the first.
	Dirs []string
	// Policies are measured one after another; none means 4+2 and 10+4.
	Policies []coding.Policy
	// Quick takes less of everything: a first look, within a minute. Its volumes
	// are too small for the ratio of what is stored.
	Quick bool
	// Rounds is how often each side is measured; 0 means 5, quick 3. What moves
	// whole volumes is done three times at most.
	Rounds int
	// Slice is how long one side is measured in one round; 0 means 1 s, quick
	// 250 ms.
	Slice time.Duration
	// Bytes is how much the volume holds; 0 means 1 GiB, quick 128 MiB.
	Bytes int64
	// Flips is how many bits are flipped; 0 means 1,000.
	Flips int
	// Maintenance is the rate of a server's upkeep on one disk, in bytes per second;
	// 0 means a server's default. As a server does, a rebuild beside reads takes a
	// share of that from each two disks.
	Maintenance int64
	// Seed makes the flips; 0 draws one.
	Seed uint64
	// Progress is told what is being measured; nil tells nobody. It is called
	// from one goroutine.
	Progress func(string)
}

// minBytes leaves a few needles of each size in every shard of a small policy.
const minBytes = 4 << 20

// Validate reports everything that is wrong with the options at once.
func (o Options) Validate() error {
	var errs []error
	if len(o.Dirs) == 0 {
		errs = append(errs, errors.New("no directory is given"))
	}
	seen := make(map[coding.Policy]bool)
	for _, p := range o.Policies {
		errs = append(errs, p.Validate())
		if seen[p] {
			errs = append(errs, fmt.Errorf("policy %s is given twice", p))
		}
		seen[p] = true
	}
	if o.Rounds < 0 || o.Slice < 0 || o.Bytes < 0 || o.Flips < 0 || o.Maintenance < 0 {
		errs = append(errs, errors.New("counts, sizes and times must not be negative"))
	}
	if o.Bytes > 0 && o.Bytes < minBytes {
		errs = append(errs, fmt.Errorf("the volume must hold at least %d bytes", int64(minBytes)))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	quick := func(full, quick int64) int64 {
		if o.Quick {
			return quick
		}
		return full
	}
	if len(o.Policies) == 0 {
		o.Policies = []coding.Policy{{Data: 4, Parity: 2}, {Data: 10, Parity: 4}}
	}
	if o.Rounds == 0 {
		o.Rounds = int(quick(5, 3))
	}
	if o.Slice == 0 {
		o.Slice = time.Duration(quick(int64(time.Second), int64(250*time.Millisecond)))
	}
	if o.Bytes == 0 {
		o.Bytes = quick(1<<30, 128<<20)
	}
	if o.Flips == 0 {
		o.Flips = 1000
	}
	if o.Maintenance == 0 {
		o.Maintenance = server.DefaultMaintenance
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o
}
