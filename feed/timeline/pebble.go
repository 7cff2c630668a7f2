package timeline

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable/block"

	"hayloft/internal/id"
)

// pebbleOptions are the settings of docs/decisions/041.
func (s *Store) pebbleOptions(in *instance) *pebble.Options {
	o := &pebble.Options{
		Cache:              s.cache,
		FS:                 in.place.fs,
		Merger:             s.merger,
		FormatMajorVersion: pebble.FormatValueSeparation,
		// Without a write-ahead log a crash loses the last writes, cursor and
		// all; the outbox has them still (DurableCursor).
		DisableWAL:                  true,
		MemTableSize:                uint64(s.o.MemoryBytes),
		MemTableStopWritesThreshold: 3,
		// Each flush goes down at once (docs/decisions/041): what is left in the
		// first level makes pages dear, and is a debt that quiet times do not pay.
		L0CompactionThreshold:      2,
		LBaseMaxBytes:              64 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, 2 },
		Logger:                     logger{func(err error) { in.fail(err); s.requests.poke() }},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { s.background(in, err) },
			DataCorruption: func(i pebble.DataCorruptionInfo) {
				err := fmt.Errorf("%s: %w", i.Path, i.Details)
				if s.corrupt.CompareAndSwap(nil, &err) {
					s.requests.poke()
				}
			},
		},
	}
	for i := range o.Levels {
		l := &o.Levels[i]
		l.BlockSize = 16 << 10
		l.IndexBlockSize = 512 << 10 // one level of index in every file: a page's seek goes through it
		// Positions are packed already; what is left does not compress.
		l.Compression = func() *block.CompressionProfile { return block.NoCompression }
	}
	return o
}

// background is told of a flush or compaction that failed. Pebble tries again at
// once, and for ever; where there is another directory, that one is better.
func (s *Store) background(in *instance, err error) {
	if in.place.isGone() {
		select { // it would try without a pause
		case <-in.closing:
		case <-s.o.Clock.After(50 * time.Millisecond):
		}
		return
	}
	s.o.Notify(Notice{Kind: StorageFailed, Err: err})
	if in.place.fs.Failed() != nil && len(s.places.list()) > 1 {
		s.places.lose(in.place, err)
		s.requests.poke()
	}
}

// logger keeps Pebble quiet: errors come by the event listener.
type logger struct{ fatal func(error) }

func (logger) Infof(string, ...any)  {}
func (logger) Errorf(string, ...any) {}

// Fatalf is called when Pebble's state in memory can no longer be trusted. It
// must not return: the goroutine ends, and the instance is given up.
func (l logger) Fatalf(format string, args ...any) {
	l.fatal(fmt.Errorf("%w: "+format, append([]any{errFatal}, args...)...))
	runtime.Goexit()
}

// getU64 reads a number; ok says whether it is there.
func getU64(r pebble.Reader, key []byte) (v uint64, ok bool, err error) {
	b, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	v, err = decodeU64(b)
	return v, true, errors.Join(err, closer.Close())
}

// closeInto closes c and joins its error into err. What a lost disk keeps is left
// alone.
func closeInto(err *error, c io.Closer) {
	if !errors.Is(*err, errAbandoned) {
		*err = errors.Join(*err, c.Close())
	}
}

// scan calls f for every row whose key begins with kind, in order. Key and
// value are valid during the call.
func scan(r pebble.Reader, kind byte, f func(key, value []byte) error) (err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: key1(kind), UpperBound: key1(kind + 1)})
	if err != nil {
		return err
	}
	defer closeInto(&err, it)
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := f(it.Key(), v); err != nil {
			return err
		}
	}
	return it.Error()
}

// readState reads the state row; ok says whether it is there.
func readState(r pebble.Reader) (st state, ok bool, err error) {
	b, closer, err := r.Get(key1(keyState))
	if errors.Is(err, pebble.ErrNotFound) {
		return state{}, false, nil
	}
	if err != nil {
		return state{}, false, err
	}
	st, err = decodeState(b)
	return st, true, errors.Join(err, closer.Close())
}

// readTimeline reads a timeline that must be there.
func readTimeline(r pebble.Reader, reader id.ID) (run, error) {
	b, closer, err := r.Get(key8(keyTimeline, uint64(reader)))
	if errors.Is(err, pebble.ErrNotFound) {
		return run{}, fmt.Errorf("%w: no timeline of %v", errCorrupt, reader)
	}
	if err != nil {
		return run{}, err
	}
	var t run
	err = errors.Join(decodeOperand(&t, b), closer.Close())
	if err == nil && !t.base {
		err = fmt.Errorf("%w: timeline of %v has no base", errCorrupt, reader)
	}
	return t, err
}

// seconds is a time of the Unix epoch.
type seconds uint32

func readReaders(r pebble.Reader) (map[id.ID]seconds, error) {
	readers := map[id.ID]seconds{}
	err := scan(r, keyReader, func(k, v []byte) error {
		reader, err := key8Of(k)
		if err != nil {
			return err
		}
		if len(v) != 4 {
			return fmt.Errorf("%w: reader row of %d bytes", errCorrupt, len(v))
		}
		readers[id.ID(reader)] = seconds(binary.BigEndian.Uint32(v))
		return nil
	})
	return readers, err
}
