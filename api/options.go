package api

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"time"

	"github.com/valyala/fasthttp"

	"hayloft/cache"
	"hayloft/internal/clock"
	"hayloft/internal/sign"
)

// Signup says who may make an account.
type Signup string

// The modes of sign-up. The empty text is SignupOpen.
const (
	SignupOpen   Signup = "open"
	SignupClosed Signup = "closed"
)

// Options are what an API is made of. PublicURL is needed, and one of Feed, Store
// and Media; all else has a default that works. What a process does not have its
// API does not answer: those paths are unknown.
type Options struct {
	Feed  Feed        // accounts and photos; needs Blobs and Ring
	Blobs Blobs       // masters of photos
	Ring  *sign.Ring  // signs upload URLs and cursors
	Clock clock.Clock // default clock.Real
	// MediaRing signs private media URLs; whoever serves them checks with its keys.
	// Default: Ring.
	MediaRing *sign.Ring
	// Store and BlobKeys are the blob API: storage without accounts. Without keys
	// there is none.
	Store    Store
	BlobKeys []BlobKey
	// Ready says why the process cannot do its work, or nil. Default: Feed's.
	Ready func() error
	Rand  io.Reader // source of tokens and salts; default crypto/rand

	PublicURL string // origin of the API, "https://photos.example"; no path
	MediaURL  string // origin of media URLs; default PublicURL
	Version   string // shown by /instance
	Limits    Limits
	Signup    Signup
	HEIF      bool // AVIF and HEIC are accepted: only for a decoder that reads them

	// TrustedProxies are the peers whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix

	// Media serves GET and HEAD under /media/. Without it they are 404.
	Media fasthttp.RequestHandler
	// Hits answers plain requests for photos that are in memory, as Media would: it
	// is cache.Cache.Hit. Without it Media answers them too.
	Hits func(head, target []byte) ([]byte, cache.Pinned, bool)
	// Page serves what is neither API nor media: the web page and its assets.
	// It reports false when it has nothing at that path. Without it there is no
	// page.
	Page func(*fasthttp.RequestCtx) bool

	// Events is called on request goroutines and must not block. Default: dropped.
	Events func(Event)
}

// Limits bound what one request, client or account may take. Zero fields take
// the default named beside them.
type Limits struct {
	PhotoBytes     int64         // 32 MiB: largest photo
	PhotoPixels    int64         // 100 million: most pixels of a photo
	BodyBytes      int64         // 64 KiB: largest JSON body, at most 4 MiB
	HeaderBytes    int           // 16 KiB: request line and header fields
	SpoolBytes     int64         // 256 MiB: uploads in memory at once
	MasterBytes    int64         // 128 MiB: pieces, of up to 1 MiB, of masters on their way to their owners
	SpoolWait      time.Duration // 5 s: wait for room among the uploads or the masters
	BytesPerSecond int64         // 64 KiB: slowest average of an upload or download; 16 times that while others wait for room
	HeaderTimeout  time.Duration // 10 s: header, and grace before the average counts
	IdleTimeout    time.Duration // 60 s: idle keep-alive connection
	CallTimeout    time.Duration // 30 s: one call, without its upload
	Connections    int           // 4096
	PerAddress     int           // 1024: connections of one address that is no trusted proxy
	Hashers        int           // 2: passwords hashed at once, 19 MiB each
	HashQueue      int           // 64: sign-ins that wait for a hasher
	Exports        int           // 8: archives of accounts on their way at once, one of each account
	Uploads        time.Duration // 15 min: life of an upload URL
	Session        time.Duration // 90 days: life of a session
	MediaTTL       time.Duration // 1 h: least life of a private media URL

	Rates Rates
}

// Rate is a token bucket: Burst at once, PerSecond after that.
type Rate struct {
	PerSecond float64
	Burst     float64
}

// Rates are the limits by what is counted. A zero Rate takes the default.
type Rates struct {
	Address Rate // 500/s, burst 5000: calls of one address (IPv6: one /64)
	Account Rate // 200/s, burst 2000: calls of one account
	Signup  Rate // 1/s, burst 120: accounts from one address
	Login   Rate // 0.5/s, burst 60: failed sign-ins from one address
	Handle  Rate // 0.1/s, burst 20: failed sign-ins for one handle from one network (IPv6: one /48)
	Handles Rate // 1/s, burst 1000: failed sign-ins for one handle from everywhere
}

const (
	kib = 1 << 10
	mib = 1 << 20
	day = 24 * time.Hour

	maxBodyBytes   = 4 * mib // bound on Limits.BodyBytes
	maxUploadBytes = 1 << 30 // bound on Limits.PhotoBytes
)

func orElse[T int | int64 | float64 | time.Duration](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

func (l Limits) withDefaults() Limits {
	orElse(&l.PhotoBytes, 32*mib)
	orElse(&l.PhotoPixels, 100_000_000)
	orElse(&l.BodyBytes, 64*kib)
	orElse(&l.HeaderBytes, 16*kib)
	orElse(&l.SpoolBytes, 256*mib)
	orElse(&l.MasterBytes, 128*mib)
	orElse(&l.SpoolWait, 5*time.Second)
	orElse(&l.BytesPerSecond, 64*kib)
	orElse(&l.HeaderTimeout, 10*time.Second)
	orElse(&l.IdleTimeout, 60*time.Second)
	orElse(&l.CallTimeout, 30*time.Second)
	orElse(&l.Connections, 4096)
	orElse(&l.PerAddress, 1024)
	orElse(&l.Hashers, 2)
	orElse(&l.HashQueue, 64)
	orElse(&l.Exports, 8)
	orElse(&l.Uploads, 15*time.Minute)
	orElse(&l.Session, 90*day)
	orElse(&l.MediaTTL, time.Hour)
	for _, r := range []struct {
		rate *Rate
		def  Rate
	}{
		{&l.Rates.Address, Rate{500, 5000}},
		{&l.Rates.Account, Rate{200, 2000}},
		{&l.Rates.Signup, Rate{1, 120}},
		{&l.Rates.Login, Rate{0.5, 60}},
		{&l.Rates.Handle, Rate{0.1, 20}},
		{&l.Rates.Handles, Rate{1, 1000}},
	} {
		if *r.rate == (Rate{}) {
			*r.rate = r.def
		}
	}
	return l
}

func (l Limits) validate() (errs []error) {
	bad := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("api: "+format, args...))
		}
	}
	bad(l.PhotoBytes > 0 && l.PhotoBytes <= maxUploadBytes, "limit PhotoBytes is %d, not 1 to %d", l.PhotoBytes, maxUploadBytes)
	bad(l.PhotoPixels > 0, "limit PhotoPixels is %d", l.PhotoPixels)
	bad(l.BodyBytes >= kib && l.BodyBytes <= maxBodyBytes, "limit BodyBytes is %d, not %d to %d", l.BodyBytes, kib, maxBodyBytes)
	bad(l.HeaderBytes >= 4*kib && l.HeaderBytes <= mib, "limit HeaderBytes is %d, not %d to %d", l.HeaderBytes, 4*kib, mib)
	bad(l.SpoolBytes >= l.PhotoBytes+formSlack, "limit SpoolBytes is %d, less than one photo with its form (%d)", l.SpoolBytes, l.PhotoBytes+formSlack)
	bad(l.MasterBytes > 0, "limit MasterBytes is %d", l.MasterBytes)
	bad(l.BytesPerSecond > 0, "limit BytesPerSecond is %d", l.BytesPerSecond)
	bad(l.Connections > 0 && l.PerAddress > 0, "limits Connections and PerAddress are %d and %d", l.Connections, l.PerAddress)
	bad(l.Hashers > 0 && l.HashQueue > 0, "limits Hashers and HashQueue are %d and %d", l.Hashers, l.HashQueue)
	bad(l.Exports > 0, "limit Exports is %d", l.Exports)
	for name, d := range map[string]time.Duration{"SpoolWait": l.SpoolWait, "HeaderTimeout": l.HeaderTimeout, "IdleTimeout": l.IdleTimeout,
		"CallTimeout": l.CallTimeout, "Uploads": l.Uploads, "Session": l.Session, "MediaTTL": l.MediaTTL} {
		bad(d > 0, "limit %s is %v", name, d)
	}
	for name, r := range map[string]Rate{"Address": l.Rates.Address, "Account": l.Rates.Account, "Signup": l.Rates.Signup, "Login": l.Rates.Login, "Handle": l.Rates.Handle, "Handles": l.Rates.Handles} {
		bad(r.PerSecond > 0 && r.Burst >= 1, "rate %s is %v/s with burst %v", name, r.PerSecond, r.Burst)
	}
	return errs
}

func (o Options) withDefaults() Options {
	if o.Clock == nil {
		o.Clock = clock.Real{}
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.MediaURL == "" {
		o.MediaURL = o.PublicURL
	}
	if o.MediaRing == nil {
		o.MediaRing = o.Ring
	}
	if o.Signup == "" {
		o.Signup = SignupOpen
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
		if o.Feed != nil {
			o.Ready = o.Feed.Ready
		}
	}
	if o.Version == "" {
		o.Version = "unknown"
	}
	o.Limits = o.Limits.withDefaults()
	return o
}

// Validate lists every fault at once.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	if o.Feed == nil && o.Media == nil && len(o.BlobKeys) == 0 {
		errs = append(errs, errors.New("api: no Feed, no Media and no BlobKeys: nothing to serve"))
	}
	if o.Feed != nil && o.Blobs == nil {
		errs = append(errs, errors.New("api: no Blobs"))
	}
	if o.Feed != nil && o.Ring == nil {
		errs = append(errs, errors.New("api: no Ring"))
	}
	if len(o.BlobKeys) > 0 && o.Store == nil {
		errs = append(errs, errors.New("api: no Store"))
	}
	if o.Signup != SignupOpen && o.Signup != SignupClosed {
		errs = append(errs, fmt.Errorf("api: sign-up mode %q is neither open nor closed", string(o.Signup)))
	}
	errs = append(errs, checkOrigin("PublicURL", o.PublicURL), checkOrigin("MediaURL", o.MediaURL))
	errs = append(errs, o.Limits.validate()...)
	return errors.Join(errs...)
}

// checkOrigin accepts scheme and authority alone: what is signed and compared
// with Origin must have one text.
func checkOrigin(name, s string) error {
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.Scheme+"://"+u.Host != s {
		return fmt.Errorf("api: %s %q is not an origin such as https://photos.example", name, s)
	}
	return nil
}
