package main

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestUserCommands makes an account, lists it, suspends it and gives it another
// password.
func TestUserCommands(t *testing.T) {
	n := openNode(t)
	o := operate(t, n)
	var made userSecret
	if err := json.Unmarshal([]byte(o.must("user", "create", "@ada", "--name", "Ada L", "--json")), &made); err != nil || made.User.Handle != "ada" || len(made.Password) < 20 {
		t.Fatalf("%+v, %v", made, err)
	}
	o.must("user", "create", "bob")
	for args, want := range map[string]string{"ada": `somebody is called "ada"`, "A b": "handle", "me": "reserved"} {
		if _, _, err := o.run("user", "create", args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("create %s: %v", args, err)
		}
	}
	_, hash, err := n.feed.Credentials(t.Context(), "ada")
	if err != nil {
		t.Fatal(err)
	}
	if out := o.must("user", "suspend", "ada"); out != "ada is suspended\n" {
		t.Error(out)
	}
	if _, _, err := n.feed.Credentials(t.Context(), "ada"); err == nil {
		t.Error("a suspended account can sign in")
	}
	var rows []userRow
	if err := json.Unmarshal([]byte(o.must("user", "ls", "--json")), &rows); err != nil || len(rows) != 2 || rows[0].Handle != "ada" ||
		rows[0].State != "suspended" || rows[0].Name != "Ada L" || rows[1].State != "active" {
		t.Errorf("%+v, %v", rows, err)
	}
	if out := o.must("user", "ls"); !strings.Contains(out, "HANDLE") || !strings.Contains(out, "suspended") {
		t.Error(out)
	}
	if out := o.must("user", "suspend", "ada", "--undo"); out != "ada is active\n" {
		t.Error(out)
	}
	out := o.must("user", "reset-password", "ada")
	if _, now, err := n.feed.Credentials(t.Context(), "ada"); err != nil || now == hash || !strings.Contains(out, "password  ") || strings.Contains(out, made.Password) {
		t.Errorf("%s, %v", out, err)
	}
	for _, call := range []string{"suspend", "reset-password"} {
		if _, _, err := o.run("user", call, "nobody"); err == nil || !strings.Contains(err.Error(), `nobody is called "nobody"`) {
			t.Errorf("%s nobody: %v", call, err)
		}
	}
}
