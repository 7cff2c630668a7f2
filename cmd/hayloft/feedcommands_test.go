package main

import (
	"encoding/json"
	"strings"
	"testing"

	"hayloft/feed"
	"hayloft/internal/id"
)

// TestReconcileCommand counts what a few people did, and finds nothing wrong. What is
// found and corrected when something is, package feed has tests of.
func TestReconcileCommand(t *testing.T) {
	n := openNode(t)
	o := operate(t, n)
	o.must("user", "create", "ada")
	o.must("user", "create", "bob")
	ids := map[string]id.ID{}
	for _, handle := range []string{"ada", "bob"} {
		a, err := n.feed.Account(t.Context(), handle)
		if err != nil {
			t.Fatal(err)
		}
		ids[handle] = a.ID
	}
	if err := n.feed.Follow(t.Context(), ids["bob"], ids["ada"]); err != nil {
		t.Fatal(err)
	}
	if err := n.feed.Mute(t.Context(), ids["bob"], ids["ada"]); err != nil {
		t.Fatal(err)
	}
	out := o.must("feed", "reconcile")
	if want := "10 counters looked at, 0 wrong; 1 edges looked at, 0 in one table only; 0 corrected\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
	var got reconciled
	if err := json.Unmarshal([]byte(o.must("feed", "reconcile", "--apply", "--json")), &got); err != nil || got.Counters != 10 || got.Edges != 1 || got.Fixed != 0 || got.First == nil {
		t.Errorf("%+v, %v", got, err)
	}
	var text strings.Builder
	wrong := reconciledOf(feed.Reconciliation{Counters: 3, Drifts: 1, First: []feed.Drift{{Subject: ids["ada"], Counter: feed.CountFollowers, Stored: 3, Counted: 1}}})
	if err := printReconciled(&text, wrong); err != nil || !strings.Contains(text.String(), ids["ada"].String()+"  followers: 3, the list has 1\n") {
		t.Errorf("%s, %v", text.String(), err)
	}
}
