package api

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// docs/api.md lists every type of problem with its status and meaning, and no
// other.
func TestDocsListEveryProblem(t *testing.T) {
	b, err := os.ReadFile("../docs/api.md")
	must(t, err)
	_, table, found := strings.Cut(string(b), "| status | type | meaning |\n|---|---|---|\n")
	if !found {
		t.Fatal("docs/api.md has no table of problems")
	}
	for _, k := range sortedKinds() {
		row := fmt.Sprintf("| %d | `%s` | %s |\n", k.status, k.name, k.about)
		if !strings.Contains(table, row) {
			t.Errorf("docs/api.md lacks: %s", row)
		}
		table = strings.Replace(table, row, "", 1)
	}
	if strings.TrimSpace(table) != "" {
		t.Errorf("docs/api.md lists what is no problem: %s", table)
	}
}

// docs/api.md mentions every call under /api/v1.
func TestDocsListEveryCall(t *testing.T) {
	b, err := os.ReadFile("../docs/api.md")
	must(t, err)
	for _, rt := range everyRoute() {
		path := strings.TrimPrefix(rt.pattern, "/api/v1")
		last := path[strings.LastIndex(path, "/"):]
		if path == "/uploads/{id}" { // documented as the URL that is given out
			path = "<upload_url>"
		}
		if path == "/photos/{id}/{variant}" {
			path = "/photos/{id}/thumbnail"
		}
		if !strings.Contains(string(b), path) && !strings.Contains(string(b), "`"+last+"`") {
			t.Errorf("docs/api.md does not mention %s", rt.pattern)
		}
	}
}
