package mesh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// MaxMessage is how long a question or an answer of Call may be, in bytes.
const MaxMessage = 16 << 20

// questionLimit is how long a question may take to arrive: the node that sends it may
// have been stopped.
const questionLimit = 30 * time.Second

const (
	codeHeader   = "Hayloft-Code"
	maxErrorText = 4 << 10
)

// Call asks a node with bytes and returns its answer. The path begins with "/". The
// body is the caller's again when Call returns. Errors are an UnreachableError: no
// answer came; a RefusedError: the node has answered that it won't or can't; or
// ErrTooLarge.
func (c *Client) Call(ctx context.Context, node, path string, body []byte) ([]byte, error) {
	if len(body) > MaxMessage {
		return nil, ErrTooLarge
	}
	parts := NewBody(body)
	defer parts.Release()
	var reader io.Reader
	if len(body) > 0 { // else it would be one of unknown length
		reader = parts
	}
	r, err := http.NewRequest(http.MethodPost, path, reader)
	if err != nil {
		return nil, err
	}
	r.ContentLength = int64(len(body))
	resp, err := c.Do(ctx, node, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorText))
		if err != nil {
			return nil, unreachable(node, true, err)
		}
		return nil, &RefusedError{node, resp.StatusCode, resp.Header.Get(codeHeader), strings.TrimSpace(string(text))}
	}
	answer, err := readMessage(resp.Body, resp.ContentLength)
	if err != nil && !errors.Is(err, ErrTooLarge) {
		err = unreachable(node, true, err)
	}
	return answer, err
}

// readMessage reads a body of a stated length, without another copy of it.
func readMessage(r io.Reader, length int64) ([]byte, error) {
	if length > MaxMessage {
		return nil, ErrTooLarge
	}
	if length < 0 {
		return nil, errors.New("a message without its length")
	}
	b := make([]byte, length)
	_, err := io.ReadFull(r, b)
	return b, err
}

// Answer answers a question. The body is its own, and what it returns is the
// caller's. An error that is a Refusal is told as it is, any other as status 500.
type Answer func(ctx context.Context, from Peer, body []byte) ([]byte, error)

// ServeHTTP implements http.Handler: the other end of Call.
func (fn Answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	from, ok := PeerOf(r.Context())
	if !ok || r.Method != http.MethodPost {
		refuse(w, &Refusal{Status: http.StatusMethodNotAllowed, Text: "only calls between nodes are answered here"})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), questionLimit)
	stop := context.AfterFunc(ctx, func() {
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // long past; a connection that is gone needs none
	})
	body, err := readMessage(r.Body, r.ContentLength)
	stop()
	cancel()
	if err != nil {
		refuse(w, &Refusal{Status: http.StatusBadRequest, Text: fmt.Sprintf("the message: %v", err)})
		return
	}
	answer, err := fn(r.Context(), from, body)
	if err == nil && len(answer) > MaxMessage {
		err = ErrTooLarge
	}
	if err != nil {
		var told *Refusal
		if !errors.As(err, &told) {
			told = &Refusal{Status: http.StatusInternalServerError, Text: err.Error()}
		}
		refuse(w, told)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
	_, _ = w.Write(answer) // the peer sees that it was cut off
}

func refuse(w http.ResponseWriter, r *Refusal) {
	if r.Code != "" {
		w.Header().Set(codeHeader, r.Code)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(r.Status)
	_, _ = io.WriteString(w, r.Text[:min(len(r.Text), maxErrorText)]) // as above
}
