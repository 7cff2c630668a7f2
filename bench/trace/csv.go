package trace

import (
	"bufio"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"strconv"
	"strings"
	"time"
)

// maxLine is the longest line of a CSV trace, in bytes.
const maxLine = 64 << 10

// maxSeconds is the largest time in a CSV trace: what is more does not fit a Duration.
const maxSeconds = 1 << 32

// csv reads lines.
type csv struct {
	lines *bufio.Scanner
	n     int64 // lines read
	begun bool  // something but comments was there
	timed bool  // first is set
	first float64
	last  time.Duration
}

// NewCSV reads a trace of lines "time,id,size" and what else stands behind them:
// seconds, which may have a fraction; a number or any text without a comma; bytes.
// A first line whose time is no number is a heading. Empty lines and those that
// begin with # are passed over.
func NewCSV(r io.Reader) Source {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, maxLine), maxLine)
	return &csv{lines: lines}
}

func (c *csv) Next() (Request, error) {
	for c.lines.Scan() {
		c.n++
		line := strings.TrimSpace(c.lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		cells := strings.SplitN(line, ",", 4)
		seconds, err := strconv.ParseFloat(strings.TrimSpace(cells[0]), 64)
		if err != nil && !c.begun {
			c.begun = true
			continue
		}
		c.begun = true
		if err != nil || len(cells) < 3 || !(math.Abs(seconds) < maxSeconds) {
			return Request{}, fmt.Errorf("trace: line %d is not time,id,size", c.n)
		}
		return c.request(seconds, strings.TrimSpace(cells[1]), strings.TrimSpace(cells[2]))
	}
	if err := c.lines.Err(); err != nil {
		return Request{}, fmt.Errorf("trace: line %d: %w", c.n+1, err)
	}
	return Request{}, io.EOF
}

// request makes one of a line's cells.
func (c *csv) request(seconds float64, object, bytes string) (Request, error) {
	size, err := strconv.ParseInt(bytes, 10, 64)
	if err != nil || size < 0 {
		return Request{}, fmt.Errorf("trace: line %d: size %q", c.n, bytes)
	}
	if !c.timed {
		c.timed, c.first = true, seconds
	}
	at := time.Duration((seconds - c.first) * float64(time.Second))
	if at < c.last {
		return Request{}, fmt.Errorf("trace: line %d is earlier than the one before it", c.n)
	}
	c.last = at
	key, err := strconv.ParseUint(object, 10, 64)
	if err != nil {
		h := fnv.New64a()
		h.Write([]byte(object)) // never fails
		key = h.Sum64()
	}
	return Request{At: at, ID: key, Size: size}, nil
}
