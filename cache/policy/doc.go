// Package policy decides what leaves a cache when room is needed: FIFO, LRU,
// S4LRU, SIEVE and S3-FIFO behind one interface, with bytes in place of counts.
// The photo cache uses them; bench cache replays traces through the same code.
//
// Contract:
//
//   - Order. A policy orders the nodes that it was given and nothing else: whoever
//     calls it keeps the entries, counts their bytes, and asks it to give up one
//     after the other until there is room. It never gives up a node of itself,
//     and never one twice.
//   - Budget. What it is made with tells it how large its parts should be. The
//     caller keeps to it: the sum of Node.Cost of all nodes plus Overhead.
//   - Memory. Nodes lie inside the caller's entries and belong to the policy from
//     Add to Evict or Remove. Apart from them it has only ghosts, which Overhead
//     counts.
//   - Threads. One at a time: the caller's lock.
//
// No call but Evict takes longer with more nodes; Evict's mean does not, over all
// nodes that were added and hit.
package policy
