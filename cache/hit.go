package cache

import (
	"strconv"
	"time"
	"unsafe"

	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// Pinned is an object in memory whose bytes do not change until Done.
type Pinned struct{ e *entry }

// Bytes returns the object. Nobody may write to it.
func (p Pinned) Bytes() []byte { return p.e.data }

// File implements InFile for parts of the object. What is in a socket by Done stays
// as it is.
func (p Pinned) File(part []byte) (fd int, off int64, ok bool) { return p.e.shard.alloc.File(part) }

// Done ends the use of the object, of which sent bytes were handed to a
// connection. It is called once.
func (p Pinned) Done(sent int) {
	p.e.shard.served.Add(uint64(sent))
	p.e.unpin()
}

// Hit answers what most requests ask for, without waiting and without an
// allocation: a GET of a whole object that is in memory and whose verdict still
// holds. target is the request target as it came, only read before Hit returns. It
// appends to head the fields that Handle would send, but Content-Length, and pins
// the object. Not ok: Handle answers.
func (c *Cache) Hit(head, target []byte) (_ []byte, p Pinned, ok bool) {
	if len(target) == 0 || len(target) > maxTarget {
		return head, p, false
	}
	now := c.clock.Now()
	k, grant, ok := c.parseText(unsafe.String(unsafe.SliceData(target), len(target)), now)
	if !ok {
		return head, p, false
	}
	e := c.inMemory(k, grant)
	if e == nil {
		return head, p, false
	}
	head = append(append(append(head, c.hitFields...), "Content-Type: "...), e.typ...)
	head = append(append(head, "\r\nETag: "...), e.etag...)
	head = append(append(head, "\r\nCache-Control: "...), cacheControl(grant, now)...)
	head = append(head, "\r\nAge: "...)
	head = strconv.AppendInt(head, age(e, now), 10)
	return append(head, "\r\n"...), Pinned{e}, true
}

// inMemory returns the entry of k, pinned, when it is there and the holder of
// grant may have it without a question.
func (c *Cache) inMemory(k key, grant *sign.MediaGrant) *entry {
	s := c.shardOf(id.ID(k.blob))
	s.mu.Lock()
	e := s.find(k)
	if e == nil || !c.vouched(e.asked) || !allows(e.verdict, grant) {
		s.mu.Unlock()
		return nil
	}
	c.serve(s, e, grant) // unlocks
	return e
}

// fieldsOfHits are the fields that all whole hits have in common.
func fieldsOfHits(name string) []byte {
	var b []byte
	for _, f := range safety {
		b = append(b, f[0]+": "+f[1]+"\r\n"...)
	}
	return append(b, "Via: 1.1 "+name+"\r\nCache-Status: "+name+"; hit\r\nAccept-Ranges: bytes\r\n"...)
}

// age is how long e has been here, in seconds.
func age(e *entry, now time.Time) int64 { return max(0, int64(now.Sub(e.filled)/time.Second)) }
