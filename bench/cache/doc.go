// Package cache measures the photo cache: what its policies would have found of a
// trace, what a hit costs beside other servers on the same machine, what a thousand
// waiters on one cold key see, and how much memory a day of requests takes.
//
// Miss ratios come from the policies themselves (hayloft/cache/policy). Hits come
// from a Hayloft server that was filled through its API, driven by wrk; beside it,
// in turn, the same bytes come from a bare fasthttp handler, and from nginx, Varnish,
// memcached and Redis when they are installed. Processor time is that of all processes of a
// server, user and system.
//
// Threads: Run is called once; what it starts has ended when it returns.
package cache
