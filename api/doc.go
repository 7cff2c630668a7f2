// Package api is the public HTTP face of Hayloft: the calls under /api/v1, who
// may make them, and the web page (api/web). What it promises is in
// docs/api.md and openapi.yaml.
//
// Threads: handlers run on fasthttp's goroutines; request bytes die with the
// handler, whatever outlives it is copied. Errors are problem+json (RFC 9457)
// through the one table in problem.go.
package api
