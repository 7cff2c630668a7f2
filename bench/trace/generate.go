package trace

import (
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Model says how a generated trace behaves. Photos are born all the time and lose
// readers as they age; every photo has a popularity of its own and four variants.
// Much of what is asked for is asked for again within minutes, the more so the
// younger it is.
type Model struct {
	Days        float64 // length of the trace
	BirthPerDay float64 // new photos, as a share of the catalogue; its age is 1/BirthPerDay days
	DeletedYear float64 // share of photos that are deleted within a year
	DeletedAge  float64 // mean age of those at their end, in days

	Popularity float64 // sigma of the lognormal weight of photos
	Mean       float64 // first requests for a photo per day while it is young, on average
	Most       float64 // the same for the most popular photo
	FlatDays   float64 // how long a photo is young
	Fading     float64 // exponent of the age after that: requests ~ age^-Fading
	Daily      float64 // amplitude of the daily sine

	Again      float64 // chance that a request for a young photo is followed by another for the same variant
	AgainDays  float64 // mean time to it
	AgainFades float64 // exponent of the age with which that chance goes down

	Variants   float64    // each variant is asked for so much as often as the one before it
	Sizes      [4]float64 // median bytes of each variant
	SizeSpread float64    // sigma of the lognormal factor that the sizes of a photo have in common
}

// Published is the model whose miss ratios are those of the Tencent photo trace.
// docs/decisions/186-generated-trace.md says how its numbers were found.
var Published = Model{
	Days: 25, BirthPerDay: 0.002, DeletedYear: 0.25, DeletedAge: 60,
	Popularity: 3.2, Mean: 0.86, Most: 40, FlatDays: 1, Fading: 1.125, Daily: 0.5,
	Again: 0.735, AgainDays: 0.001, AgainFades: 1.6,
	Variants: 0.14, Sizes: [4]float64{9e3, 33e3, 120e3, 4e3}, SizeSpread: 1.1,
}

// Generator is a trace that was made: 8 bytes of memory for each request.
type Generator struct {
	model    Model
	seed     uint64
	requests []uint64 // milliseconds << objectBits | photo << 2 | variant
	photos   int
}

const objectBits = 31

// maxRequests bounds the memory of a Generator.
const maxRequests = 200_000_000

// Generate makes a trace of at least n requests (the last photo's are all there),
// the same one for the same arguments on the same kind of processor.
func Generate(m Model, n int, seed uint64) (*Generator, error) {
	if n < 1 || n > maxRequests {
		return nil, fmt.Errorf("trace: %d requests: 1 to %d", n, maxRequests)
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	g := &Generator{model: m, seed: seed, requests: make([]uint64, 0, n+n/64)}
	r := rand.New(rand.NewPCG(seed, 0))
	for len(g.requests) < n {
		if g.photos >= 1<<(objectBits-2) {
			return nil, errors.New("trace: the model has too few requests for each photo")
		}
		g.photo(r)
	}
	slices.Sort(g.requests)
	return g, nil
}

func (m Model) validate() error {
	for _, v := range []float64{m.Days, m.BirthPerDay, m.Popularity, m.Mean, m.Most, m.FlatDays, m.DeletedAge, m.AgainDays, m.Variants, m.SizeSpread, m.Sizes[0], m.Sizes[1], m.Sizes[2], m.Sizes[3]} {
		if !(v > 0) {
			return errors.New("trace: a number of the model is not above 0")
		}
	}
	if m.Days > 90 || m.Fading <= 1 || !(m.Daily >= 0 && m.Daily <= 1) || !(m.Again >= 0 && m.Again < 1) || !(m.AgainFades >= 0) {
		return errors.New("trace: the model's days (90 at most), fading (above 1), or a share is out of range")
	}
	return nil
}

// photo adds the requests for one more photo.
func (g *Generator) photo(r *rand.Rand) {
	m := &g.model
	catalogue := 1 / m.BirthPerDay
	born := r.Float64()*(catalogue+m.Days) - catalogue // days from the beginning of the trace
	end := m.Days
	if r.Float64() < m.DeletedYear {
		end = min(end, born+r.ExpFloat64()*m.DeletedAge)
	}
	weight := min(m.Most, m.Mean*math.Exp(m.Popularity*r.NormFloat64()-m.Popularity*m.Popularity/2))
	if end > max(0, born) {
		from, to := m.upTo(max(0, -born)), m.upTo(end-born)
		for range poisson(r, weight*(to-from)) {
			g.views(r, born, m.age(from+r.Float64()*(to-from)), end)
		}
	}
	g.photos++
}

// views adds a request for a photo of that age, and those that follow it soon.
func (g *Generator) views(r *rand.Rand, born, age, end float64) {
	m := &g.model
	if r.Float64()*(1+m.Daily) > 1+m.Daily*math.Sin(2*math.Pi*(born+age)) {
		age = m.shift(r, born, age, end)
	}
	variant := m.variant(r)
	for {
		at := uint64((born + age) * float64(24*time.Hour/time.Millisecond))
		g.requests = append(g.requests, at<<objectBits|uint64(g.photos)<<2|variant)
		if r.Float64() >= m.Again*math.Pow(min(1, m.FlatDays/age), m.AgainFades) {
			return
		}
		if age += r.ExpFloat64() * m.AgainDays; born+age >= end {
			return
		}
	}
}

// shift moves a request that the night does not want into the day around it.
func (m *Model) shift(r *rand.Rand, born, age, end float64) float64 {
	for range 16 {
		at := born + age + r.Float64() - 0.5
		if at > max(0, born) && at < end && r.Float64()*(1+m.Daily) < 1+m.Daily*math.Sin(2*math.Pi*at) {
			return at - born
		}
	}
	return age
}

// variant chooses one of four.
func (m *Model) variant(r *rand.Rand) uint64 {
	q := m.Variants
	u := r.Float64() * (1 + q + q*q + q*q*q)
	share := 1.0
	for v := range uint64(3) {
		if u < share {
			return v
		}
		u -= share
		share *= q
	}
	return 3
}

// upTo is how many requests a photo of weight 1 has had at that age in days:
// one per day while it is young, then fewer, as a power of the age.
func (m *Model) upTo(age float64) float64 {
	if age <= m.FlatDays {
		return age
	}
	return m.FlatDays + m.FlatDays*(1-math.Pow(age/m.FlatDays, 1-m.Fading))/(m.Fading-1)
}

// age is the inverse of upTo.
func (m *Model) age(n float64) float64 {
	if n <= m.FlatDays {
		return n
	}
	return m.FlatDays * math.Pow(1-(n-m.FlatDays)*(m.Fading-1)/m.FlatDays, 1/(1-m.Fading))
}

// poisson draws from the distribution of that mean; for large ones from the normal
// distribution beside it.
func poisson(r *rand.Rand, mean float64) int {
	if mean > 60 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	limit, n := math.Exp(-mean), 0
	for p := r.Float64(); p > limit; p *= r.Float64() {
		n++
	}
	return n
}

// Open returns the trace from its beginning.
func (g *Generator) Open() Source { return &generated{g: g, requests: g.requests} }

// Len is how many requests the trace has.
func (g *Generator) Len() int { return len(g.requests) }

// size is the size of an object: the variant's median times a factor of the photo.
func (g *Generator) size(object uint64) int64 {
	photo, variant := object>>2, object&3
	// A normal number out of the photo's own: Box and Muller's method.
	x := spread(photo ^ spread(g.seed+1))
	u := float64(x>>40+1) / (1 << 24)
	normal := math.Sqrt(-2*math.Log(u)) * math.Cos(2*math.Pi*float64(x&(1<<24-1))/(1<<24))
	return max(200, int64(g.model.Sizes[variant]*math.Exp(g.model.SizeSpread*normal)))
}

// generated is a Generator that is being read.
type generated struct {
	g        *Generator
	requests []uint64
}

func (s *generated) Next() (Request, error) {
	if len(s.requests) == 0 {
		return Request{}, io.EOF
	}
	q := s.requests[0]
	s.requests = s.requests[1:]
	object := q & (1<<objectBits - 1)
	return Request{At: time.Duration(q>>objectBits) * time.Millisecond, ID: object, Size: s.g.size(object)}, nil
}
