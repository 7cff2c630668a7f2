# Hayloft's one-command targets. Each names what it installs before it does so.
# The contract of these targets is in docs/operations.md.

GO          ?= go
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.9.0
DATA        ?= ./data
LISTEN      ?= 127.0.0.1:8080
ADMIN       ?= 127.0.0.1:9090
FUZZTIME    ?= 30s
SOAK        ?= 20m

.DEFAULT_GOAL := help
.PHONY: help run cluster build test lint race fuzz soak bench compare cover deps deps-vips deps-test deps-compare clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: deps-vips build ## build, start everything in one process and load the demo
	@bin/hayloft server --data "$(DATA)" --listen "$(LISTEN)" --admin-listen "$(ADMIN)" --demo

cluster: deps-vips build ## three nodes on loopback with two data directories each, in ./cluster, until Ctrl-C
	@scripts/cluster

build: ## bin/hayloft (static) and bin/hayloft-media (libvips; skipped when it can't be had)
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/hayloft ./cmd/hayloft
	@if scripts/have-vips; then \
		echo '$(GO) build -o bin/hayloft-media ./cmd/hayloft-media'; \
		CGO_ENABLED=1 $(GO) build -trimpath -o bin/hayloft-media ./cmd/hayloft-media; \
	else \
		echo 'warning: libvips headers or a C compiler are missing: bin/hayloft-media is skipped,'; \
		echo '         photos will be decoded by the slower pure Go worker (make deps installs libvips)'; \
		rm -f bin/hayloft-media; \
	fi

test: deps-test build ## the whole test suite, a real browser included
	scripts/test

lint: deps-vips ## gofmt, vet, staticcheck, and govulncheck where it can run
	scripts/gofmt-check
	$(GO) vet ./... ./testdata/photos
	$(GO) run $(STATICCHECK) ./... ./testdata/photos
	scripts/vulncheck $(GOVULNCHECK)

race: deps-test build ## the test suite under the race detector
	scripts/test -race

fuzz: ## every fuzz target for FUZZTIME (30s)
	scripts/fuzz $(FUZZTIME)

soak: deps-test build ## a million crash points, 100 kills, 50 power cuts, a million clients that vanish, an hour of histories of the feed, half an hour of faults of a cluster; then random tests until SOAK (20m) is over
	scripts/soak $(SOAK)

bench: build ## the benchmarks of docs/benchmarks.md that the tree holds
	bin/hayloft bench photo --photos 200 --clients 16 --json bin/bench-photo.json

compare: deps-compare build ## one table beside nginx, Varnish, memcached and Redis on this machine, in about six minutes
	@bin/hayloft bench compare

cover: deps-test build ## test coverage, as bin/cover.html
	$(GO) test -coverpkg=./... -coverprofile=bin/cover.out ./...
	$(GO) tool cover -html=bin/cover.out -o bin/cover.html
	$(GO) tool cover -func=bin/cover.out | tail -1

deps: deps-test ## everything that the other targets need, but for compare

deps-vips:
	@scripts/install libvips-dev gcc pkg-config

deps-test:
	@scripts/install libvips-dev gcc pkg-config chromium memcached strace e2fsprogs iproute2 iptables util-linux wrk

deps-compare: # the services that Debian starts for these are not used
	@scripts/install nginx varnish memcached redis-server wrk

clean: ## remove what was built
	rm -rf bin
