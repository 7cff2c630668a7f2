package tier

import (
	"context"
	"fmt"
	"hash/crc32"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"hayloft/cache"
	"hayloft/internal/id"
	"hayloft/internal/testenv"
)

// huge is a home of objects that fit into no socket.
type huge struct{ *home }

const hugeBytes = 32 << 20

func (huge) Fetch(_ context.Context, k cache.Key) (cache.Object, error) {
	b := make([]byte, hugeBytes)
	return cache.Object{Data: b, ContentType: "image/jpeg", ETag: tagOf(crc32.Checksum(b, castagnoli))}, nil
}

// A tier that asks and then does not read holds no memory for long, though its machine
// is there and its connection lives.
func TestTierThatDoesNotRead(t *testing.T) {
	h := huge{newHome(1)}
	c, err := cache.New(cache.Options{Origin: h, Access: h, Purges: h, Budget: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s := NewServer(ServerOptions{Name: "a", Cache: c, Path: &Path{}, Stall: 50 * time.Millisecond})
	over := make(chan struct{})
	web := httptest.NewServer(ending{s, over})
	defer web.Close()
	conn, err := net.Dial("tcp", web.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s?path=%s HTTP/1.1\r\nHost: a\r\n\r\n", pathObject, keyOf(id.ID(1), "large").Path())
	select {
	case <-over:
	case <-time.After(testenv.Patience):
		conn.Close()
		t.Fatal("the object is still lent")
	}
}

// ending tells when a request has ended.
type ending struct {
	*Server
	over chan struct{}
}

func (e ending) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.Server.ServeHTTP(w, r)
	close(e.over)
}
