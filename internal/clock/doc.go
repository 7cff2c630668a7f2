// Package clock is the only way Hayloft's code learns the time.
//
// Production uses Real. Tests use a Fake, which stands still until it is told
// to move and may be stepped back. No promise of durability or uniqueness may
// rest on a Clock; it is for expiry, ageing and what people read.
//
// Threads: every implementation may be used by many goroutines.
package clock
