package trace

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// oracleBytes is the length of a record of libCacheSim's oracleGeneral format,
// little-endian and without padding:
//
//	offset  size  meaning
//	0       4     time in seconds, unsigned
//	4       8     object id
//	12      4     size of the object in bytes, unsigned
//	16      8     number of the object's next request, signed; not used here
const oracleBytes = 24

// oracle reads oracleGeneral.
type oracle struct {
	r     *bufio.Reader
	n     int64 // records read
	first uint32
	last  time.Duration
}

// NewOracle reads a trace in libCacheSim's oracleGeneral format.
func NewOracle(r io.Reader) Source { return &oracle{r: bufio.NewReaderSize(r, 1<<20)} }

func (o *oracle) Next() (Request, error) {
	var b [oracleBytes]byte
	if _, err := io.ReadFull(o.r, b[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("trace: record %d is cut off", o.n+1)
		}
		return Request{}, err
	}
	seconds := binary.LittleEndian.Uint32(b[0:])
	if o.n == 0 {
		o.first = seconds
	}
	o.n++
	q := Request{
		At:   time.Duration(int64(seconds)-int64(o.first)) * time.Second,
		ID:   binary.LittleEndian.Uint64(b[4:]),
		Size: int64(binary.LittleEndian.Uint32(b[12:])),
	}
	if q.At < o.last {
		return q, fmt.Errorf("trace: record %d is earlier than the one before it", o.n)
	}
	o.last = q.At
	return q, nil
}
