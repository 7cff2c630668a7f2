package meta

import (
	"container/list"
	"sync"
	"time"

	"hayloft/internal/clock"
)

// local keeps values in this process; what was not asked for for the longest time
// makes room.
type local struct {
	o     Options
	clock clock.Clock

	mu     sync.Mutex // guards all below
	values map[string]*list.Element
	order  list.List // of *kept, the latest first
	bytes  int64
	leases map[string]time.Duration // until when
}

// kept is one value.
type kept struct {
	key   string
	entry entry
	until time.Duration // by Clock.Elapsed
}

// keptCost is what a value costs beside itself, about.
const keptCost = 200

func (k *kept) cost() int64 { return int64(len(k.key) + len(k.entry.value) + keptCost) }

func newLocal(o Options) *local {
	return &local{o: o, clock: o.Clock, values: make(map[string]*list.Element), leases: make(map[string]time.Duration)}
}

func (l *local) get(keys []string) (map[string]entry, bool) {
	out := make(map[string]entry, len(keys))
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Elapsed()
	for _, key := range keys {
		e := l.values[key]
		if e == nil {
			continue
		}
		if k := e.Value.(*kept); now < k.until {
			out[key] = k.entry
			l.order.MoveToFront(e)
		} else {
			l.drop(e)
		}
	}
	return out, true
}

// drop forgets a value. Needs mu.
func (l *local) drop(e *list.Element) {
	k := l.order.Remove(e).(*kept)
	delete(l.values, k.key)
	l.bytes -= k.cost()
}

func (l *local) lease(keys []string) (mine, others []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock.Elapsed()
	for _, k := range keys {
		until, leased := l.leases[k]
		if leased = leased && now < until; !leased { // it may have come since the caller looked
			e := l.values[k]
			leased = e != nil && !e.Value.(*kept).entry.absent
		}
		if leased {
			others = append(others, k)
			continue
		}
		l.leases[k] = now + l.o.LeaseLife // ended by put or free: whoever loads, ends
		mine = append(mine, k)
	}
	return mine, others
}

func (l *local) put(key string, e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.leases, key)
	life := l.o.Life
	if e.absent {
		life = l.o.AbsentLife
	}
	if old := l.values[key]; old != nil {
		l.drop(old)
	}
	k := &kept{key, e, l.clock.Elapsed() + life}
	if k.cost() > l.o.Bytes/8 {
		return
	}
	l.values[key] = l.order.PushFront(k)
	for l.bytes += k.cost(); l.bytes > l.o.Bytes; {
		l.drop(l.order.Back())
	}
}

func (l *local) free(keys []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		delete(l.leases, k)
	}
}

func (l *local) close() {}

func (l *local) size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}
