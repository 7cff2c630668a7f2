package trace

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// all reads a source to its end.
func all(s Source) (out []Request, err error) {
	for {
		q, err := s.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, q)
	}
}

func same(a, b []Request) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestCSV(t *testing.T) {
	text := "# a trace\ntime,obj_id,obj_size,op\n\n100,7,4096\n100.5, 8 ,10,get\n102,photo-a,0\n102,photo-b,3\n103,photo-a,0\n"
	got, err := all(NewCSV(strings.NewReader(text)))
	if err != nil || len(got) != 5 {
		t.Fatalf("%v, %v", got, err)
	}
	if !same(got[:2], []Request{{0, 7, 4096}, {500 * time.Millisecond, 8, 10}}) || got[2].At != 2*time.Second || got[2].Size != 0 {
		t.Errorf("%v", got)
	}
	if got[2].ID == got[3].ID || got[2].ID != got[4].ID {
		t.Errorf("names become %v", got[2:])
	}
	if got, err := all(NewCSV(strings.NewReader("0,1,1\n"))); err != nil || len(got) != 1 {
		t.Errorf("without a heading: %v, %v", got, err)
	}
}

func TestCSVFaults(t *testing.T) {
	for text, want := range map[string]string{
		"1,2,3\nx,2,3\n":               "line 2 is not time,id,size",
		"time,id,size\ntime,id,size\n": "line 2 is not",
		"1,2\n":                        "line 1 is not",
		"1,2,-3\n":                     "line 1: size",
		"1,2,x\n":                      "line 1: size",
		"NaN,2,3\n":                    "line 1 is not",
		"1e300,2,3\n":                  "line 1 is not",
		"5,2,3\n4,2,3\n":               "line 2 is earlier",
		"1,2,3\n1," + strings.Repeat("x", maxLine) + ",3": "line 2: ",
	} {
		if _, err := all(NewCSV(strings.NewReader(text))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", text, err, want)
		}
	}
}

// record is one of oracleGeneral.
func record(seconds uint32, id uint64, size uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, seconds)
	b = binary.LittleEndian.AppendUint64(b, id)
	b = binary.LittleEndian.AppendUint32(b, size)
	return binary.LittleEndian.AppendUint64(b, 99)
}

func TestOracle(t *testing.T) {
	file := append(record(50, 1<<63, 3), record(51, 2, 1<<31)...)
	got, err := all(NewOracle(bytes.NewReader(file)))
	if err != nil || !same(got, []Request{{0, 1 << 63, 3}, {time.Second, 2, 1 << 31}}) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := all(NewOracle(bytes.NewReader(file[:30]))); err == nil || !strings.Contains(err.Error(), "record 2 is cut off") {
		t.Errorf("cut off: %v", err)
	}
	if _, err := all(NewOracle(bytes.NewReader(append(file, record(50, 1, 1)...)))); err == nil || !strings.Contains(err.Error(), "record 3 is earlier") {
		t.Errorf("backwards: %v", err)
	}
}

// list is a trace in memory.
type list []Request

func (l *list) Next() (Request, error) {
	if len(*l) == 0 {
		return Request{}, io.EOF
	}
	q := (*l)[0]
	*l = (*l)[1:]
	return q, nil
}

func TestSummarize(t *testing.T) {
	var l list
	for i := range uint64(200) { // object 0: 301 requests, 1: 2, the others 1
		l = append(l, Request{time.Duration(i), i, 10})
	}
	l = append(l, Request{300, 1, 10})
	for range 300 {
		l = append(l, Request{400, 0, 10})
	}
	got, err := Summarize(&l)
	want := Summary{Requests: 501, RequestBytes: 5010, Objects: 200, ObjectBytes: 2000, OneHit: 0.99, TopPercent: 303.0 / 501, Time: 400, Sampled: 1}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got, err := Summarize(&list{}); err != nil || got.Objects != 0 {
		t.Errorf("of nothing: %+v, %v", got, err)
	}
}

// TestSummarizeSamples says that large traces are counted in bounded memory and
// nearly right.
func TestSummarizeSamples(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var l list
	ids := map[uint64]int{}
	for range 100_000 {
		id := uint64(r.ExpFloat64() * 20_000)
		ids[id]++
		l = append(l, Request{0, id, 7})
	}
	got, err := summarize(&l, 5000)
	if err != nil || got.Sampled < 8 {
		t.Fatalf("%+v, %v", got, err)
	}
	if f := float64(got.Objects) / float64(len(ids)); f < 0.94 || f > 1.06 || got.ObjectBytes != 7*got.Objects || got.Requests != 100_000 {
		t.Errorf("%d objects, counted %+v", len(ids), got)
	}
}
