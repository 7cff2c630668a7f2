package arch

// The law. Rooms are import paths below the module; a room without a rule of
// its own has that of the nearest one above it.

// mayImport says which rooms of ours a room may import, besides itself and
// what lies in it. "*" is everything.
var mayImport = map[string][]string{
	"cmd":           {"*"},
	"api":           {"api", "media", "feed", "cache", "volume/server", "directory", "volume", "internal"},
	"bench":         {"bench", "client", "media", "feed", "cache", "volume/server", "directory", "volume", "volume/coding", "volume/coded", "internal"},
	"bench/feed":    {"bench", "api", "feed", "feed/timeline", "internal"}, // pages over HTTP, of a feed of its own
	"client":        {},                                                    // what the public imports brings nothing of ours along
	"media":         {"media", "volume", "internal"},
	"feed":          {"feed/timeline", "volume", "internal", "feed/search", "feed/derived"},
	"feed/timeline": {"internal"}, // the feed's leaf
	"feed/oracle":   {},           // what must hold, whatever the feed does
	"feed/search":   {"feed/derived", "internal"},
	"feed/derived":  {"internal"},
	"feed/remote":   {"feed", "internal"}, // the feed for those who have no replica
	"cache":         {"cache/policy", "volume", "internal"},
	"cache/policy":  {},                    // the cache's leaf
	"cache/tier":    {"cache", "internal"}, // a cache that fills from another
	"volume/server": {"volume", "volume/coding", "volume/coded", "internal"},
	"directory":     {"volume", "volume/coding/lifecycle", "internal"}, // the rules, not the encoder
	// Who acts on the table knows it; the table knows none of them.
	"directory/plan":    {"directory", "internal"},
	"directory/fleet":   {"internal"},
	"directory/steward": {"directory", "directory/plan", "directory/fleet", "internal"},
	"volume":            {"internal"},
	"volume/coded":      {"volume", "volume/coding", "internal"},
	"internal":          {"internal"},
	"internal/id":       {"internal/clock"},
	"volume/tools":      {"volume", "volume/coding", "volume/server", "internal"},
	// The wire knows the server, which does not know the wire.
	"volume/server/peer": {"volume", "volume/server", "internal"},
	// It kills the engine from outside.
	"volume/torture": {"volume", "internal/id", "internal/vfs"},
	// The nouns at the bottom import nothing of ours.
	"internal/clock":     {},
	"internal/histogram": {},
	"internal/vfs":       {},
	"internal/sign":      {},
	"internal/units":     {},
	"testdata":           {},
	"e2e":                {"client", "bench", "internal", "media", "volume/torture", "feed/oracle"}, // outside the house: through its doors
}

// notImported are rooms inside those of mayImport that it must not open.
// volume means the engine, not the server around it, nor what makes and
// serves shards.
var notImported = map[string][]string{
	"volume":        {"volume/server", "volume/tools", "volume/coding", "volume/coded"},
	"directory":     {"directory/plan", "directory/fleet", "directory/steward"},
	"volume/server": {"volume/server/peer"},
}

// testsMayImport are siblings that a room's tests may use, though the room
// itself must not: each names its reason.
var testsMayImport = map[string]map[string]string{
	"volume/server": {
		"directory":          "its own interface is tried against the real directory",
		"volume/server/peer": "a server's replicas are tried from another node",
	},
	"cache/ssd": {"bench/trace": "what is let in is measured on a trace"},
}

// testHelpers may be imported by tests and by one another, not by the product.
var testHelpers = []string{"feed/oracle", "media/mediatest", "internal/mesh/meshtest", "volume/server/peer/peertest"}

// photos are for the demo, the tests and their helpers.
var samples = map[string][]string{"testdata/photos": {"cmd/hayloft", "bench", "media/mediatest"}}

// placement says where a module may be imported by what is not a test. The
// longest prefix counts.
var placement = map[string][]string{
	"github.com/hashicorp":                 {"internal/raftgroup"},
	"go.etcd.io/bbolt":                     {"internal/raftgroup"},
	"github.com/cockroachdb/pebble":        {"directory", "feed", "feed/timeline", "internal/raftgroup", "internal/cutfs", "bench/feed", "feed/search", "feed/derived", "bench/likes"}, // they seed a state
	"github.com/valyala/fasthttp":          {"api", "cache", "volume/server", "bench", "bench/feed", "bench/cache"},
	"C":                                    {"cmd/hayloft-media"},
	"unsafe":                               {"cmd/hayloft-media", "cache", "volume", "volume/coding", "internal/vfs", "internal/slab", "internal/offheap"},                                                                                                                        // slabs outside the heap; the index's size; alignment for direct I/O
	"net":                                  {"cmd/hayloft", "api", "cache", "client", "bench", "bench/rig", "volume/server", "internal/admin", "internal/mesh", "internal/mesh/certs", "internal/mesh/meshtest", "internal/raftgroup", "bench/feed", "cache/meta", "bench/cache"}, // raft's streams
	"net/http":                             {"cmd/hayloft", "client", "bench", "bench/cluster", "bench/rig", "internal/admin", "volume/tools", "internal/mesh", "volume/server/peer", "cache/tier"},                                                                               // the admin listener: few requests, many features; nodes among themselves
	"net/url":                              {"cmd/hayloft", "client", "bench", "api", "api/web", "cache", "cache/tier", "internal/sign", "internal/admin", "volume/tools", "internal/mesh/certs", "bench/cache"},
	"net/netip":                            {"cmd/hayloft", "api", "client", "bench", "internal/admin"},
	"os/exec":                              {"cmd/hayloft", "media", "volume/torture", "bench/disk", "bench/rig", "bench/feed", "bench/cache"}, // decoding children; what is killed; Redis
	"log":                                  {"cmd/hayloft", "cmd/hayloft-media", "internal/mesh"},                                              // net/http takes nothing else, to make events of
	"log/slog":                             {"cmd/hayloft", "cmd/hayloft-media"},                                                               // engines emit events
	"github.com/prometheus":                {"cmd/hayloft"},
	"github.com/spf13":                     {"cmd/hayloft"},
	"github.com/pelletier/go-toml":         {"cmd/hayloft"},
	"github.com/getkin/kin-openapi":        {}, // tests only, as those below
	"github.com/chromedp":                  {},
	"pgregory.net/rapid":                   {},
	"go.uber.org/goleak":                   {},
	"testing":                              {"media/mediatest", "internal/mesh/meshtest", "volume/server/peer/peertest"},
	"github.com/anishathalye/porcupine":    {},
	"math/rand":                            {}, // math/rand/v2
	"io/ioutil":                            {},
	"github.com/DataDog/zstd":              {},
	"google.golang.org/protobuf":           {},
	"golang.org/x/image":                   {"media", "media/mediatest"},
	"golang.org/x/crypto":                  {"api"},
	"github.com/bbrks/go-blurhash":         {"media"},
	"github.com/bep/imagemeta":             {"media"},
	"github.com/klauspost/reedsolomon":     {"volume/coding"},
	"github.com/bradfitz/gomemcache":       {"cache/meta", "cache"},
	"github.com/bits-and-blooms/bloom":     {"cache/ssd"},
	"github.com/blevesearch/bleve":         {"feed"},
	"github.com/cockroachdb/pebble/v2/vfs": {"directory", "feed", "feed/timeline", "internal/raftgroup", "internal/cutfs", "feed/search", "feed/derived"},
	"golang.org/x/text":                    {"feed/search"},
}

// transitively says what must not be reached, over whatever imports, from
// where: the engine knows neither network nor raft nor Pebble, and so on.
var transitively = map[string][]string{
	"volume":        {"net", "net/http", "github.com/hashicorp", "github.com/cockroachdb/pebble", "github.com/valyala/fasthttp", "C"},
	"cache":         {"github.com/hashicorp", "github.com/cockroachdb/pebble", "C"},
	"media":         {"github.com/hashicorp", "github.com/cockroachdb/pebble", "github.com/valyala/fasthttp"},
	"feed/timeline": {"github.com/hashicorp/raft", "github.com/valyala/fasthttp"},
	"feed/search":   {"github.com/hashicorp/raft", "github.com/valyala/fasthttp"},
	"feed":          {"github.com/valyala/fasthttp"},
	"directory":     {"github.com/valyala/fasthttp"},
	"client":        {"github.com/hashicorp", "github.com/cockroachdb/pebble", "github.com/valyala/fasthttp"},
	"volume/server": {"github.com/hashicorp", "github.com/cockroachdb/pebble"},
}

const (
	maxFileLines     = 500 // of what is not a test
	maxFunctionLines = 70
)

// longFiles and longFunctions are exceptions: path, or path:function.
var longFiles = map[string]string{}

var longFunctions = map[string]string{}

// timeFuncs of package time read or await the machine's clock.
var timeFuncs = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}

// machineTime lists who may call them besides tests: a directory or a file.
var machineTime = map[string]string{
	"internal/clock": "it is the clock",
	"cmd":            "the process around the engines",
	"bench":          "measures the machine",
	"volume/torture": "kills processes of the machine",
	"client":         "runs in other people's programs, which have no clock of ours",

	"internal/mesh/meshtest":   "delays what sockets carry",
	"internal/admin/client.go": "patience with a socket",
	"api/conn.go":              "deadlines of sockets are machine time",
	"api/send.go":              "deadlines of sockets are machine time",
	"api/lane.go":              "deadlines of sockets are machine time, and so is the Date field, as the machinery makes it",
	"api/form.go":              "pace of a body that a socket delivers",
	"api/upload.go":            "pace of a body that a socket delivers",
	"api/spool.go":             "pace of bodies that sockets deliver",
}

// sleepers are tests that may call time.Sleep: they wait for what shows itself
// in no other way.
var sleepers = map[string]string{
	"api/limits_test.go":                "the server's own goroutines, seen from outside",
	"api/spool_test.go":                 "in a synctest bubble, whose clock is not the machine's",
	"volume/server/peer/slow_test.go":   "in a synctest bubble, whose clock is not the machine's",
	"cache/ssd/model_test.go":           "in a synctest bubble, whose clock is not the machine's",
	"cache/ssd/crash_test.go":           "in a synctest bubble, whose clock is not the machine's",
	"cache/ssd/tier_test.go":            "in a synctest bubble, whose clock is not the machine's",
	"internal/raftgroup/faults_test.go": "Sleep(0): yields",
	"feed/timeline/bench_test.go":       "Pebble's compactions come to rest without a word",
}

// skippers are tests that may skip what the machine does not have, outside CI, where they
// fail instead.
var skippers = map[string]string{
	"e2e/cluster_net_test.go":  "network namespaces and iptables want root",
	"e2e/cluster_disk_test.go": "loop devices want root",
}

// fileFuncs of package os touch files.
var fileFuncs = []string{
	"Open", "OpenFile", "Create", "CreateTemp", "ReadFile", "WriteFile", "Remove", "RemoveAll", "Rename", "Mkdir",
	"MkdirAll", "MkdirTemp", "Stat", "Lstat", "ReadDir", "Truncate", "Link", "Symlink", "Chmod", "Chtimes", "DirFS", "OpenRoot", "CopyFS",
}

// machineFiles lists who may call them besides tests.
var machineFiles = map[string]string{
	"internal/vfs":       "it is the file system",
	"internal/raftgroup": "raft, bbolt and Pebble take directories of the machine",
	"internal/testenv":   "the tally of a test run",
	"cmd":                "settings, tokens, locks and what the command line reads and writes",
	"bench":              "reports, and the disk it measures",
	"volume/tools":       "directories of a stopped server, which it only looks at, and what it decodes",
	"volume/torture":     "disks that are cut off",
	"media/child.go":     "/proc of the decoding children",
}

// foreignPaths may name paths of a machine.
var foreignPaths = map[string]string{
	"internal/arch/rules_test.go": "the rule itself",
	"internal/arch/arch_test.go":  "the rule itself and its test",
}
