// Package sign makes and checks Hayloft's message authentication codes: for
// presigned upload URLs, list cursors and private media URLs.
//
// A code is HMAC-SHA256, under one key of a ring, over a label, the key's
// version, a purpose and a list of parts. The purpose and every part are
// preceded by their length, so that neither moving a byte from one part to
// the next nor using a code for another purpose gives a valid code. Codes are
// compared in constant time. What is sealed is not readable, too.
//
// Keys rotate with overlap. A new key is handed to every node as Standby
// first: it verifies but does not sign. When all have it, it is handed over
// again without Standby and signs, being the highest version; the former key
// stays in the ring until what it signed has expired, and is then left out.
// Keys come from the directory; this package keeps nothing on disk.
//
// Threads: a Ring may be used by many goroutines, Replace included.
package sign
