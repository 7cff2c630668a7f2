package arch

import (
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestFaultsHaveTests reads docs/faults.md: every row names tests, and every
// test that is named exists.
func TestFaultsHaveTests(t *testing.T) {
	tree := os.DirFS(root)
	text, err := fs.ReadFile(tree, "docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	sources := make(map[string]string) // by package
	row := regexp.MustCompile(`^\| \d+ \|`)
	name := regexp.MustCompile("`([a-z0-9/]+)\\.(Test[A-Za-z0-9_]+)`")
	rows := 0
	for line := range strings.Lines(string(text)) {
		named := name.FindAllStringSubmatch(line, -1)
		if row.MatchString(line) {
			if rows++; len(named) == 0 {
				t.Errorf("no test is named: %s", line)
			}
		}
		for _, n := range named {
			pkg, test := n[1], n[2]
			if _, read := sources[pkg]; !read {
				sources[pkg] = testSources(t, tree, pkg)
			}
			if !strings.Contains(sources[pkg], "\nfunc "+test+"(") {
				t.Errorf("%s has no %s", pkg, test)
			}
		}
	}
	if rows != 30 {
		t.Errorf("%d faults, want 30", rows)
	}
}

func testSources(t *testing.T, tree fs.FS, pkg string) string {
	t.Helper()
	files, err := fs.Glob(tree, pkg+"/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := fs.ReadFile(tree, f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	return all.String()
}
