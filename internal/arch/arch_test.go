package arch

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

const root = "../.."

// TestTree holds the tree to the law.
func TestTree(t *testing.T) {
	tr, err := readTree(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	if len(tr.packages) < 15 {
		t.Fatalf("only %d packages found: looking in the wrong place", len(tr.packages))
	}
	for _, f := range tr.faults() {
		t.Error(f)
	}
}

// TestExceptions says which exceptions name nothing any more.
func TestExceptions(t *testing.T) {
	for _, list := range []map[string]string{longFiles, longFunctions, machineTime, sleepers, machineFiles, foreignPaths} {
		for name, why := range list {
			file, _, _ := strings.Cut(name, ":")
			if _, err := fs.Stat(os.DirFS(root), file); err != nil {
				t.Errorf("exception for %s (%s): %v", name, why, err)
			}
			if why == "" {
				t.Errorf("exception for %s without a reason", name)
			}
		}
	}
}

// TestFaultsAreFound breaks each rule once, in a tree of its own.
func TestFaultsAreFound(t *testing.T) {
	doc := func(path string) string {
		return "// Package " + path[strings.LastIndex(path, "/")+1:] + " is here.\npackage " + path[strings.LastIndex(path, "/")+1:] + "\n"
	}
	long := "package volume\n\nfunc f() {\n" + strings.Repeat("\tg()\n", maxFunctionLines) + "}\n"
	tests := []struct {
		name, file, text, want string
	}{
		{"upward", "volume/a.go", "package volume\nimport _ \"hayloft/feed\"\n", "volume must not import feed"},
		{"engine to server", "cache/a.go", "package cache\nimport _ \"hayloft/volume/server\"\n", "cache must not import volume/server"},
		{"encoder", "directory/a.go", "package directory\nimport _ \"hayloft/volume/coding\"\n", "directory must not import volume/coding"},
		{"siblings", "feed/a.go", "package feed\nimport _ \"hayloft/cache\"\n", "feed must not import cache"},
		{"siblings in tests", "feed/a_test.go", "package feed\nimport _ \"hayloft/cache\"\n", "feed must not import cache"},
		{"raft", "feed/a.go", "package feed\nimport _ \"github.com/hashicorp/raft\"\n", "github.com/hashicorp/raft is not for feed"},
		{"pebble", "cache/a.go", "package cache\nimport _ \"github.com/cockroachdb/pebble/v2\"\n", "pebble/v2 is not for cache"},
		{"fasthttp", "feed/a.go", "package feed\nimport _ \"github.com/valyala/fasthttp\"\n", "fasthttp is not for feed"},
		{"cgo", "volume/a.go", "package volume\nimport \"C\"\n", "C is not for volume"},
		{"network", "volume/a.go", "package volume\nimport _ \"net\"\n", "net is not for volume"},
		{"logging", "feed/a.go", "package feed\nimport _ \"log/slog\"\n", "log/slog is not for feed"},
		{"test module", "feed/a.go", "package feed\nimport _ \"pgregory.net/rapid\"\n", "rapid is not for feed"},
		{"test helper", "media/a.go", "package media\nimport _ \"hayloft/media/mediatest\"\n", "media/mediatest is for tests"},
		{"samples", "feed/a.go", "package feed\nimport _ \"hayloft/testdata/photos\"\n", "feed must not import testdata/photos"},
		{"no doc.go", "cache/sub/a.go", "package sub\n", "cache/sub: no doc.go"},
		{"no comment", "cache/sub/doc.go", "package sub\n", "does not begin with \"Package sub \""},
		{"long function", "volume/a.go", long, "function f has 72 lines"},
		{"long file", "volume/a.go", "package volume\n" + strings.Repeat("\n", maxFileLines), "file has 501 lines"},
		{"machine time", "feed/a.go", "package feed\nimport \"time\"\nvar x = time.Now()\n", "time.Now: use"},
		{"renamed time", "feed/a.go", "package feed\nimport clk \"time\"\nvar x = clk.After\n", "time.After: use"},
		{"sleeping test", "feed/a_test.go", "package feed\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "time.Sleep in a test"},
		{"files", "feed/a.go", "package feed\nimport \"os\"\nvar x, _ = os.Open(\"x\")\n", "os.Open"},
		{"skip", "feed/a_test.go", "package feed\nimport \"testing\"\nfunc TestX(t *testing.T) { t.Skip() }\n", "a skipped test"},
		{"machine path", "docs/a.md", "see /home/somebody/notes\n", "docs/a.md:1: path of a machine"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			files := fstest.MapFS{"docs/b.md": {Data: []byte("fine")}}
			for _, p := range []string{"volume", "volume/server", "directory", "cache", "feed", "media", "media/mediatest"} {
				files[p+"/doc.go"] = &fstest.MapFile{Data: []byte(doc(p))}
			}
			tr, err := readTree(files)
			if err != nil {
				t.Fatal(err)
			}
			if f := tr.faults(); len(f) != 0 {
				t.Fatalf("faults in a good tree: %q", f)
			}
			files[tt.file] = &fstest.MapFile{Data: []byte(tt.text)}
			if tr, err = readTree(files); err != nil {
				t.Fatal(err)
			}
			found := tr.faults()
			if !slices.ContainsFunc(found, func(f string) bool { return strings.Contains(f, tt.want) }) {
				t.Errorf("faults %q, want one with %q", found, tt.want)
			}
		})
	}
}

// TestTransitive asks the go command what each room reaches.
func TestTransitive(t *testing.T) {
	for room, forbidden := range transitively {
		if _, err := os.Stat(root + "/" + room); err != nil {
			t.Errorf("rule for %s: %v", room, err)
			continue
		}
		deps, err := goList(root, "-deps", "./"+room)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, dep := range deps {
			for _, f := range forbidden {
				if under(dep, f) {
					t.Errorf("%s reaches %s", room, dep)
				}
			}
		}
	}
	// hayloft itself is static: only the decoding child has cgo.
	deps, err := goList(root, "-deps", "-f", "{{if and (not .Standard) .CgoFiles}}{{.ImportPath}}{{end}}", "./cmd/hayloft")
	if err != nil {
		t.Fatal(err)
	}
	for _, dep := range deps {
		if strings.HasPrefix(dep, module) {
			t.Errorf("cmd/hayloft reaches cgo in %s", dep)
		}
	}
}
