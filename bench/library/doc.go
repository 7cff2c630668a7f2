// Package library makes volumes to be read, knows what every needle in them should
// be, and where its record lies. All data is incompressible, the same in every run,
// and each needle's own: every page of it and its end carry the key.
//
// Threads: a Library may be read by many goroutines once it is built; an Order
// belongs to one at a time, but for the arm it hands out.
package library
