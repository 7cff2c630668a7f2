// Package api is the public HTTP face of Hayloft: the calls under /api/v1, who
// may make them, and what they answer. What it promises is in docs/api.md and,
// for programs, in openapi.yaml; tests hold the three together. The web page
// (api/web) and the media tier are mounted beside it.
//
// One call goes through: conn (slow and surplus peers), dispatch (paths as they
// stand), call (limits, viewer, Hayloft-Index), a handler, and fail, which shows
// every error through the one table in problem.go.
//
// Threads: handlers run on fasthttp's goroutines. Request bytes die with the
// handler; whatever outlives it is copied. An API may be used by many
// goroutines.
//
// Durability: a call that changes something answers success only after the
// feed's command, and for uploads before it the blob's bytes, are on stable
// storage. Everything that can be refused is refused before a byte is appended.
//
// Memory: uploads, and the pieces of masters on their way out, have a budget each
// (spool); all else is bounded per request. Engines behind report by errors; this package
// reports by Options.Events and never logs.
package api
