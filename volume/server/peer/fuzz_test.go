package peer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"

	"hayloft/internal/vfs"
	"hayloft/volume/server"
)

// Whatever bytes come, a decoder takes no more memory than the protocol's bounds,
// and what it accepts is encoded to the same bytes.

func FuzzArgs(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3 {
		a := args{disk: r.Uint32(), key: 7, off: -1, n: 5, count: 9, bytes: 1 << 20}
		f.Add(appendArgs(nil, &a), uint8(noTail))
	}
	f.Add(appendArgs(nil, &args{seal: someSeal(r)}), uint8(sealTail))
	f.Add(appendNames(appendArgs(nil, &args{}), &args{names: [2]string{"a", "b.tmp"}}), uint8(namesTail))
	f.Fuzz(func(t *testing.T, b []byte, which uint8) {
		a, err := parseArgs(b, tail(which%3))
		if err != nil {
			return
		}
		again := appendArgs(nil, &a)
		if tail(which%3) == namesTail {
			again = appendNames(again, &a)
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x is %+v is %x", b, a, again)
		}
	})
}

func FuzzNeedle(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		f.Add(appendNeedle(nil, &needle{key: 1, cookie: 2, alt: 3, off: 4, size: 5, etag: 6, master: someMaster(r)})[headBytes:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseNeedle(b); err == nil && !bytes.Equal(appendNeedle(nil, &n)[headBytes:], b) {
			t.Fatalf("%x is %+v", b, n)
		}
	})
}

func FuzzResults(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 4 {
		f.Add(appendSealed(nil, someSealed(r)))
		f.Add(appendStanding(nil, someStanding(r)))
		p, _ := (&echo{}).Probe(bg, r.Uint32(), 1, 1)
		f.Add(appendProbed(nil, p))
		f.Add(appendError(nil, anError(r), maxMessage))
		f.Add(le.AppendUint32(nil, r.Uint32()))
		f.Add(appendInfo(nil, vfs.Info{Size: r.Int64(), Dir: true}))
		f.Add(appendList(nil, []string{"one", "two.tmp"}))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSealed(b); err == nil && !bytes.Equal(appendSealed(nil, s), b) {
			t.Fatalf("%x is %+v", b, s)
		}
		if s, err := parseStanding(b); err == nil && !bytes.Equal(appendStanding(nil, s), b) {
			t.Fatalf("%x is %+v", b, s)
		}
		if n, err := parseNumber(b); err == nil && !bytes.Equal(le.AppendUint32(nil, n), b) {
			t.Fatalf("%x is %d", b, n)
		}
		if i, err := parseInfo(b); err == nil && !bytes.Equal(appendInfo(nil, i), b) {
			t.Fatalf("%x is %+v", b, i)
		}
		if names, err := parseNames(b); err == nil && !bytes.Equal(appendList(nil, names), b) {
			t.Fatalf("%x is %q", b, names)
		}
		p, err := parseProbed(b, func(e *remoteError) error { return e })
		if err == nil && len(p.Needles) > 255 {
			t.Fatalf("%x is %+v", b, p)
		}
		q := parser{b: b}
		if e := takeError(&q); e != nil && !q.bad && (len(e.is) == 0 || len(e.text) > maxMessage) {
			t.Fatalf("%x is %v", b, e)
		}
	})
}

func FuzzLists(f *testing.F) {
	f.Add(appendHolding(nil, server.Holding{Key: 1, Cookie: 2, Length: 3, ETag: 4, Alt: 5}))
	f.Add(appendHolding(nil, server.Holding{Key: 1, Tombstone: true}))
	f.Add(appendKey(nil, 9))
	f.Fuzz(func(t *testing.T, b []byte) {
		var again []byte
		err := parseList(b, holdingBytes, parseHolding, func(h server.Holding) error {
			again = appendHolding(again, h)
			return nil
		})
		if err == nil && !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

// FuzzFrames reads frames: only whole ones come out.
func FuzzFrames(f *testing.F) {
	one := appendNeedle(nil, &needle{key: 1, size: 4})
	one = append(appendDataHead(one, 4, sum([]byte("data"))), "data"...)
	f.Add(appendEmpty(appendEmpty(one, kindBeat), kindEnd))
	f.Fuzz(func(t *testing.T, b []byte) {
		in := frames{r: bytes.NewReader(b)}
		var again []byte
		for {
			h, err := in.next()
			if err != nil {
				break
			}
			if h.n > h.kind.most() {
				t.Fatalf("%+v", h)
			}
			if h.n > len(b) {
				break // payload would take memory, as it may
			}
			p, err := in.payload(h)
			if err != nil {
				break
			}
			var head [headBytes]byte
			h.put(head[:])
			again = append(append(again, head[:]...), p...)
		}
		if !bytes.Contains(b, again) && !bytes.Contains(b, appendEmpty(nil, kindBeat)) {
			t.Fatalf("%x became %x", b, again)
		}
	})
}

// fuzzCalls are the calls by number.
var fuzzCalls = []call{callCreate, callAppend, callEntomb, callDelete, callLog, callRead, callRange, callProbe, callStanding, callFence,
	callAdmit, callHoldings, callFetch, callFill, callBury, callSeal, callMake, callCopy, callDeletes,
	callMend, callShelf, callOpen, callGet, callPut, callFile, callName}

// framed makes frames with right checksums out of any bytes: kind, length of two
// bytes, payload, and so on. So fuzzing gets behind the checksums.
func framed(b []byte) []byte {
	var out []byte
	for len(b) > 3 {
		n := min(int(le.Uint16(b[1:])), len(b)-3)
		buf, at := openFrame(out)
		out = append(buf, b[3:3+n]...)
		closeFrame(out, at, kind(b[0]))
		b = b[3+n:]
	}
	return out
}

// unframed is the inverse of framed.
func unframed(b []byte) []byte {
	var out []byte
	for in := (frames{r: bytes.NewReader(b)}); ; {
		h, err := in.next()
		if err != nil || h.n > 1<<16-1 {
			return out
		}
		p, err := in.payload(h)
		if err != nil {
			return out
		}
		out = append(le.AppendUint16(append(out, byte(h.kind)), uint16(h.n)), p...)
	}
}

// FuzzRequest gives a handler any body: it asks the Peer only when the body is whole.
func FuzzRequest(f *testing.F) {
	p := &echo{}
	h := Handler(p, HandlerOptions{Caller: known, WriteBytes: 1 << 20, FillBytes: 1 << 20})
	l := &lab{h: h}
	c := NewClients(l, Options{}).Node("echo")
	r := rand.New(rand.NewPCG(3, 4))
	for i, q := range questions(r) {
		_, _ = q.ask(bg, c) // whatever it is, it was sent
		if len(l.sent) < 10_000 {
			f.Add(uint8(i), false, l.sent)
			f.Add(uint8(i), true, unframed(l.sent))
		}
	}
	p.heard()
	f.Fuzz(func(t *testing.T, which uint8, frame bool, b []byte) {
		if frame {
			b = framed(b)
		}
		if mayHold(b) > 1<<20 {
			return // would take that much memory, as it may
		}
		name := fuzzCalls[int(which)%len(fuzzCalls)]
		r, err := http.NewRequest(http.MethodPost, "/blobs/v1/"+string(name), bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := l.Do(bg, "", r)
		if err != nil {
			t.Fatal(err)
		}
		heard := p.heard()
		switch whole := bytes.HasSuffix(b, appendEmpty(nil, kindEnd)); {
		case len(heard) > 0 && !whole:
			t.Fatalf("%s: %x asks %q", name, b, heard)
		case len(heard) == 0 && resp.StatusCode == http.StatusOK && !onShelf(name):
			t.Fatalf("%s: %x is answered, nobody was asked", name, b)
		}
	})
}

// onShelf reports whether a call is about a shelf that was given out before.
func onShelf(c call) bool {
	return c == callOpen || c == callGet || c == callPut || c == callFile || c == callName
}

// mayHold is how much a request may make a handler hold.
func mayHold(b []byte) int64 {
	in := frames{r: bytes.NewReader(b)}
	h, err := in.want(kindArgs)
	if err != nil {
		return 0
	}
	p, err := in.payload(h)
	if err != nil {
		return 0
	}
	a, err := parseArgs(p, noTail)
	if err != nil {
		return 0
	}
	return max(a.bytes, int64(a.limit), a.n)
}

// FuzzAnswer gives a client any answer: it is an error, or whole.
func FuzzAnswer(f *testing.F) {
	l := &lab{h: Handler(&echo{}, HandlerOptions{Caller: known})}
	c := NewClients(l, Options{}).Node("echo")
	all := questions(rand.New(rand.NewPCG(3, 4)))
	for i, q := range all {
		_, _ = q.ask(bg, c)
		if len(l.answered) < 20_000 {
			f.Add(uint8(i), false, l.answered)
			f.Add(uint8(i), true, unframed(l.answered))
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, frame bool, b []byte) {
		if frame {
			b = framed(b)
		}
		if dataIn(b) > 1<<20 {
			return // would take that much memory, as it may
		}
		c := NewClients(asks(func(context.Context, *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(b))}, nil
		}), Options{}).Node("echo")
		q := all[int(which)%len(all)]
		_, err := q.ask(bg, c)
		var said *remoteError
		whole := bytes.Contains(b, []byte{byte(kindEnd), 0, 0, 0})
		if !whole && (err == nil || errors.As(err, &said)) || err != nil && kinds(err) == "" {
			t.Fatalf("%s: %x: %v", q.name, b, err)
		}
	})
}

// dataIn is the length of the longest data frame that b announces.
func dataIn(b []byte) int {
	most := 0
	for i := 0; i+headBytes <= len(b); i++ {
		if h, err := parseHead(b[i : i+headBytes]); err == nil && h.kind == kindData {
			most = max(most, h.n)
		}
	}
	return most
}
