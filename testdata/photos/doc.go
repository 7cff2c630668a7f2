// Package photos embeds a dozen real photographs with their authors and
// licences: what `hayloft demo` uploads, and what tests and benchmarks use
// where the size and content of a real picture matter.
//
// The photographs are not under Hayloft's own licence; see ATTRIBUTION.md in
// this directory. Whoever shows them shows author and licence too: Photo
// carries both.
//
// Data is read from the binary itself and must not be changed by the caller.
package photos
