package feed

import (
	"errors"
	"fmt"
	"time"
)

// Options say what to measure. The zero value of each field takes its default.
type Options struct {
	Dir      string        // where the world is kept meanwhile; default the temporary directory
	Duration time.Duration // of the fan-out; default 5 minutes. Other parts take a share of it
	Readers  int           // active readers; default 100,000
	Large    int           // active readers of the second world; default ten times Readers, less than Readers: none
	Graph    string        // file with an edge "a b" in each line, both follow; default: degrees after LinkBench
	Cap      int           // entries in each timeline; default 500
	Redis    string        // redis-server; default from PATH, "none" leaves it out
	Seed     uint64        // of everything random; default 1

	Progress func(string) // is told what goes on; may be nil
}

// Validate reports every fault of o.
func (o *Options) Validate() error {
	var errs []error
	if o.Duration < 0 {
		errs = append(errs, errors.New("a negative duration"))
	}
	for _, v := range []struct {
		name  string
		value int
	}{{"readers", o.Readers}, {"large", o.Large}, {"cap", o.Cap}} {
		if v.value < 0 {
			errs = append(errs, fmt.Errorf("negative %s", v.name))
		}
	}
	if o.Readers > 0 && o.Readers < 100 {
		errs = append(errs, errors.New("fewer than 100 readers"))
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.Duration == 0 {
		o.Duration = 5 * time.Minute
	}
	if o.Readers == 0 {
		o.Readers = 100_000
	}
	if o.Large == 0 {
		o.Large = 10 * o.Readers
	}
	if o.Cap == 0 {
		o.Cap = 500
	}
	if o.Redis == "" {
		o.Redis = "redis-server"
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o
}

// share is a part of the duration.
func (o *Options) share(of float64) time.Duration { return time.Duration(of * float64(o.Duration)) }
