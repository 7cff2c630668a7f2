package fleet

import (
	"encoding/json"
	"fmt"
	"time"
)

// A beat and its answer are JSON with a version. A field that a reader does not
// know is left out by it; a greater version says that this is not enough.
const wireVersion = 1

const (
	maxBeat   = 1 << 20  // bytes
	maxAnswer = 64 << 20 // bytes
	maxDisks  = 4096     // of a node
	maxText   = 4 << 10  // bytes that are carried
)

type beat struct {
	V           int    `json:"v"`
	Node        string `json:"node"`
	Incarnation uint64 `json:"incarnation"`
	Number      uint64 `json:"number"` // of the beat: of two of one incarnation the greater is the younger
	Version     uint64 `json:"version"`
	Disks       []Disk `json:"disks"`
}

type answer struct {
	V      int    `json:"v"`
	Leader string `json:"leader"`
	// Version of the table was sure VerifiedMS before the answer. 0: none was yet.
	Version    uint64       `json:"version"`
	VerifiedMS int64        `json:"verified_ms"`
	Nodes      []answerNode `json:"nodes"`
	Carried    string       `json:"carried,omitempty"`
}

type answerNode struct {
	Name        string       `json:"name"`
	Incarnation uint64       `json:"incarnation"`
	Up          bool         `json:"up"`
	AwayMS      int64        `json:"away_ms,omitempty"`
	Version     uint64       `json:"version"`
	Disks       []answerDisk `json:"disks"`
}

type answerDisk struct {
	Disk
	OutMS int64 `json:"out_ms,omitempty"`
}

// encode is JSON; nothing that is encoded here can fail.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

func decodeBeat(b []byte) (beat, error) {
	var out beat
	if len(b) > maxBeat {
		return out, fmt.Errorf("%w: %d bytes", ErrInvalid, len(b))
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case out.V != wireVersion:
		return out, fmt.Errorf("%w: version %d", ErrInvalid, out.V)
	case out.Node == "" || out.Incarnation == 0:
		return out, fmt.Errorf("%w: of nobody", ErrInvalid)
	case len(out.Disks) > maxDisks:
		return out, fmt.Errorf("%w: %d disks", ErrInvalid, len(out.Disks))
	}
	return out, nil
}

func decodeAnswer(b []byte) (answer, error) {
	var out answer
	if len(b) > maxAnswer {
		return out, fmt.Errorf("fleet: an answer of %d bytes", len(b))
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, fmt.Errorf("fleet: an answer that cannot be read: %w", err)
	}
	if out.V != wireVersion {
		return out, fmt.Errorf("fleet: an answer of version %d", out.V)
	}
	return out, nil
}

func ms(d time.Duration) int64 { return max(d.Milliseconds(), 0) }

// span is a number of milliseconds from elsewhere.
func span(ms int64) time.Duration {
	const most = int64(1) << 40
	return time.Duration(min(max(ms, 0), most)) * time.Millisecond
}
