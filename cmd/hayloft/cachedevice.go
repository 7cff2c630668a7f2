package main

import (
	"fmt"

	"github.com/spf13/pflag"

	"hayloft/cache"
	"hayloft/cache/ssd"
	"hayloft/internal/units"
	"hayloft/media"
)

// deviceSettings are those of the photo cache's device.
type deviceSettings struct {
	dir  string // "": there is none
	size units.Size
	rate units.Size // bytes a second
}

func (s *deviceSettings) define(f *pflag.FlagSet) {
	s.size, s.rate = 16<<30, 16<<20
	f.StringVar(&s.dir, "cache-dir", "", "directory on an SSD in which the photo cache keeps what leaves its memory (default: it has its memory only)")
	f.Var(&s.size, "cache-dir-size", "size of the file in cache-dir")
	f.Var(&s.rate, "cache-dir-rate", "bytes per second that are written to cache-dir at most")
}

// leastDevice is the smallest cache-dir-size: eight regions of the least size would do, and be of no use.
const leastDevice = units.Size(16 << 20)

func (s *deviceSettings) validate() (faults []error) {
	if s.size < leastDevice {
		faults = append(faults, fmt.Errorf("--cache-dir-size %s is less than %s", s.size, leastDevice))
	}
	if s.rate < 1 {
		faults = append(faults, fmt.Errorf("--cache-dir-rate must be positive"))
	}
	return faults
}

// withDevice puts the cache's device, if there is one, between the cache and what is
// behind it.
func (n *node) withDevice(o *cache.Options) (err error) {
	s := n.s.device
	if s.dir == "" {
		return nil
	}
	n.device, err = ssd.Open(ssd.Options{
		// The public original is made at each fill: what an earlier version made must not outlast it.
		Dir: s.dir, Size: int64(s.size), Rate: int64(s.rate), Except: []string{media.Original.String()},
		Clock: n.clock, Events: n.deviceEvent,
	})
	if err == nil {
		o.Origin, o.Purges = n.device.Before(o.Origin), n.device.Following(o.Purges)
	}
	return err
}

// closeDevice writes what waits. The device is a cache: nothing depends on it.
func (n *node) closeDevice() {
	if n.device == nil {
		return
	}
	if err := n.device.Close(); err != nil {
		n.log.Warn("cache device: left behind at the stop", "err", err)
	}
}

func (n *node) deviceEvent(e ssd.Event) {
	log := n.log.With("dir", n.s.device.dir)
	switch e.Kind {
	case ssd.Ready:
		log.Info("cache device: in use", "objects", e.Objects)
	case ssd.Failed:
		log.Warn("cache device: left alone for now, photos come from the store", "err", e.Err)
	case ssd.Corrupt:
		log.Warn("cache device: a record was not what was written, and is dropped", "err", e.Err)
	}
}

func (n *node) deviceMetrics(c *collector) {
	if n.device == nil {
		return
	}
	ds := n.device.Stats
	c.add(levels, "cache_device_up", "1 while the cache's device is in use.", func() float64 {
		if ds().Up {
			return 1
		}
		return 0
	})
	c.add(counts, "cache_device_hits_total", "Fills that the cache's device answered.", func() float64 { return float64(ds().Hits) })
	c.add(counts, "cache_device_misses_total", "Fills that it did not answer.", func() float64 { return float64(ds().Misses) })
	c.add(counts, "cache_device_timeouts_total", "Of these, because it took too long or was busy.", func() float64 { return float64(ds().Timeouts) })
	c.add(counts, "cache_device_corrupt_total", "Of these, because a record was not what was written.", func() float64 { return float64(ds().Corrupt) })
	c.add(counts, "cache_device_errors_total", "Calls of its file system that failed.", func() float64 { return float64(ds().Errors) })
	c.add(counts, "cache_device_admitted_total", "Objects taken for writing.", func() float64 { return float64(ds().Admitted) })
	c.add(counts, "cache_device_refused_total", "Objects not taken though they came again: too large, too much waiting, no device.", func() float64 { return float64(ds().Refused) })
	c.add(counts, "cache_device_written_bytes_total", "Bytes written to it.", func() float64 { return float64(ds().Written) })
	c.add(levels, "cache_device_objects", "Objects on it.", func() float64 { return float64(ds().Objects) })
	c.add(levels, "cache_device_bytes", "Bytes that its file takes.", func() float64 { return float64(ds().FileBytes) })
	c.add(levels, "cache_device_index_bytes", "Memory of its index.", func() float64 { return float64(ds().IndexBytes) })
}
