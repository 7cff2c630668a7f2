package peer

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"hayloft/internal/id"
	"hayloft/volume"
	"hayloft/volume/server"
)

var bg = context.Background()

// link reaches one test server, whatever the node is called.
type link struct{ s *httptest.Server }

func (l link) Do(_ context.Context, _ string, r *http.Request) (*http.Response, error) {
	r.URL.Host = l.s.Listener.Addr().String()
	return l.s.Client().Do(r)
}

func known(context.Context) (string, bool) { return "caller", true }

// overTLS returns a client that reaches p over a connection of the machine.
func overTLS(t testing.TB, p server.Peer, h HandlerOptions, o Options) *Client {
	t.Helper()
	if h.Caller == nil {
		h.Caller = known
	}
	s := httptest.NewTLSServer(Handler(p, h))
	t.Cleanup(s.Close)
	return NewClients(link{s}, o).Node("echo")
}

var seedFlag = flag.Uint64("seed", 0, "repeat a random test with this seed")

// seeded returns random numbers that a failing test can be repeated with.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with: go test ./volume/server/peer -run '^%s$' -seed %d", t.Name(), seed)
		}
	})
	return rand.New(rand.NewPCG(seed, seed))
}

// question is a call with its arguments. ask makes it and returns all that came of
// it: results, and what a function was given.
type question struct {
	name string
	ask  func(ctx context.Context, p server.Peer) ([]any, error)
}

// questions draws one of each call.
func questions(r *rand.Rand) []question {
	disk, v, key, alt, cookie := r.Uint32(), volume.ID(r.Uint32()), id.ID(r.Uint64()), uint8(r.Uint32N(255)), id.Cookie(r.Uint64())
	ident := volume.Identity{Volume: v, Generation: r.Uint32(), Class: volume.Class(r.Uint32N(3))}
	group, keys, a, b := someGroup(r), someKeys(r, 10_000), r.Uint32()>>1, r.Uint32()
	off, n := r.Int64N(1<<20), r.Int64N(5000)
	info := *someSeal(r)
	only := func(err error) ([]any, error) { return nil, err }
	return []question{
		{"create", func(ctx context.Context, p server.Peer) ([]any, error) { return only(p.Create(ctx, disk, ident)) }},
		{"append", func(ctx context.Context, p server.Peer) ([]any, error) {
			return only(p.Append(ctx, disk, ident, group))
		}},
		{"entomb", func(ctx context.Context, p server.Peer) ([]any, error) { return only(p.Entomb(ctx, disk, v, key)) }},
		{"delete", func(ctx context.Context, p server.Peer) ([]any, error) { return only(p.Delete(ctx, disk, v, key)) }},
		{"log", func(ctx context.Context, p server.Peer) ([]any, error) {
			newest, err := p.LogDeletes(ctx, disk, v, a, b, keys)
			return []any{newest}, err
		}},
		{"read", func(ctx context.Context, p server.Peer) ([]any, error) {
			blob, err := p.Read(ctx, disk, v, key, alt, cookie)
			defer blob.Release()
			return []any{string(blob.Data), blob.ETag, masterText(blob.Master)}, err
		}},
		{"range", func(ctx context.Context, p server.Peer) ([]any, error) {
			got, err := p.ReadRange(ctx, disk, v, key, alt, cookie, off, n)
			defer got.Release()
			return []any{string(got.Data), got.Offset, got.Size, got.ETag, masterText(got.Master)}, err
		}},
		{"probe", func(ctx context.Context, p server.Peer) ([]any, error) {
			got, err := p.Probe(ctx, disk, v, key)
			out := []any{got.Deleted}
			for _, n := range got.Needles {
				out = append(out, n.Alt, n.Offset, n.Size, kinds(n.Err))
			}
			return out, err
		}},
		{"standing", func(ctx context.Context, p server.Peer) ([]any, error) {
			s, err := p.Standing(ctx, disk, v)
			return []any{s}, err
		}},
		{"fence", func(ctx context.Context, p server.Peer) ([]any, error) {
			s, err := p.Fence(ctx, disk, v)
			return []any{s}, err
		}},
		{"admit", func(ctx context.Context, p server.Peer) ([]any, error) { return only(p.Admit(ctx, disk, v, a)) }},
		{"holdings", func(ctx context.Context, p server.Peer) (out []any, err error) {
			err = p.Holdings(ctx, disk, v, func(h server.Holding) error {
				out = append(out, h)
				return nil
			})
			return out, err
		}},
		{"fetch", func(ctx context.Context, p server.Peer) (out []any, err error) {
			err = p.Fetch(ctx, disk, v, keys, func(n volume.Needle) error {
				out = append(out, groupText([]volume.Needle{n}))
				return nil
			})
			return out, err
		}},
		{"fill", func(ctx context.Context, p server.Peer) ([]any, error) { return only(p.Fill(ctx, disk, ident, group)) }},
		{"bury", func(ctx context.Context, p server.Peer) ([]any, error) { return only(p.Bury(ctx, disk, v, keys)) }},
		{"seal", func(ctx context.Context, p server.Peer) ([]any, error) {
			s, err := p.Seal(ctx, disk, v, info)
			return []any{s}, err
		}},
		{"make", func(ctx context.Context, p server.Peer) ([]any, error) {
			s, err := p.Make(ctx, disk, v, a)
			return []any{s}, err
		}},
		{"copy", func(ctx context.Context, p server.Peer) ([]any, error) {
			var file []byte
			s, err := p.Copy(ctx, disk, v, a, func(b []byte) error {
				file = append(file, b...)
				return nil
			})
			return []any{s, string(file)}, err
		}},
		{"mend", func(ctx context.Context, p server.Peer) ([]any, error) {
			return only(p.Mend(ctx, disk, v, a, []server.Damage{{Shard: 3, Offset: off, Length: n}, {Shard: 35}}))
		}},
		{"shelf", func(ctx context.Context, p server.Peer) ([]any, error) {
			_, err := p.Shelf(ctx, disk, v, a, b)
			return nil, err
		}},
		{"deletes", func(ctx context.Context, p server.Peer) ([]any, error) {
			list, newest, err := p.Deletes(ctx, disk, v, b>>1, 9000)
			return []any{list, newest}, err
		}},
	}
}

// kinds lists what err is of what callers ask for. What says nothing about a replica
// is unavailable.
func kinds(err error) string {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		err = unavailable(err)
	}
	var out []string
	for _, e := range table {
		if errors.Is(err, e.err) {
			out = append(out, e.err.Error())
		}
	}
	return strings.Join(out, "; ")
}

// TestCallsArriveAsTheyAre: a Peer is asked the same over the wire as by itself, and
// says the same.
func TestCallsArriveAsTheyAre(t *testing.T) {
	budget := volume.NewReadBudget(1<<20, 1)
	p := &echo{}
	c := overTLS(t, p, HandlerOptions{}, Options{Reads: budget})
	r := seeded(t)
	for range 20 {
		for _, q := range questions(r) {
			want, err := q.ask(bg, p)
			asked := p.heard()
			if err != nil {
				t.Fatalf("%s: %v", q.name, err)
			}
			got, err := q.ask(bg, c)
			if err != nil {
				t.Fatalf("%s over the wire: %v", q.name, err)
			}
			if heard := p.heard(); !reflect.DeepEqual(heard, asked) {
				t.Fatalf("%s: asked %.500q, arrived as %.500q", q.name, asked, heard)
			}
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("%s: said %.10v, arrived as %.10v", q.name, want, got)
			}
		}
	}
	if budget.Held() != 0 {
		t.Errorf("%d bytes are held", budget.Held())
	}
}

// TestErrorsArriveAsTheyAre: errors.Is says the same on both sides, but that those
// which say nothing about the replica are unavailable.
func TestErrorsArriveAsTheyAre(t *testing.T) {
	budget := volume.NewReadBudget(1<<20, 1)
	p := &echo{fail: true}
	c := overTLS(t, p, HandlerOptions{}, Options{Reads: budget})
	r := seeded(t)
	for range 30 {
		for _, q := range questions(r) {
			_, want := q.ask(bg, p)
			_, got := q.ask(bg, c)
			if got == nil {
				t.Fatalf("%s: %v arrived as none", q.name, want)
			}
			if kinds(got) != kinds(want) {
				t.Fatalf("%s: %v (%s) arrived as %v (%s)", q.name, want, kinds(want), got, kinds(got))
			}
			if !strings.Contains(got.Error(), "node echo: "+q.name) {
				t.Fatalf("%s: %v names neither node nor call", q.name, got)
			}
		}
	}
	if budget.Held() != 0 {
		t.Errorf("%d bytes are held", budget.Held())
	}
	for _, closed := range []error{server.ErrClosed, volume.ErrClosed, errors.New("disk of straw")} {
		e := codesOf(fmt.Errorf("volume 7: %w", closed))
		if !reflect.DeepEqual(e, []code{codeUnavailable}) {
			t.Errorf("%v has codes %v", closed, e)
		}
	}
	if !errors.Is(errorOf(9999), server.ErrUnavailable) {
		t.Error("a code of a later version says something")
	}
}

// TestEveryErrorHasACode holds the table to the errors that there are.
func TestEveryErrorHasACode(t *testing.T) {
	has := make(map[string]bool)
	for _, name := range []string{"server.ErrClosed", "volume.ErrClosed"} { // unavailable
		has[name] = true
	}
	texts := make(map[string]bool)
	codes := make(map[code]bool)
	for _, e := range table {
		texts[e.err.Error()] = true
		if codes[e.code] {
			t.Errorf("code %d is there twice", e.code)
		}
		codes[e.code] = true
	}
	for pkg, dir := range map[string]string{"server": "..", "volume": "../.."} {
		files, err := filepath.Glob(dir + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatal(len(files), err)
		}
		for _, f := range files {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			tree, err := goparser.ParseFile(token.NewFileSet(), f, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range tree.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.VAR {
					continue
				}
				for _, s := range g.Specs {
					v := s.(*ast.ValueSpec)
					name := pkg + "." + v.Names[0].Name
					if !strings.HasPrefix(v.Names[0].Name, "Err") || has[name] {
						continue
					}
					if !texts[textOf(t, v)] {
						t.Errorf("%s has no code: add it to the table and to docs/peer-protocol.md", name)
					}
				}
			}
		}
	}
}

// textOf is the text of an error that errors.New makes, or that of ErrNoSpace.
func textOf(t *testing.T, v *ast.ValueSpec) string {
	t.Helper()
	call, ok := v.Values[0].(*ast.CallExpr)
	if !ok {
		return server.ErrNoSpace.Error()
	}
	var text string
	if _, err := fmt.Sscanf(call.Args[0].(*ast.BasicLit).Value, "%q", &text); err != nil {
		t.Fatal(err)
	}
	return text
}
