package main

import (
	"strings"
	"testing"

	"hayloft/volume/tools"
)

// TestStatusCountsWhatIsAway: a node that was killed is waited for, and what it holds
// counts as there. The one who reads how much may be lost is told so.
func TestStatusCountsWhatIsAway(t *testing.T) {
	c := &tools.Cluster{Nodes: []tools.Node{{Name: "n1", Up: true}, {Name: "n2", Away: 14}, {Name: "n3", Away: 14, Duty: "gone"}}}
	var out strings.Builder
	if err := printCluster(&out, c); err != nil {
		t.Fatal(err)
	}
	if s := out.String(); strings.Count(s, "counting what") != 1 || !strings.Contains(s, "counting what n2 holds, which is away") {
		t.Errorf("status:\n%s", s)
	}
}
