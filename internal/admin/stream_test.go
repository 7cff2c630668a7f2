package admin

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// link is a ResponseWriter that passes on so many bytes a second, and keeps to
// its deadline.
type link struct {
	header http.Header
	rate   int
	by     time.Time
	passed int
}

func (l *link) Header() http.Header                 { return l.header }
func (*link) WriteHeader(int)                       {}
func (*link) Flush()                                {}
func (l *link) SetWriteDeadline(by time.Time) error { l.by = by; return nil }

func (l *link) Write(p []byte) (int, error) {
	took := time.Duration(len(p)) * time.Second / time.Duration(l.rate)
	if left := time.Until(l.by); took > left {
		<-time.After(max(left, 0))
		return 0, os.ErrDeadlineExceeded
	}
	<-time.After(took)
	l.passed += len(p)
	return len(p), nil
}

// A large photo takes its time over a slow link; one that passes on next to
// nothing is given up.
func TestStreamOverSlowLink(t *testing.T) {
	for rate, passes := range map[int]bool{16 << 10: true, 1 << 9: false} {
		synctest.Test(t, func(t *testing.T) {
			const size = 8 << 20
			var ended Action
			d := NewDoor(Options{Open: true, Audit: func(a Action) { ended = a }})
			d.Guard(http.MethodGet, "/admin/big", func(c *Call) error {
				s := c.Stream()
				if err := s.SendBytes("thing", 1, make([]byte, size)); err != nil {
					return err
				}
				return s.Send(KindResult, 1)
			})
			l := &link{header: http.Header{}, rate: rate}
			d.ServeHTTP(l, httptest.NewRequest(http.MethodGet, "/admin/big", nil))
			if whole := l.passed > size; whole != passes || (ended.Err == nil) != passes {
				t.Errorf("%d bytes a second: %d passed, %v", rate, l.passed, ended.Err)
			}
			if !passes && (ended.Status != http.StatusServiceUnavailable || strings.Contains(ended.Err.Error(), "\n") || strings.Count(ended.Err.Error(), os.ErrDeadlineExceeded.Error()) != 1) {
				t.Errorf("%+v", ended)
			}
		})
	}
}

// A client that stops reading does not hold up a process that stops.
func TestStopWithDeafClient(t *testing.T) {
	work, stop := context.WithCancel(context.Background())
	defer stop()
	began := make(chan struct{})
	r := newRig(t, Options{Open: true, Work: work}, func(d *Door) {
		d.Guard(http.MethodGet, "/admin/endless", func(c *Call) error {
			s := c.Stream()
			close(began)
			for {
				if err := s.SendBytes("thing", 1, make([]byte, 1<<20)); err != nil {
					return err
				}
			}
		})
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /admin/endless HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-began
	stop()
	if a := r.audited(t, 1)[0]; a.Status != http.StatusServiceUnavailable || a.Err == nil || a.Took > writePatience/2 {
		t.Errorf("%+v", a)
	}
}

// What is said to a client while the process stops has a second, each line not
// one of its own.
func TestLastPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		work, stop := context.WithCancel(context.Background())
		d := NewDoor(Options{Open: true, Work: work})
		l := &link{header: http.Header{}, rate: 1 << 20}
		d.Guard(http.MethodGet, "/admin/stops", func(c *Call) error {
			s := c.Stream()
			stop()
			synctest.Wait()
			began := time.Now()
			for {
				if err := s.SendBytes("thing", 1, make([]byte, 100<<10)); err != nil {
					if took := time.Since(began); took > lastPatience {
						t.Errorf("%v", took)
					}
					return err
				}
			}
		})
		d.ServeHTTP(l, httptest.NewRequest(http.MethodGet, "/admin/stops", nil))
	})
}
