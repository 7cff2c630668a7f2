// Package heap knows how much memory there is, and paces the collection of garbage in
// processes that answer requests.
//
// By itself Go collects when as much garbage has come up as there is alive. What this
// project holds is mostly outside of the heap, so little is alive, and a collection comes
// round several times a second; on two processors each is some 10 ms in which timers and
// requests wait. A fixed amount of garbage between two of them costs that much memory and
// no more, however large or small the heap (docs/decisions/229).
package heap
