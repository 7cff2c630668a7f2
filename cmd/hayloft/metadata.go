package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"hayloft/internal/raftgroup"
)

// Where a data directory holds metadata. Any of them may be lost: the groups are
// kept on several, the timelines are derived, and of the small files (kept)
// every directory has a copy.
var (
	directoryGroup = []string{"raft", "directory"}
	feedGroup      = []string{"raft", "feed"}
	timelines      = []string{"timelines"}
	searchIndex    = []string{"search"}
)

// diskLost tells everything that keeps metadata that the disk of a data directory
// is gone, or must not be used any more. It may be called by any goroutine, and
// does not wait.
func (n *node) diskLost(dir string, why error) {
	at := func(parts []string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	if n.directory != nil {
		n.directory.Lost(at(directoryGroup), why)
	}
	if n.group != nil {
		n.group.Lost(at(feedGroup), why)
	}
	if n.feed != nil {
		n.feed.TimelinesLost(at(timelines), why)
		n.feed.SearchLost(at(searchIndex), why)
	}
}

// diskUsable tells them that it may be used again. It may be empty: what should be
// there is made anew.
func (n *node) diskUsable(dir string) {
	if err := n.refill(dir); err != nil {
		n.log.Error("a data directory came back and can't be used", "dir", dir, "err", err)
		return
	}
	at := func(parts []string) string { return filepath.Join(append([]string{dir}, parts...)...) }
	if n.directory != nil {
		n.directory.Usable(at(directoryGroup))
	}
	if n.group != nil {
		n.group.Usable(at(feedGroup))
	}
	if n.feed != nil {
		n.feed.TimelinesUsable(at(timelines))
		n.feed.SearchUsable(at(searchIndex))
	}
}

// diskChanged tells those who keep metadata in a data directory that its disk is out,
// and why, or with nil that it is in use again: one after the other, and beside the
// caller.
func (n *node) diskChanged(dir string, why error) {
	n.diskNews.do(func() {
		if why != nil {
			n.diskLost(dir, why)
		} else {
			n.diskUsable(dir)
		}
	})
}

// serial does what it is given one after the other, on a goroutine that is there
// while there is something to do.
type serial struct {
	mu      sync.Mutex // guards all below
	queue   []func()
	running bool
}

func (s *serial) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.queue = append(s.queue, f); !s.running {
		s.running = true
		go s.run()
	}
}

func (s *serial) run() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.running = false
			s.mu.Unlock()
			return
		}
		f := s.queue[0]
		s.queue = s.queue[1:]
		s.mu.Unlock()
		f()
	}
}

// refill gives a directory that came back its copies of the small files. One that
// belongs to another server is refused.
func (n *node) refill(dir string) error {
	lock, err := lockDir(dir)
	switch {
	case err == nil:
		n.locksMu.Lock()
		n.who.locks = append(n.who.locks, lock)
		n.locksMu.Unlock()
	case !errors.Is(err, errInUse): // by this process, when it is the same directory
		return err
	}
	for _, f := range []struct {
		kept
		text string
	}{{nodeName, n.who.name}, {adminTokenKept, n.adminToken}} {
		have, lack, err := f.read([]string{dir})
		if err == nil && have != nil && f.text != "" && string(have) != f.text+"\n" {
			return fmt.Errorf("%s holds another server's %s", dir, f.name)
		}
		if len(lack) == 0 && err != nil {
			lack = []string{dir} // damaged
		}
		if f.text == "" || len(lack) == 0 {
			continue
		}
		if _, err := f.spread(lack, []byte(f.text+"\n")); err != nil {
			return err
		}
	}
	return nil
}

// nameAll says what to do about directories that are missing.
func nameAll(err error) error {
	var missing *raftgroup.MissingError
	if errors.As(err, &missing) {
		return fmt.Errorf("name all data directories of the server: %w", err)
	}
	return err
}
