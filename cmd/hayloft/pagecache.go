package main

import (
	"fmt"
	"net"

	"hayloft/cache/meta"
)

func validateMemcached(servers []string) (faults []error) {
	for _, s := range servers {
		if host, port, err := net.SplitHostPort(s); err != nil || host == "" || port == "" {
			faults = append(faults, fmt.Errorf("--memcached %q is not host:port", s))
		}
	}
	return faults
}

// openPages opens the metadata cache, on a node that serves the API and has no replica of
// the feed: pages come from other nodes, and what is known of them is not sent again.
func (n *node) openPages() (err error) {
	if !n.plays(roleAPI) {
		return nil
	}
	n.pages, err = meta.New(meta.Options{
		Servers: n.s.memcached, Clock: n.clock, Events: n.pagesEvent,
		Secret: func() []byte { _, key := n.ring.Sign("metadata cache"); return key },
	})
	if err == nil {
		n.away.CacheWith(n.pages)
	}
	return err
}

func (n *node) pagesEvent(e meta.Event) {
	log := n.log.With("server", e.Server)
	switch e.Kind {
	case meta.ServerLeft:
		log.Warn("memcached: left alone for now", "err", e.Err)
	case meta.ServerBack:
		log.Info("memcached: answers again")
	}
}

func (n *node) pagesMetrics(c *collector) {
	if n.pages == nil {
		return
	}
	ps := n.pages.Stats
	c.add(counts, "metadata_cache_hits_total", "Photos of pages that were found.", func() float64 { return float64(ps().Hits) })
	c.add(counts, "metadata_cache_misses_total", "Photos of pages that were not.", func() float64 { return float64(ps().Misses) })
	c.add(counts, "metadata_cache_loaded_total", "Of these, asked for here.", func() float64 { return float64(ps().Loaded) })
	c.add(counts, "metadata_cache_waited_total", "Of these, loaded by somebody else meanwhile.", func() float64 { return float64(ps().Waited) })
	c.add(counts, "metadata_cache_failures_total", "Calls of memcached servers that failed.", func() float64 { return float64(ps().Failures) })
	c.add(counts, "metadata_cache_lies_total", "Values from memcached servers that were not what was put there.", func() float64 { return float64(ps().Lies) })
	c.add(levels, "metadata_cache_servers", "Memcached servers in use.", func() float64 { return float64(ps().Servers) })
	c.add(levels, "metadata_cache_bytes", "Bytes kept in this process, for want of servers.", func() float64 { return float64(ps().Bytes) })
}
