// Package lifecycle holds the rules by which a sealed volume becomes a coded one
// and its source is released: what the directory may commit, and what the holders
// of a committed row may do with their files.
//
//	sealed -> coding(epoch) -> coded -> released -> sealed, as a newer generation, ...
//
// A Row is what the directory has committed about one volume. Its methods are
// pure: they return the row after a command, or an error and the command changes
// nothing. Commands can arrive late, twice or never; each method accepts the
// repetition of what it did. Time is what the command says.
//
// Holders act on a row that may be old. That is safe because permissions to
// remove never end: what one row lets them remove every later row does. An
// artefact that a row does not know is younger than the row and is left alone.
//
// The exhaustive model of model_test.go runs these rules, together with
// encoders, holders, crashes, losses and late messages, through every order.
//
// Threads: rows are values; their slices are never changed, only replaced.
package lifecycle
