package search

import (
	"encoding/binary"
	"errors"
	"fmt"

	"hayloft/internal/id"
)

// The format of docs/search-format.md.

const formatVersion = 1

// errCorrupt marks rows that are not what the format says.
var errCorrupt = errors.New("search: corrupt row")

// Keys. Rows about the index begin with 0, all others with their generation.
var (
	keyFormat = []byte{0, 1}
	keyState  = []byte{0, 2}
)

const (
	rowPosting = 'p' // term, 00, rank → nothing
	rowPhoto   = 'd' // pos → photo, terms
	rowAccount = 'a' // account → terms
)

// state says which generation answers, which one is being built, and how far they are.
type state struct {
	gen      byte   // 1 or 2
	cursor   uint64 // the last change that gen has processed
	complete bool   // gen has caught up once
	building byte   // 0: none
	built    uint64 // the last change that building has processed
}

func (st state) encode() []byte {
	b := []byte{st.gen, 0, st.building}
	if st.complete {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint64(b, st.cursor)
	return binary.BigEndian.AppendUint64(b, st.built)
}

func decodeState(b []byte) (st state, err error) {
	if len(b) != 19 || b[0] < 1 || b[0] > 2 || b[1] > 1 || b[2] > 2 || b[2] == b[0] {
		return st, fmt.Errorf("%w: state %x", errCorrupt, b)
	}
	return state{
		gen: b[0], complete: b[1] == 1, building: b[2],
		cursor: binary.BigEndian.Uint64(b[3:]), built: binary.BigEndian.Uint64(b[11:]),
	}, nil
}

// rowKey is a key of gen with an id.
func rowKey(gen, row byte, v id.ID) []byte {
	return binary.BigEndian.AppendUint64([]byte{gen, row}, uint64(v))
}

// posting is the part of a posting's key behind generation and row: term, 00, rank. The
// rank of a photo is its complemented position, so that the newest comes first, that of
// an account its id.
func posting(dst []byte, term string, rank uint64) []byte {
	dst = append(append(dst, term...), 0)
	return binary.BigEndian.AppendUint64(dst, rank)
}

// splitPosting is the inverse of posting; term is part of p.
func splitPosting(p []byte) (term []byte, rank uint64, ok bool) {
	n := len(p) - 9
	if n < 1 || p[n] != 0 {
		return nil, 0, false
	}
	return p[:n], binary.BigEndian.Uint64(p[n+1:]), true
}

// encodeTerms are a row's terms behind a photo's id; 0: an account's.
func encodeTerms(photo id.ID, terms []string) []byte {
	var b []byte
	if photo != 0 {
		b = binary.BigEndian.AppendUint64(b, uint64(photo))
	}
	for _, t := range terms {
		b = append(binary.AppendUvarint(b, uint64(len(t))), t...)
	}
	return b
}

func decodeTerms(b []byte) (terms []string, err error) {
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return nil, fmt.Errorf("%w: terms", errCorrupt)
		}
		terms = append(terms, string(b[size:size+int(n)]))
		b = b[size+int(n):]
	}
	return terms, nil
}

func decodePhoto(b []byte) (photo id.ID, terms []byte, err error) {
	if len(b) < 8 {
		return 0, nil, fmt.Errorf("%w: photo of %d bytes", errCorrupt, len(b))
	}
	return id.ID(binary.BigEndian.Uint64(b)), b[8:], nil
}
