package api

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hayloft/internal/id"
)

// hold begins a transfer of n bytes that has room for them all.
func (s *spool) hold(t *testing.T, owner id.ID, n int64) *booking {
	t.Helper()
	b, err := s.begin(owner, n, nil)
	must(t, err)
	must(t, b.grow(t.Context(), n))
	return b
}

func (s *spool) empty(t *testing.T) {
	t.Helper()
	if n, owners := s.held(); n != 0 || owners != 0 || len(s.open) != 0 || len(s.queue) != 0 {
		t.Errorf("%d bytes held for %d owners, %d transfers, %d wait", n, owners, len(s.open), len(s.queue))
	}
}

func isBusy(err error) bool {
	return err != nil && asProblem(err).kind == pBusy && asProblem(err).retryAfter > 0
}

func TestSpoolShares(t *testing.T) {
	s := newSpool(100, time.Millisecond, 1)
	one := s.hold(t, 1, 90) // a single one is always let in
	if _, err := s.begin(1, 1, nil); asProblem(err).kind != pUploadsBusy {
		t.Errorf("over its share: %v", err)
	}
	two, err := s.begin(2, 200, nil)
	must(t, err)
	if err := two.grow(t.Context(), 20); !isBusy(err) {
		t.Errorf("over the budget: %v", err)
	}
	one.close()
	one.close()
	must(t, two.grow(t.Context(), 200)) // all there is
	two.close()
	s.empty(t)
}

// Announcing costs others nothing; only what has come is booked.
func TestAnnouncedBytesTakeNoRoom(t *testing.T) {
	s := newSpool(100, time.Hour, 1)
	for owner := range id.ID(50) {
		b, err := s.begin(owner+1, 100, nil)
		must(t, err)
		must(t, b.grow(t.Context(), 1))
		defer b.close()
	}
	s.hold(t, 99, 50).close()
}

// While somebody waits the slowest are ended, no more of them than needed, and
// nobody who is fast.
func TestSlowestMakeRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpool(100, 5*time.Second, 1) // safe: 16 bytes per second
		var all []*booking
		for i, n := range []int64{40, 20, 20, 20} {
			b, err := s.begin(id.ID(i+1), n, nil)
			must(t, err)
			b.cut = func() { go b.close() }
			must(t, b.grow(t.Context(), n))
			b.pace(true)
			all = append(all, b)
		}
		all[3].pace(false) // the server is at work
		fast, slow, slowest := all[0], all[1], all[2]
		begun := time.Now()
		go func() {
			for range 100 {
				time.Sleep(100 * time.Millisecond)
				fast.done.Add(2)
			}
		}()
		time.Sleep(500 * time.Millisecond) // bytes from before count for nothing
		slowest.done.Add(1000)
		slow.done.Add(1000)
		go func() { time.Sleep(time.Second / 2); slow.done.Add(1) }()
		s.hold(t, 9, 15).close()
		if took := time.Since(begun); took != 1500*time.Millisecond {
			t.Errorf("waited until %v", took)
		}
		if fast.ended.Load() || slow.ended.Load() || !slowest.ended.Load() || all[3].ended.Load() {
			t.Errorf("ended: fast %v, slow %v, slowest %v, the server's own %v", fast.ended.Load(), slow.ended.Load(), slowest.ended.Load(), all[3].ended.Load())
		}
		if err := slowest.grow(t.Context(), 1); !isBusy(err) {
			t.Errorf("an ended transfer goes on: %v", err)
		}
		// The fast one is safe however long somebody waits for its room.
		b, err := s.begin(10, 90, nil)
		must(t, err)
		begun = time.Now()
		if err := b.grow(t.Context(), 90); !isBusy(err) || time.Since(begun) != s.wait || fast.ended.Load() {
			t.Errorf("%v after %v, fast ended %v", err, time.Since(begun), fast.ended.Load())
		}
		b.close()
		for _, b := range all {
			b.close()
		}
		time.Sleep(time.Minute)
		s.empty(t)
	})
}

// Uploads that all wait for more do not block each other: at once the one that
// has come least far gives way, and the rest go on.
func TestHalfReceivedUploadsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpool(100, time.Hour, 1)
		begun := time.Now()
		grown := make(chan int, 3)
		var failed error
		var half []*booking
		for i, done := range []int64{29, 5, 28} {
			b := s.hold(t, id.ID(i+1), 30)
			b.done.Store(done)
			b.pace(true)
			half = append(half, b)
		}
		for i, b := range half {
			go func() {
				if err := b.grow(t.Context(), 30); err == nil {
					grown <- i
				} else {
					failed = errors.Join(failed, err)
					grown <- 10 + i
				}
				b.close()
			}()
			synctest.Wait()
		}
		got := map[int]bool{<-grown: true, <-grown: true, <-grown: true}
		if !got[0] || !got[2] || !got[11] || !isBusy(failed) || time.Since(begun) != 0 {
			t.Errorf("after %v: %v, %v", time.Since(begun), got, failed)
		}
		synctest.Wait()
		s.empty(t)
	})
}

// Who has begun gets room before those who have not.
func TestBegunUploadsGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSpool(100, time.Hour, 1)
		big, begun := s.hold(t, 1, 60), s.hold(t, 2, 30)
		fresh, err := s.begin(3, 50, nil)
		must(t, err)
		order := make(chan string, 2)
		go func() { must(t, fresh.grow(t.Context(), 50)); order <- "fresh" }()
		synctest.Wait()
		go func() { must(t, begun.grow(t.Context(), 50)); order <- "begun"; begun.close() }()
		synctest.Wait()
		big.close()
		if a, b := <-order, <-order; a != "begun" || b != "fresh" {
			t.Errorf("%s, then %s", a, b)
		}
		fresh.close()
		synctest.Wait()
		s.empty(t)
	})
}

// Many uploads that announce much, send little and then dawdle keep nobody out:
// they are told to come again, and their URLs stay good.
func TestSlowUploadsKeepNobodyOut(t *testing.T) {
	w := newWorld(t, func(o *Options) {
		o.Limits.PhotoBytes = mib
		o.Limits.SpoolBytes = 2 * mib
		o.Limits.SpoolWait = 2 * time.Second
	})
	var dawdlers []net.Conn
	for i := range 4 {
		token, _ := w.account("dawdler" + itoa(i))
		for range 2 {
			u := into[uploadURLBody](w.call(token, "POST", "/api/v1/photos/upload-url", m{"file_size": 256 * kib, "content_type": "image/jpeg"}).is(201))
			c, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
			must(t, err)
			defer c.Close()
			_, err = fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", strings.TrimPrefix(u.UploadURL, w.url), 256*kib, strings.Repeat("x", 9000))
			must(t, err)
			dawdlers = append(dawdlers, c)
		}
	}
	eventually(t, "the spool is full", func() bool { n, _ := w.api.spool.held(); return n == 2*mib })
	ada, _ := w.account("ada")
	data := picture(64, 48, 1)
	w.call("", "PUT", w.uploadURL(ada, data).UploadURL, data).is(201)
	body, ct := form(t, picture(64, 48, 2), true, "caption", "c")
	w.call(ada, "POST", "/api/v1/photos", body, "Content-Type", ct).is(201)
	answers := make(chan string, len(dawdlers))
	for _, c := range dawdlers {
		go func() {
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				answers <- err.Error()
				return
			}
			answers <- resp.Status + ", Retry-After " + resp.Header.Get("Retry-After")
		}()
	}
	if got := <-answers; got != "503 Service Unavailable, Retry-After 5" {
		t.Errorf("who made room was told %s", got)
	}
}

// Masters have room of their own, whatever uploads hold.
func TestMastersHaveTheirOwnRoom(t *testing.T) {
	w := newWorld(t, func(o *Options) { o.Limits.SpoolWait = time.Millisecond })
	ada, adaID := w.account("ada")
	photo := w.post(ada, picture(64, 48, 1), nil)
	for _, owner := range []id.ID{adaID, 7} {
		b, err := w.api.spool.begin(owner, w.api.spool.total, nil)
		must(t, err)
		defer b.close()
		_ = b.grow(t.Context(), w.api.spool.total/2)
	}
	w.call(ada, "GET", "/api/v1/photos/"+photo.String()+"/master", nil).is(200)
	eventually(t, "the room is given back", func() bool { n, _ := w.api.masters.held(); return n == 0 })
}

// An answer whose room is wanted by others ends, whether it is being written
// or about to be.
func TestEndedAnswerIsCutOff(t *testing.T) {
	s := newSpool(100, time.Hour, 1)
	for _, first := range []bool{true, false} {
		near, far := net.Pipe()
		table := newConnTable(1, 1, nil)
		c := &conn{Conn: near, table: table, grace: time.Hour, rate: 1}
		if !table.add(c) {
			t.Fatal("no room in an empty table")
		}
		room := s.hold(t, 1, 10)
		room.cut = func() { _ = c.SetWriteDeadline(longAgo) }
		c.sends.Store(room)
		wrote := make(chan error, 1)
		write := func() {
			_, err := c.Write(make([]byte, 100))
			wrote <- err
		}
		if !first {
			go write()
			_, err := io.ReadFull(far, make([]byte, 1)) // it is in the middle
			must(t, err)
		}
		s.mu.Lock()
		s.end(room)
		s.mu.Unlock()
		if first {
			go write()
		}
		if err := <-wrote; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ended first %v: %v", first, err)
		}
		room.close()
		must(t, c.Close())
		must(t, far.Close())
	}
}
