package cache

import (
	"bufio"
	"io"
)

// InFile says which memory file holds some bytes, and where, for sendfile: false
// when they are in none.
type InFile interface {
	File(part []byte) (fd int, off int64, ok bool)
}

// tailer is a connection that sends what its writer has buffered together with a
// body, in one go where it can.
type tailer interface {
	// WriteTail flushes w and sends body after it. The memory file never changes
	// where a socket refers to it.
	WriteTail(w *bufio.Writer, body []byte, file InFile) (int, error)
}

// body streams a part of a pinned entry. The server calls Close when the last
// byte is handed to the connection or copied into its buffer, when writing
// fails, and when it drops the response unwritten; only then may the entry's
// memory be used again. A body is not pooled: a second Close must stay harmless.
type body struct {
	entry *entry // nil once closed
	rest  []byte
	conn  any // that it is written to
}

func (b *body) Read(p []byte) (int, error) {
	if len(b.rest) == 0 { // or closed
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	b.entry.shard.served.Add(uint64(n))
	return n, nil
}

// WriteTo spares the copy through a buffer of the server's, and where the
// connection can a system call.
func (b *body) WriteTo(w io.Writer) (n64 int64, err error) {
	if len(b.rest) == 0 { // or closed
		return 0, nil
	}
	var n int
	t, ok := b.conn.(tailer)
	bw, buffered := w.(*bufio.Writer)
	if ok && buffered {
		n, err = t.WriteTail(bw, b.rest, b.entry.shard.alloc)
	} else {
		n, err = w.Write(b.rest)
	}
	b.rest = b.rest[n:]
	b.entry.shard.served.Add(uint64(n))
	return int64(n), err
}

func (b *body) Close() error {
	if b.entry != nil {
		b.entry.unpin()
		b.entry, b.rest = nil, nil
	}
	return nil
}
