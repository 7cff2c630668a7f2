package feed

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
)

// graph is who follows whom, and who has posted what. People are numbers from 0 on.
type graph struct {
	cap       int
	followers [][]uint32 // author → readers, ascending
	edges     []uint32   // the author of each edge: a random one is an author in proportion to followers
	mean      float64    // number of followers of a post by such an author
	posts     []uint32   // the author of each post, oldest first
	history   [][]uint32 // author → numbers of its posts, ascending
}

func (g *graph) people() int { return len(g.followers) }

// author draws one in proportion to followers.
func (g *graph) author(rng *rand.Rand) int { return int(g.edges[rng.IntN(len(g.edges))]) }

// newGraph makes a graph in which everybody's timeline is full.
func newGraph(o *Options, people int) (*graph, error) {
	g := &graph{cap: o.Cap}
	rng := rand.New(rand.NewPCG(o.Seed, uint64(people)))
	if o.Graph != "" {
		if err := g.read(o.Graph); err != nil {
			return nil, err
		}
	} else {
		g.generate(rng, people)
	}
	g.finish()
	// As many posts as fill the timelines one and a half times on average. Who
	// follows too few people for a full one is given more of them.
	n := int(1.5*float64(g.people()*g.cap)/g.mean) + g.cap
	g.history = make([][]uint32, g.people())
	for i := range n {
		a := g.author(rng)
		g.posts = append(g.posts, uint32(a))
		g.history[a] = append(g.history[a], uint32(i))
	}
	g.fill(rng)
	g.finish()
	return g, nil
}

// generate draws followers for each person, spread over all others.
func (g *graph) generate(rng *rand.Rand, people int) {
	g.followers = make([][]uint32, people)
	for a := range g.followers {
		for range min(degree(rng), people/4) {
			if r := rng.IntN(people); r != a {
				g.followers[a] = append(g.followers[a], uint32(r))
			}
		}
	}
}

// read takes the edges of a file, in both directions.
func (g *graph) read(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	number := map[string]uint32{}
	of := func(s string) uint32 {
		n, ok := number[s]
		if !ok {
			n = uint32(len(number))
			number[s] = n
			g.followers = append(g.followers, nil)
		}
		return n
	}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var a, b string
		if n, _ := fmt.Sscan(lines.Text(), &a, &b); n < 2 || a[0] == '%' || a[0] == '#' || a == b {
			continue
		}
		x, y := of(a), of(b)
		g.followers[x] = append(g.followers[x], y)
		g.followers[y] = append(g.followers[y], x)
	}
	if len(number) < 100 {
		return fmt.Errorf("%s: fewer than 100 people", name)
	}
	return lines.Err()
}

// finish sorts, and draws up the edges.
func (g *graph) finish() {
	g.edges, g.mean = g.edges[:0], 0
	for a, f := range g.followers {
		slices.Sort(f)
		f = slices.Compact(f)
		g.followers[a] = f
		for range f {
			g.edges = append(g.edges, uint32(a))
			g.mean += float64(len(f))
		}
	}
	g.mean /= float64(len(g.edges))
}

// fill gives followees to those whose timelines would not be full.
func (g *graph) fill(rng *rand.Rand) {
	entries := make([]int, g.people())
	for a, f := range g.followers {
		for _, r := range f {
			entries[r] += len(g.history[a])
		}
	}
	for r := range entries {
		for tries := 0; entries[r] < g.cap && tries < 1000; tries++ {
			a := g.author(rng)
			if _, there := slices.BinarySearch(g.followers[a], uint32(r)); there || a == r || slices.Contains(g.followers[a], uint32(r)) {
				continue
			}
			g.followers[a] = append(g.followers[a], uint32(r))
			entries[r] += len(g.history[a])
		}
	}
}

// timelines yields each reader's newest posts, newest first, at most cap of them.
// It goes over the posts once for each block of readers.
func (g *graph) timelines(yield func(reader int, posts []uint32) bool) {
	const block = 100_000
	lists := make([][]uint32, min(block, g.people()))
	for from := 0; from < g.people(); from += block {
		to := min(from+block, g.people())
		for i := range lists {
			lists[i] = lists[i][:0]
		}
		for p := len(g.posts) - 1; p >= 0; p-- {
			f := g.followers[g.posts[p]]
			i, _ := slices.BinarySearch(f, uint32(from))
			for ; i < len(f) && int(f[i]) < to; i++ {
				if l := &lists[int(f[i])-from]; len(*l) < g.cap {
					*l = append(*l, uint32(p))
				}
			}
		}
		for r := from; r < to; r++ {
			if !yield(r, lists[r-from]) {
				return
			}
		}
	}
}
