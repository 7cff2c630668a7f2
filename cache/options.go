package cache

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"hayloft/cache/policy"
	"hayloft/internal/clock"
	"hayloft/internal/id"
	"hayloft/internal/sign"
)

// Options configure a Cache. Origin, Access and Purges must be given; the zero
// value of everything else works.
type Options struct {
	Origin Origin
	Access Access
	Purges Purger
	Ring   *sign.Ring  // checks signed URLs; nil: none is valid
	Clock  clock.Clock // nil: clock.Real

	Budget int64  // bytes of memory; default 256 MiB, at least 1 MiB
	Policy string // what leaves when room is needed, one of policy.Names; default policy.Default
	// MaxLoose bounds, in bytes, what is being served without being kept, apart
	// from Budget; beyond: 503. Objects larger than a sixteenth of it may take
	// three quarters; a single object may be larger. Default: a quarter of Budget,
	// at least 48 MiB.
	MaxLoose      int64
	MaxFills      int           // fills under way at once; default 64
	MaxLargeFills int           // of these, of the variants in Large; default 4
	MaxQueue      int           // fills waiting for a place, at most half of them large; beyond: 503. Default 1,024
	FillTimeout   time.Duration // for a fill, its waiting included; default 10 s
	PurgeSilence  time.Duration // after so long without the purge log Access is asked again; default 2 s
	Name          string        // in Via and Cache-Status, an RFC 9110 token; default "hayloft"

	Variants []string          // path names; default thumbnail, small, medium, large, original
	Large    []string          // those of Variants that may be as large as an upload; default original
	Formats  map[string]string // extension → content type; default jpg, webp, avif, png, gif

	// Events is called without locks held, from many goroutines, and must not
	// block. May be nil.
	Events func(Event)

	// shards and alloc are for tests: 0 and nil choose.
	shards int
	alloc  allocator
}

const (
	minBudget = 1 << 20
	minLoose  = 48 << 20 // three quarters of it hold the largest original
)

// Validate lists every fault at once.
func (o Options) Validate() error {
	var errs []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("cache: "+format, args...))
		}
	}
	add(o.Origin == nil, "Origin is missing")
	add(o.Access == nil, "Access is missing")
	add(o.Purges == nil, "Purges is missing")
	add(o.Budget != 0 && o.Budget < minBudget, "Budget of %d bytes is below %d", o.Budget, minBudget)
	if o.Policy != "" {
		err := policy.Check(o.Policy)
		add(err != nil, "Policy: %v", err)
	}
	add(o.MaxLoose < 0, "MaxLoose is negative")
	add(o.MaxFills < 0, "MaxFills is negative")
	add(o.MaxLargeFills < 0, "MaxLargeFills is negative")
	add(o.MaxQueue < 0, "MaxQueue is negative")
	add(o.FillTimeout < 0, "FillTimeout is negative")
	add(o.PurgeSilence < 0, "PurgeSilence is negative")
	add(!isToken(o.Name), "Name %q is not a token", o.Name)
	add(len(o.Variants) > 255 || len(o.Formats) > 255, "more than 255 Variants or Formats")
	for _, v := range o.Variants {
		add(v == "" || !isToken(v), "variant %q is not a token", v)
	}
	for ext, typ := range o.Formats {
		add(ext == "" || !isToken(ext) || typ == "", "format %q: %q", ext, typ)
	}
	return errors.Join(errs...)
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Ring == nil {
		o.Ring, _ = sign.NewRing() // no keys: no error
	}
	o.Budget = cmp.Or(o.Budget, 256<<20)
	o.Policy = cmp.Or(o.Policy, policy.Default)
	o.MaxLoose = cmp.Or(o.MaxLoose, max(o.Budget/4, minLoose))
	o.MaxFills = cmp.Or(o.MaxFills, 64)
	o.MaxLargeFills = cmp.Or(o.MaxLargeFills, 4)
	o.MaxQueue = cmp.Or(o.MaxQueue, 1024)
	o.FillTimeout = cmp.Or(o.FillTimeout, 10*time.Second)
	o.PurgeSilence = cmp.Or(o.PurgeSilence, 2*time.Second)
	o.Name = cmp.Or(o.Name, "hayloft")
	if o.Variants == nil {
		o.Variants = []string{"thumbnail", "small", "medium", "large", "original"}
	}
	if o.Large == nil {
		o.Large = []string{"original"}
	}
	if o.Formats == nil {
		o.Formats = map[string]string{
			"jpg": "image/jpeg", "webp": "image/webp", "avif": "image/avif", "png": "image/png", "gif": "image/gif",
		}
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.shards == 0 {
		// A shard keeps objects up to a third of it: the largest original.
		const shardBytes = 128 << 20
		for o.shards = 1; o.shards < 64 && o.Budget/int64(2*o.shards) >= shardBytes; o.shards *= 2 {
		}
	}
	return o
}

func isToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// key is a Key without pointers: what the maps hold.
type key struct {
	blob, cookie    uint64
	variant, format uint8 // indexes into names
}

func (k key) blobID() id.ID { return id.ID(k.blob) }

// names translates between Key and key.
type names struct {
	variants, exts, types []string
	variant, ext          map[string]uint8
	large                 []bool // by variant
}

func newNames(variants []string, formats map[string]string, large []string) *names {
	n := &names{variants: variants, variant: make(map[string]uint8), ext: make(map[string]uint8)}
	for i, v := range variants {
		n.variant[v] = uint8(i)
		n.large = append(n.large, slices.Contains(large, v))
	}
	for _, ext := range slices.Sorted(maps.Keys(formats)) {
		n.ext[ext] = uint8(len(n.exts))
		n.exts = append(n.exts, ext)
		n.types = append(n.types, formats[ext])
	}
	return n
}
