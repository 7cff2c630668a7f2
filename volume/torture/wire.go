package torture

import (
	"fmt"
	"io"
	"strings"
	"sync"

	"hayloft/internal/id"
	"hayloft/volume"
)

// verb is the first word of a line from the writer. Each line is
//
//	verb volume key text
//
// in decimal, shorter than what a pipe takes in one piece, so that a kill
// leaves whole lines.
type verb string

const (
	sayCreating  verb = "creating" // before a volume is made
	sayCreated   verb = "created"
	sayPutting   verb = "putting" // before a group is put
	sayStored    verb = "stored"
	sayRefused   verb = "refused"  // for lack of room: the group was not written
	sayFailed    verb = "failed"   // a call failed on the way; its outcome is open
	sayDeleting  verb = "deleting" // before a key is deleted
	sayDeleted   verb = "deleted"
	sayPoisoned  verb = "poisoned" // the volume says that it is read-only from now on
	sayMarked    verb = "marked"   // its poison marker is there
	sayUnmarked  verb = "unmarked" // its poison marker could not be written
	saySealed    verb = "sealed"
	sayCompacted verb = "compacted" // a new generation is there
	sayWrong     verb = "wrong"     // the writer itself was answered what cannot be
	sayReady     verb = "ready"     // every volume is open
	maxLine           = 4096 - 1024 // below PIPE_BUF with room for verb and numbers
)

// reporter writes lines. It is used by many goroutines.
type reporter struct {
	mu  sync.Mutex // guards out
	out io.Writer
	err error // the first failure: the parent is gone
}

func (r *reporter) say(what verb, v volume.ID, key id.ID, text string) {
	text = strings.Map(func(c rune) rune {
		if c < ' ' {
			return ' '
		}
		return c
	}, text[:min(len(text), maxLine)])
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, err := fmt.Fprintf(r.out, "%s %d %d %s\n", what, v, uint64(key), text); err != nil && r.err == nil {
		r.err = err
	}
}

func (r *reporter) broken() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// line is one parsed line.
type line struct {
	what verb
	v    volume.ID
	key  id.ID
	text string
}

func parseLine(s string) (line, error) {
	var l line
	var v uint32
	var key uint64
	words := strings.SplitN(strings.TrimSuffix(s, "\n"), " ", 4)
	if len(words) < 4 {
		return l, fmt.Errorf("the writer said %q", s)
	}
	if _, err := fmt.Sscan(words[1]+" "+words[2], &v, &key); err != nil {
		return l, fmt.Errorf("the writer said %q: %w", s, err)
	}
	return line{verb(words[0]), volume.ID(v), id.ID(key), words[3]}, nil
}

// Ref names a key in a volume.
type Ref struct {
	Volume volume.ID
	Key    id.ID
}

// writeRefs and ReadRefs carry keys to the writer, one "volume key" a line.
func writeRefs(refs []Ref) string {
	var b strings.Builder
	for _, r := range refs {
		fmt.Fprintf(&b, "%d %d\n", r.Volume, uint64(r.Key))
	}
	return b.String()
}

// ReadRefs reads the keys that the parent gives to the writer on its standard
// input, up to the end of it.
func ReadRefs(in io.Reader) ([]Ref, error) {
	text, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	var out []Ref
	for l := range strings.Lines(string(text)) {
		var v uint32
		var key uint64
		if _, err := fmt.Sscan(l, &v, &key); err != nil {
			return nil, fmt.Errorf("keys to delete: %q: %w", l, err)
		}
		out = append(out, Ref{volume.ID(v), id.ID(key)})
	}
	return out, nil
}
