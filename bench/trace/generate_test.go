package trace

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"hayloft/cache/policy"
)

const (
	testRequests = 300_000
	testSeed     = 7
)

// TestGenerator holds a trace of the model to what is published about traces of
// photos: docs/decisions/186-generated-trace.md has the table.
func TestGenerator(t *testing.T) {
	g, err := Generate(Published, testRequests, testSeed)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := Summarize(g.Open())
	if err != nil {
		t.Fatal(err)
	}
	within := func(what string, got, least, most float64) {
		t.Helper()
		if !(got >= least && got <= most) {
			t.Errorf("%s: %.3f is not from %v to %v", what, got, least, most)
		}
	}
	within("requests", float64(sum.Requests), testRequests, 1.1*testRequests)
	within("requests for each object", float64(sum.Requests)/float64(sum.Objects), 5, 6)
	within("asked for once", sum.OneHit, 0.55, 0.63)
	within("to the most popular hundredth", sum.TopPercent, 0.14, 0.35)
	within("days", sum.Time.Hours()/24, Published.Days-0.1, Published.Days)
	for _, c := range []struct {
		policy          string
		published, most float64
	}{{"fifo", 0.486, 0.02}, {"lru", 0.447, 0.02}, {"s4lru", 0.397, 0.02}, {"s3fifo", 0.390, 0.02}} {
		within(c.policy+" at 1 %", missRatio(g, c.policy, sum.Objects/100), c.published-c.most, c.published+c.most)
	}

	sizes := map[uint64]int64{}
	for s := g.Open(); ; {
		q, err := s.Next()
		if err != nil {
			break
		}
		sizes[q.ID] = q.Size
	}
	var list []int64
	for _, n := range sizes {
		list = append(list, n)
	}
	slices.Sort(list)
	within("median size", float64(list[len(list)/2]), 12e3, 16e3)
	within("mean size", float64(sum.ObjectBytes)/float64(sum.Objects), 33e3, 60e3)
	within("size at 99 %", float64(list[len(list)*99/100]), 274e3, 500e3)
}

// missRatio is that of a cache for so many objects.
func missRatio(g *Generator, name string, objects int64) float64 {
	const unit = 1 << 30
	c := policy.NewReplay(name, objects*unit+unit/2)
	misses, s := 0, g.Open()
	for {
		q, err := s.Next()
		if err != nil {
			return float64(misses) / float64(g.Len())
		}
		if !c.Get(q.ID, unit) {
			misses++
		}
	}
}

func TestGeneratorRepeats(t *testing.T) {
	open := func(seed uint64) []Request {
		g, err := Generate(Published, 20_000, seed)
		if err != nil {
			t.Fatal(err)
		}
		one, err := all(g.Open())
		if err != nil {
			t.Fatal(err)
		}
		if two, err := all(g.Open()); err != nil || !same(one, two) || len(one) != g.Len() {
			t.Errorf("seed %d: the second reading differs (%v)", seed, err)
		}
		return one
	}
	one := open(1)
	if !same(one, open(1)) {
		t.Error("one seed makes two traces")
	}
	if same(one, open(2)) {
		t.Error("two seeds make one trace")
	}
	last := time.Duration(0)
	for _, q := range one {
		if q.At < last || q.Size < 1 {
			t.Fatalf("%+v after %v", q, last)
		}
		last = q.At
	}
}

// TestDayAndNight says that requests follow the hour, and that photos lose readers.
func TestDayAndNight(t *testing.T) {
	g, err := Generate(Published, 100_000, 3)
	if err != nil {
		t.Fatal(err)
	}
	var hours [24]int
	for s := g.Open(); ; {
		q, err := s.Next()
		if err != nil {
			break
		}
		hours[int(q.At.Hours())%24]++
	}
	if day, night := hours[5]+hours[6]+hours[7], hours[17]+hours[18]+hours[19]; day < 2*night {
		t.Errorf("%d requests at the best hours, %d at the worst", day, night)
	}
	m := Published
	for _, age := range []float64{0.1, 1, 3, 100} {
		if back := m.age(m.upTo(age)); math.Abs(back-age) > 1e-6*age {
			t.Errorf("age %v comes back as %v", age, back)
		}
	}
	rate := func(age float64) float64 { return m.upTo(age+0.001) - m.upTo(age) }
	if r := rate(0.5) / rate(7); r < 7 || r > 12 {
		t.Errorf("requests go down to a %.1fth within a week", r)
	}
}

func TestModelFaults(t *testing.T) {
	for name, change := range map[string]func(*Model){
		"above 0":      func(m *Model) { m.Mean = 0 },
		"out of range": func(m *Model) { m.Fading = 1 },
		"share":        func(m *Model) { m.Again = 1 },
	} {
		m := Published
		change(&m)
		if _, err := Generate(m, 10, 1); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, n := range []int{0, maxRequests + 1} {
		if _, err := Generate(Published, n, 1); err == nil {
			t.Errorf("%d requests were made", n)
		}
	}
}
