package arch

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const module = "hayloft"

// tree is what the rules look at.
type tree struct {
	fset     *token.FileSet
	files    []*file             // Go
	packages map[string]*file    // directory → doc.go, or nil
	texts    map[string][]string // path → lines, of everything that is text
}

type file struct {
	name, dir string
	test      bool
	lines     int
	ast       *ast.File
}

// notOurs are directories of what tools make.
var notOurs = []string{".git", "bin", "data", ".cache", "node_modules"}

func readTree(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet(), packages: map[string]*file{}, texts: map[string][]string{}}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && slices.Contains(notOurs, name) {
			return fs.SkipDir
		}
		if !d.Type().IsRegular() || name == ".git" { // a file, in a tree of git worktree
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if err != nil {
			return err
		}
		if bytes.IndexByte(text[:min(len(text), 8000)], 0) < 0 {
			t.texts[name] = strings.Split(string(text), "\n")
		}
		if path.Ext(name) == ".go" && !strings.Contains(name, "/testdata/") {
			return t.addGo(name, text)
		}
		return nil
	})
	return t, err
}

func (t *tree) addGo(name string, text []byte) error {
	a, err := parser.ParseFile(t.fset, name, text, parser.ParseComments)
	if err != nil {
		return err
	}
	f := &file{
		name: name, dir: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
		lines: bytes.Count(text, []byte("\n")), ast: a,
	}
	t.files = append(t.files, f)
	if path.Base(name) == "doc.go" {
		t.packages[f.dir] = f
	} else if t.packages[f.dir] == nil {
		t.packages[f.dir] = nil
	}
	return nil
}

// faults returns everything that breaks the law, as "path:line: what".
func (t *tree) faults() []string {
	var out []string
	report := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, f := range t.files {
		t.checkImports(f, report)
		t.checkSize(f, report)
		t.checkCalls(f, report)
	}
	for dir, doc := range t.packages {
		checkDoc(dir, doc, report)
	}
	for name, lines := range t.texts {
		checkPaths(name, lines, report)
	}
	slices.Sort(out)
	return out
}

type reporter func(format string, args ...any)

// under reports whether an import path or room is dir or lies in it.
func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// ruleOf returns the rule of the nearest room at or above dir.
func ruleOf(dir string) (room string, rule []string, ok bool) {
	for room = dir; room != "."; room = path.Dir(room) {
		if rule, ok = mayImport[room]; ok {
			return room, rule, true
		}
	}
	return "", nil, false
}

func (t *tree) checkImports(f *file, report reporter) {
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		at := t.fset.Position(spec.Pos())
		switch {
		case err != nil:
			report("%s: %v", at, err)
		case under(p, module):
			if why := checkEdge(f, strings.TrimPrefix(p, module+"/")); why != "" {
				report("%s: %s", at, why)
			}
		case !f.test:
			if rooms, ok := placed(p); ok && !slices.Contains(rooms, f.dir) {
				report("%s: %s is not for %s, only for %v", at, p, f.dir, rooms)
			}
		}
	}
}

// checkEdge says what is wrong with f importing the room to.
func checkEdge(f *file, to string) string {
	if rooms, ok := samples[to]; ok {
		if f.test || slices.Contains(rooms, f.dir) {
			return ""
		}
		return fmt.Sprintf("%s must not import %s", f.dir, to)
	}
	if slices.Contains(testHelpers, to) {
		if f.test || slices.Contains(testHelpers, f.dir) {
			return ""
		}
		return fmt.Sprintf("%s is for tests, not for %s", to, f.dir)
	}
	if f.test && testsMayImport[f.dir][to] != "" {
		return ""
	}
	room, rule, ok := ruleOf(f.dir)
	if !ok {
		return fmt.Sprintf("%s has no rule in mayImport", f.dir)
	}
	if under(to, "cmd") {
		return fmt.Sprintf("%s must not import %s", f.dir, to)
	}
	if to == room || to == f.dir { // itself, from an external test
		return ""
	}
	for _, may := range rule {
		if may == "*" {
			return ""
		}
		if under(to, may) && !slices.ContainsFunc(notImported[may], func(not string) bool {
			return under(to, not) && !slices.Contains(rule, not)
		}) {
			return ""
		}
	}
	return fmt.Sprintf("%s must not import %s", f.dir, to)
}

// placed returns the rule for an import path, that of its longest prefix.
func placed(p string) ([]string, bool) {
	for q := p; q != "."; q = path.Dir(q) {
		rooms, ok := placement[q]
		// Of the standard library each package is named for itself.
		if ok && (q == p || strings.Contains(strings.Split(p, "/")[0], ".")) {
			return rooms, true
		}
	}
	return nil, false
}

func (t *tree) checkSize(f *file, report reporter) {
	if f.test {
		return
	}
	if f.lines > maxFileLines && longFiles[f.name] == "" {
		report("%s: file has %d lines, at most %d", f.name, f.lines, maxFileLines)
	}
	for _, d := range f.ast.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		from := t.fset.Position(fn.Pos())
		n := t.fset.Position(fn.End()).Line - from.Line + 1
		if n > maxFunctionLines && longFunctions[f.name+":"+fn.Name.Name] == "" {
			report("%s: function %s has %d lines, at most %d", from, fn.Name.Name, n, maxFunctionLines)
		}
	}
}

// excepted reports whether list has f or a directory above it.
func excepted(list map[string]string, f *file) bool {
	for p := f.name; p != "."; p = path.Dir(p) {
		if list[p] != "" {
			return true
		}
	}
	return false
}

// localName is what f calls the package p; "" when it does not import it.
func localName(f *file, p string) string {
	for _, spec := range f.ast.Imports {
		if spec.Path.Value == strconv.Quote(p) {
			if spec.Name != nil {
				return spec.Name.Name
			}
			return path.Base(p)
		}
	}
	return ""
}

func (t *tree) checkCalls(f *file, report reporter) {
	timeName, osName := localName(f, "time"), localName(f, "os")
	ast.Inspect(f.ast, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		name, at := s.Sel.Name, t.fset.Position(s.Pos())
		if f.test && (name == "Skip" || name == "Skipf" || name == "SkipNow") && skippers[f.name] == "" {
			report("%s: a skipped test proves nothing", at)
		}
		x, ok := s.X.(*ast.Ident)
		if !ok || x.Obj != nil { // Obj: a variable of that name
			return true
		}
		switch {
		case f.test:
			if x.Name == timeName && name == "Sleep" && !excepted(sleepers, f) {
				report("%s: time.Sleep in a test: wait for the effect", at)
			}
		case x.Name == timeName && slices.Contains(timeFuncs, name) && !excepted(machineTime, f):
			report("%s: time.%s: use the injected clock", at, name)
		case x.Name == osName && slices.Contains(fileFuncs, name) && !excepted(machineFiles, f):
			report("%s: os.%s: use a file system that can be made to fail", at, name)
		}
		return true
	})
}

// checkDoc holds a package to opening with its contract.
func checkDoc(dir string, doc *file, report reporter) {
	if doc == nil {
		report("%s: no doc.go", dir)
		return
	}
	want := "Package " + doc.ast.Name.Name + " "
	if doc.ast.Name.Name == "main" {
		want = "Command " + path.Base(dir) + " "
	}
	if text := doc.ast.Doc.Text(); !strings.HasPrefix(text, want) && !strings.HasPrefix(text, strings.TrimSuffix(want, " ")+"\n") {
		report("%s: the comment does not begin with %q", doc.name, want)
	}
}

var machinePath = regexp.MustCompile(`(?:^|[^\w.:/{}*~-])/(?:root|home|work|Users|mnt)/\w`)

func checkPaths(name string, lines []string, report reporter) {
	if foreignPaths[name] != "" {
		return
	}
	for i, l := range lines {
		if machinePath.MatchString(l) {
			report("%s:%d: path of a machine", name, i+1)
		}
	}
}

// goList runs go list in dir.
func goList(dir string, args ...string) ([]string, error) {
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list %v: %w\n%s", args, err, stderr.Bytes())
	}
	return strings.Fields(string(out)), nil
}
