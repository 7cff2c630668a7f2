package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"hayloft/api"
	"hayloft/cache/policy"
	"hayloft/feed"
	"hayloft/internal/heap"
	"hayloft/internal/units"
	"hayloft/volume/coding"

	"github.com/pelletier/go-toml/v2"
	"github.com/spf13/pflag"
)

// settings are what the server can be told. Each is a flag; the same name in
// upper case with HAYLOFT_ in front is its environment variable, and the same
// name is its key in the TOML file. The first of these that is given wins.
type settings struct {
	data           []string
	listen         string
	adminListen    string
	adminOpen      bool
	adminNames     []string
	nodeListen     string
	nodeAdvertise  string
	certs          string
	tls            tlsSettings
	publicURL      string
	mediaURL       string
	trustedProxies []string
	signup         string
	blobKeys       []string
	logFormat      string
	mediaCommand   string
	mediaWorkers   int

	volumeSize  units.Size
	diskReserve units.Size
	cacheMemory units.Size
	cachePolicy string
	device      deviceSettings
	memcached   []string

	openVolumes     int
	sealAfter       units.Duration
	compactGarbage  float64
	maintenanceRate units.Size

	ec          coding.Policy
	ecAfter     units.Duration
	ecGrace     units.Duration
	repairDelay units.Duration
	scrubEvery  units.Duration

	roles    []role
	join     []string
	upstream []string
	replicas int
	voters   int
	maxStale units.Duration
	host     string
	rack     string
	zone     string

	celebrityThreshold int
	feedMemory         units.Size
	feedBlocks         units.Size
	timelineCap        int
	timelineSegment    int
	followeeThreshold  int
	activeWindow       units.Duration
	deleteGrace        units.Duration
	drainTimeout       units.Duration

	config      string
	printConfig bool
	demo        bool
}

// policyValue is a flag that holds K+M, or nothing.
type policyValue struct{ p *coding.Policy }

func (v policyValue) String() string {
	if v.p == nil || *v.p == (coding.Policy{}) {
		return ""
	}
	return v.p.String()
}

func (v policyValue) Type() string { return "K+M" }

// Set parses K+M. Nothing is no coding.
func (v policyValue) Set(s string) error {
	if s == "" {
		*v.p = coding.Policy{}
		return nil
	}
	p, err := coding.ParsePolicy(s)
	if err == nil {
		*v.p = p
	}
	return err
}

// notSettings are flags that say what to do now rather than how to run.
var notSettings = []string{"config", "print-config", "demo", "help"}

func (s *settings) define(f *pflag.FlagSet) {
	s.volumeSize = units.Size(32 << 30)
	s.diskReserve = units.Size(1 << 30)
	s.cacheMemory = units.Size(256 << 20)
	s.drainTimeout = units.Duration(15 * time.Second)
	s.sealAfter = units.Duration(30 * 24 * time.Hour)
	s.maintenanceRate = units.Size(64 << 20)
	s.ecAfter = units.Duration(90 * 24 * time.Hour)
	s.ecGrace = units.Duration(time.Hour)
	s.repairDelay = units.Duration(10 * time.Minute)
	s.scrubEvery = units.Duration(14 * 24 * time.Hour)

	s.roles = slices.Clone(everyRole)
	s.maxStale = units.Duration(5 * time.Minute)
	f.Var(rolesValue{&s.roles}, "roles", "what this node does: all, or some of "+joinRoles(everyRole))
	f.StringSliceVar(&s.join, "join", nil, "node listeners of the cluster that this node is to join; the very first node of a cluster starts without")
	f.StringSliceVar(&s.upstream, "upstream", nil, "node listeners of cache nodes, as in https://10.0.0.1:9443, that this cache fills from; with --roles cache alone: it is no member of the cluster")
	f.IntVar(&s.replicas, "replicas", 0, "replicas of each new volume (default 2 with --node-listen, else 1)")
	f.IntVar(&s.voters, "voters", 5, "nodes that vote in each group at most: 1, 3 or 5; there are fewer as long as there are fewer nodes")
	f.Var(&s.maxStale, "max-stale", "how long a node that is cut off from the others goes on answering reads")
	f.StringVar(&s.host, "host", "", "machine of this node, when several nodes share one: their replicas are kept apart as far as possible")
	f.StringVar(&s.rack, "rack", "", "rack of this node")
	f.StringVar(&s.zone, "zone", "", "zone of this node")
	f.StringSliceVar(&s.data, "data", []string{"./data"}, "data directories, one for each disk; metadata is on several of them")
	s.tls.define(f)
	f.StringVar(&s.listen, "listen", "127.0.0.1:8080", "address of the API, media and web page")
	f.StringVar(&s.adminListen, "admin-listen", "127.0.0.1:9090", "address of metrics, health, profiles and the commands of operators")
	f.BoolVar(&s.adminOpen, "admin-open", false, "let everybody who reaches admin-listen change things, without the token in admin.token")
	f.StringSliceVar(&s.adminNames, "admin-names", nil, "host names besides localhost under which admin-listen answers; its addresses always do")
	f.StringVar(&s.nodeListen, "node-listen", "", "address of the node listener, for the other nodes of a cluster (default: this node is alone)")
	f.StringVar(&s.nodeAdvertise, "node-advertise", "", "host:port under which other nodes find the node listener (default node-listen)")
	f.StringVar(&s.certs, "certs", "", "directory with ca.pem, node.pem and node.key, as hayloft cert makes it; the name in the certificate is the node's")
	f.StringVar(&s.publicURL, "public-url", "", "base of the URLs handed out (default http:// and the listen address)")
	f.StringVar(&s.mediaURL, "media-url", "", "base of media URLs (default the public URL)")
	f.StringSliceVar(&s.trustedProxies, "trusted-proxies", nil, "networks whose X-Forwarded-For is believed, as in 10.0.0.0/8")
	f.StringVar(&s.signup, "signup", "open", "who may make an account: open or closed")
	f.StringSliceVar(&s.blobKeys, "blob-keys", nil, "keys of the blob API, as hayloft user blob-key prints them; without any there is none")
	f.StringVar(&s.logFormat, "log-format", "text", "log lines as text or json")
	f.StringVar(&s.mediaCommand, "media-command", "", "decoding child process (default hayloft-media beside this binary, else the pure Go worker)")
	f.IntVar(&s.mediaWorkers, "media-workers", 0, "decoding child processes (default one for each core)")
	f.Var(&s.volumeSize, "volume-size", "size at which a volume is closed")
	f.Var(&s.diskReserve, "disk-reserve", "free space on each disk that photos never take")
	f.Var(&s.cacheMemory, "cache-memory", "memory of the photo cache")
	f.StringVar(&s.cachePolicy, "cache-policy", policy.Default, "what leaves the photo cache when room is needed: "+strings.Join(policy.Names(), ", "))
	s.device.define(f)
	f.StringSliceVar(&s.memcached, "memcached", nil, "memcached servers, host:port, that nodes without a replica of the feed share what they know of photos in (default: each for itself)")
	f.IntVar(&s.openVolumes, "open-volumes", 1, "volumes of each class that each disk has open at a time")
	f.Var(&s.sealAfter, "seal-after", "age at which an open volume is sealed though it is not full")
	f.Float64Var(&s.compactGarbage, "compact-garbage", 0.25, "share of a sealed volume that must be garbage for it to be compacted by itself")
	f.Var(&s.maintenanceRate, "maintenance-rate", "bytes per second and disk that sealing, compaction, verification and exports take, a quarter of it beside traffic")
	f.Var(policyValue{&s.ec}, "ec", "K+M, as in 4+2: code sealed volumes into K data and M parity shards; they and metadata survive the loss of any M disks (default: no coding, metadata survives any two)")
	f.Var(&s.ecAfter, "ec-after", "age since it was sealed at which a volume of originals is coded by itself")
	f.Var(&s.ecGrace, "ec-grace", "how long the source of a coded volume is kept beside its shards")
	f.Var(&s.repairDelay, "repair-delay", "how long a node or a disk may be away before what it holds is made again elsewhere")
	f.Var(&s.scrubEvery, "scrub-every", "time in which everything on each disk is read once, verified and repaired")
	s.defineFeed(f)
	f.Var(&s.drainTimeout, "drain-timeout", "how long a clean stop may take; requests have two thirds of it")
	f.StringVar(&s.config, "config", "", "TOML file with settings")
	f.BoolVar(&s.printConfig, "print-config", false, "print each setting and where it comes from, then stop")
	f.BoolVar(&s.demo, "demo", false, "load the demo when the data directory is new (loopback only)")
}

// defineFeed is define for the feed.
func (s *settings) defineFeed(f *pflag.FlagSet) {
	s.feedMemory = units.Size(256 << 20)
	s.feedBlocks = units.Size(feed.BlockCache(heap.Machine()))
	s.activeWindow = units.Duration(30 * 24 * time.Hour)
	s.deleteGrace = units.Duration(30 * 24 * time.Hour)
	f.IntVar(&s.celebrityThreshold, "celebrity-threshold", 10_000, "followers from which new posts are pulled instead of pushed")
	f.Var(&s.feedMemory, "feed-memory", "memory of the feed for rows that pages share")
	f.Var(&s.feedBlocks, "feed-block-cache", "memory of the feed for blocks of its state and its timelines; by default an eighth of the machine's, 192MiB at least and 4GiB at most")
	f.IntVar(&s.timelineCap, "timeline-cap", 500, "entries kept in each timeline")
	f.IntVar(&s.timelineSegment, "timeline-segment", 500, "entries that a page below a timeline's end gathers for those after it too")
	f.IntVar(&s.followeeThreshold, "followee-threshold", 2000, "followees above which a reader has no timeline and pulls every page")
	f.Var(&s.activeWindow, "active-window", "readers away for longer receive no pushes")
	f.Var(&s.deleteGrace, "delete-grace", "how long a deleted photo can be restored")
}

// source says where a setting came from.
type source string

const (
	fromDefault source = "default"
	fromFlag    source = "flag"
)

// resolve fills in what no flag gave from the environment and the file, and
// returns the source of each setting. Every mistake is reported at once.
func resolve(f *pflag.FlagSet, getenv func(string) (string, bool)) (map[string]source, error) {
	file, err := readConfig(f, getenv)
	if err != nil {
		return nil, err
	}
	from := map[string]source{}
	var faults []error
	f.VisitAll(func(fl *pflag.Flag) {
		if slices.Contains(notSettings, fl.Name) {
			return
		}
		from[fl.Name] = fromDefault
		env := "HAYLOFT_" + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		value, given := getenv(env)
		where := source("environment " + env)
		if !given {
			value, given = file.values[fl.Name]
			where = source("file " + file.name)
		}
		delete(file.values, fl.Name)
		switch {
		case fl.Changed:
			from[fl.Name] = fromFlag
		case given:
			from[fl.Name] = where
			if err := f.Set(fl.Name, value); err != nil {
				faults = append(faults, fmt.Errorf("%s: %s: %w", where, fl.Name, err))
			}
		}
	})
	for name := range file.values {
		faults = append(faults, fmt.Errorf("file %s: there is no setting %q", file.name, name))
	}
	return from, errors.Join(faults...)
}

type configFile struct {
	name   string
	values map[string]string
}

// readConfig reads the TOML file that --config or HAYLOFT_CONFIG names.
func readConfig(f *pflag.FlagSet, getenv func(string) (string, bool)) (configFile, error) {
	name := f.Lookup("config").Value.String()
	if name == "" {
		name, _ = getenv("HAYLOFT_CONFIG")
	}
	c := configFile{name, map[string]string{}}
	if name == "" {
		return c, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return c, err
	}
	var doc map[string]any
	if err := toml.Unmarshal(text, &doc); err != nil {
		return c, fmt.Errorf("file %s: %w", name, err)
	}
	for key, v := range doc {
		switch v := v.(type) {
		case []any:
			parts := make([]string, len(v))
			for i := range v {
				parts[i] = fmt.Sprint(v[i])
			}
			c.values[key] = strings.Join(parts, ",")
		case map[string]any:
			return c, fmt.Errorf("file %s: %q is a table, settings are plain keys", name, key)
		default:
			c.values[key] = fmt.Sprint(v)
		}
	}
	return c, nil
}

// printSettings writes each setting with its source, as a TOML file would have it.
func printSettings(w io.Writer, f *pflag.FlagSet, from map[string]source) error {
	var err error
	f.VisitAll(func(fl *pflag.Flag) {
		if src, ok := from[fl.Name]; ok && err == nil {
			_, err = fmt.Fprintf(w, "%-22s = %-28s # %s\n", fl.Name, tomlValue(fl), src)
		}
	})
	return err
}

func tomlValue(fl *pflag.Flag) string {
	switch v := fl.Value.(type) {
	case pflag.SliceValue:
		quoted := make([]string, 0, 4)
		for _, s := range v.GetSlice() {
			quoted = append(quoted, fmt.Sprintf("%q", s))
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	default:
		if t := fl.Value.Type(); t == "int" || t == "bool" || t == "float64" {
			return fl.Value.String()
		}
		return fmt.Sprintf("%q", fl.Value.String())
	}
}

// targetReplicas is how many replicas each new volume should have.
func (s *settings) targetReplicas() int {
	switch {
	case s.replicas > 0:
		return s.replicas
	case s.nodeListen != "":
		return 2
	}
	return 1
}

// lossesByDefault is how many data directories metadata survives without --ec.
const lossesByDefault = 2

// mirrors is in how many data directories the metadata is.
func (s *settings) mirrors() int {
	m := lossesByDefault
	if s.ec.Parity > 0 {
		m = s.ec.Parity
	}
	return min(len(s.data), m+1)
}

// adminHosts are the names under which the admin listener answers.
func (s *settings) adminHosts() []string {
	host, _, err := net.SplitHostPort(s.adminListen)
	if err != nil || host == "" {
		return s.adminNames
	}
	return append([]string{host}, s.adminNames...)
}

// validate lists every fault at once.
func (s *settings) validate() error {
	var faults []error
	fault := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	fault(len(s.data) > 0 && !slices.Contains(s.data, ""), "--data names no directory")
	fault(s.volumeSize >= units.Size(2*maxPhotoBytes), "--volume-size %s is less than twice the largest photo (%s)", s.volumeSize, units.Size(maxPhotoBytes))
	fault(s.cacheMemory >= 1<<20, "--cache-memory %s is less than 1MiB", s.cacheMemory)
	badPolicy := policy.Check(s.cachePolicy)
	fault(badPolicy == nil, "--cache-policy %v", badPolicy)
	s.validateFeed(fault)
	s.validateUpkeep(fault)
	fault(s.replicas >= 0 && s.replicas <= 8, "--replicas %d: 1 to 8", s.replicas)
	fault(s.voters == 1 || s.voters == 3 || s.voters == 5, "--voters %d: 1, 3 or 5", s.voters)
	fault(s.maxStale >= units.Duration(10*time.Second), "--max-stale %s is less than 10s", s.maxStale)
	for _, j := range s.join {
		_, _, err := net.SplitHostPort(j)
		fault(err == nil, "--join %q is not host:port", j)
	}
	fault(s.drainTimeout > 0, "--drain-timeout must be positive")
	fault(s.mediaWorkers >= 0, "--media-workers must not be negative")
	fault(s.signup == "open" || s.signup == "closed", "--signup %q is neither open nor closed", s.signup)
	fault(s.logFormat == "text" || s.logFormat == "json", "--log-format %q is neither text nor json", s.logFormat)
	for _, u := range []struct{ name, url string }{{"public-url", s.publicURL}, {"media-url", s.mediaURL}} {
		if u.url != "" {
			p, err := url.Parse(u.url)
			fault(err == nil && (p.Scheme == "http" || p.Scheme == "https") && p.Host != "" && p.Scheme+"://"+p.Host == strings.TrimSuffix(u.url, "/"),
				"--%s %q is not an origin such as https://photos.example.org", u.name, u.url)
		}
	}
	for _, k := range s.blobKeys {
		_, err := api.ParseBlobKey(k)
		fault(err == nil, "--blob-keys: %v", err)
	}
	for _, p := range s.trustedProxies {
		_, err := netip.ParsePrefix(p)
		fault(err == nil, "--trusted-proxies: %q is not a network such as 10.0.0.0/8", p)
	}
	for _, n := range s.adminNames {
		fault(n != "" && !strings.ContainsAny(n, ":/*@[] "), "--admin-names: %q is not a host name such as hayloft.internal", n)
	}
	for _, a := range []struct{ name, addr string }{{"listen", s.listen}, {"admin-listen", s.adminListen}} {
		_, _, err := net.SplitHostPort(a.addr)
		fault(err == nil, "--%s %q is not host:port", a.name, a.addr)
	}
	faults = append(faults, s.validateNode()...)
	faults = append(faults, append(s.validateEdge(), s.tls.validate())...)
	faults = append(faults, s.device.validate()...)
	faults = append(faults, validateMemcached(s.memcached)...)
	if s.publicURL == "" {
		fault(!everyAddress(s.listen) || s.isEdge(), "--listen %s is every address of this machine: say --public-url, the base of the URLs that are handed out", s.listen)
	}
	if err := errors.Join(faults...); err != nil {
		return usageError{err}
	}
	return nil
}

// validateFeed is validate for the feed.
func (s *settings) validateFeed(fault func(ok bool, format string, args ...any)) {
	fault(s.celebrityThreshold > 0, "--celebrity-threshold must be positive")
	fault(s.feedMemory >= 1<<20, "--feed-memory %s is less than 1MiB", s.feedMemory)
	fault(s.feedBlocks >= 3<<20, "--feed-block-cache %s is less than 3MiB", s.feedBlocks)
	fault(s.timelineCap > 0, "--timeline-cap must be positive")
	fault(s.timelineSegment > 0 && s.followeeThreshold > 0, "--timeline-segment and --followee-threshold must be positive")
	fault(s.deleteGrace > 0, "--delete-grace must be positive: DELETE …?purge=now removes at once")
	fault(s.activeWindow > 0, "--active-window must be positive")
}

// validateUpkeep is validate for volumes and their upkeep.
func (s *settings) validateUpkeep(fault func(ok bool, format string, args ...any)) {
	fault(s.diskReserve > 0, "--disk-reserve must be positive: deletes need room too")
	fault(s.openVolumes >= 1 && s.openVolumes <= 64, "--open-volumes %d: 1 to 64", s.openVolumes)
	fault(s.sealAfter > 0, "--seal-after must be positive")
	fault(s.compactGarbage > 0 && s.compactGarbage <= 1, "--compact-garbage %v: a share above 0, at most 1", s.compactGarbage)
	fault(s.maintenanceRate > 0, "--maintenance-rate must be positive")
	fault(s.ecAfter > 0, "--ec-after must be positive")
	fault(s.ecGrace > 0, "--ec-grace must be positive")
	fault(s.repairDelay > 0, "--repair-delay must be positive")
	fault(s.scrubEvery >= units.Duration(time.Hour), "--scrub-every %s is less than an hour", s.scrubEvery)
}

// everyAddress reports whether host:port is that port of every address.
func everyAddress(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip, perr := netip.ParseAddr(host)
	return err == nil && (host == "" || perr == nil && ip.IsUnspecified())
}
