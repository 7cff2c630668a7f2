// Package oracle says what every user of a feed must see, from the definition alone:
//
//	P is in R's feed ⇔ ready ∧ not deleted ∧ (author = R ∨ accepted follow)
//	                  ∧ no block either way ∧ not muted ∧ audience allows
//	                  ∧ neither is suspended or has left;
//	the whole history, in the order of publication, newest first.
//
// It knows nothing of timelines, floors, modes, caps or crashes, imports nothing of
// ours, and looks at everything each time that it is asked. Users and photos are
// numbers from 0 on, in the order in which they came.
//
// Tests alone import it. Threads: a World is one goroutine's.
package oracle
