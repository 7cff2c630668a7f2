package main

import (
	"strings"
	"testing"

	"hayloft/bench"
)

func TestWriteCompare(t *testing.T) {
	cache := &bench.Report{Bench: "cache", Settings: map[string]string{"hits": "how"}, Results: []bench.Result{{Name: "hits_per_s_10k", Value: 1e4}}}
	var out strings.Builder
	if err := writeCompare(&out, cache, nil); err != nil || !strings.Contains(out.String(), "| Hayloft") || !strings.Contains(out.String(), "* cache, hits: how\n") {
		t.Errorf("%v\n%s", err, out.String())
	}
	feed := &bench.Report{Bench: "feed", Results: []bench.Result{{Name: "deliveries_per_s", Value: 1e4, Errors: 3}}}
	if err := writeCompare(&out, cache, feed); err == nil || !strings.Contains(err.Error(), "bench feed: 3 ") {
		t.Errorf("failed pieces: %v", err)
	}
	if err := writeCompare(&out, nil, nil); err != nil {
		t.Error(err)
	}
}
