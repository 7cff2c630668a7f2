package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/api"
	"hayloft/cache"
	"hayloft/cache/meta"
	"hayloft/cache/ssd"
	"hayloft/cache/tier"
	"hayloft/directory"
	"hayloft/directory/fleet"
	"hayloft/directory/steward"
	"hayloft/feed"
	feedremote "hayloft/feed/remote"
	"hayloft/feed/search"
	"hayloft/feed/timeline"
	"hayloft/internal/clock"
	"hayloft/internal/heap"
	"hayloft/internal/id"
	"hayloft/internal/mesh"
	"hayloft/internal/raftgroup"
	"hayloft/internal/sign"
	"hayloft/media"
	"hayloft/media/transcode"
	"hayloft/volume/server"

	"golang.org/x/sync/errgroup"
)

// maxPhotoBytes is the largest photo: the default of the API's limit.
const maxPhotoBytes = 32 << 20

// node is one process with every role.
type node struct {
	s     *settings
	log   *slog.Logger
	clock clock.Clock
	who   nodeIdentity

	locksMu sync.Mutex // guards who.locks once the groups are open

	incarnation uint64
	adminToken  string
	identity    *mesh.Identity // nil without certificates
	mesh        *mesh.Mesh     // nil: this node is alone
	meshLog     meshLog
	directory   *directory.Directory
	group       *raftgroup.Group // the feed's
	ids         *id.Keeper
	ring        *sign.Ring    // of upload URLs and cursors
	mediaRing   *sign.Ring    // of private media URLs
	keys        []signingKeys // both, as the directory has them
	nodeID      directory.NodeID
	machine     *feed.Machine
	blobs       *server.Server
	fleet       *fleet.Fleet
	fleetNow    atomic.Pointer[fleet.Fleet] // fleet, for those who may ask before it is there
	steward     *steward.Steward
	wire        *wire              // nil: this node is alone
	feed        *feed.Feed         // nil without the role
	away        *feedremote.Client // the feed at other nodes, for want of one here
	pool        *media.Pool
	cache       *cache.Cache
	edge        *edge       // nil: this node is one of the cluster
	tierPath    tier.Path   // of what tiers ask this one
	device      *ssd.Tier   // the cache's; nil: it has none
	pages       *meta.Cache // what pages of a feed elsewhere are put together from; nil: none
	api         *api.API
	metrics     *metrics
	diskNews    serial        // of data directories, for those who keep metadata there
	onRequest   bool          // volumes are sealed and compacted only when that is asked for
	rebuilding  bool          // the directory is being made again from the disks
	replacing   atomic.Int32  // voters are being replaced by an operator's word
	settle      time.Duration // how long the steward listens before its first plan; 0: as it likes

	waiting atomic.Pointer[string] // what a start waits for; nil: nothing
	foreign atomic.Bool            // this node has a directory of its own, and others count on it in theirs

	work     context.Context // of what runs beside requests
	stopWork context.CancelFunc
	idle     chan struct{}         // closed when background work has ended; nil before it began
	broken   atomic.Pointer[error] // why background work ended early
}

// startNode opens every part, lowest first. What it has opened it closes again
// when one fails.
//
// early is told of the node before anything of it is open.
func startNode(ctx context.Context, s *settings, log *slog.Logger, early func(*node)) (n *node, err error) {
	wall, err := clockOf(os.LookupEnv, log)
	if err != nil {
		return nil, err
	}
	n = &node{s: s, log: log, clock: wall, metrics: newMetrics()}
	early(n)
	n.meshLog.n = n
	n.work, n.stopWork = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stop())
			n = nil
		}
	}()
	for _, step := range n.steps() {
		if err := step(ctx); err != nil {
			return n, err
		}
	}
	return n, nil
}

// offsetVariable makes the clock of a process wrong, for tests of clusters whose clocks
// disagree. It is no setting.
const offsetVariable = "HAYLOFT_CLOCK_OFFSET"

// clockOf is the machine's clock, unless a test has it shifted.
func clockOf(getenv func(string) (string, bool), log *slog.Logger) (clock.Clock, error) {
	text, ok := getenv(offsetVariable)
	if !ok {
		return clock.Real{}, nil
	}
	by, err := time.ParseDuration(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", offsetVariable, err)
	}
	log.Warn(offsetVariable+" is set, which is for tests: this process has the wrong time on purpose", "offset", by)
	return clock.Shifted{Clock: clock.Real{}, By: by}, nil
}

// openData locks the data directories and draws this run's incarnation.
func (n *node) openData(context.Context) (err error) {
	if n.who, err = claimNode(n.s.data, n.certified()); err != nil {
		return err
	}
	for _, err := range n.who.weak {
		n.log.Error("a data directory can't be used", "err", err)
	}
	if n.s.demo && n.who.fresh {
		// Noted before anything else can fail: the demo belongs to these directories.
		if err := beginDemo(n.s.data); err != nil {
			return err
		}
	}
	n.incarnation, err = newIncarnation()
	return err
}

// openGroups opens the Raft groups side by side, each replays its log, and waits
// until this node is let in and up to date.
func (n *node) openGroups(ctx context.Context) error {
	if err := n.mayBegin(ctx); err != nil {
		return err
	}
	join := len(n.s.join) > 0
	// One that gets the role later must not begin a second feed.
	late := n.mesh != nil && !join && !n.s.began(feedGroup)
	g, opening := errgroup.WithContext(ctx)
	g.Go(func() error { return n.openDirectory(opening) })
	if n.plays(roleFeed) && !late {
		g.Go(func() error { return n.openFeedGroup(opening, join) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if n.plays(roleFeed) && late {
		if err := n.openFeedGroup(ctx, !n.firstOfAll()); err != nil {
			return err
		}
	}
	n.recallAddresses()
	n.wire.answer(pathJoin, n.answerJoin)
	n.wire.answer(pathJoinFeed, n.answerJoinFeed)
	if err := n.awaitDirectory(ctx); err != nil {
		return err
	}
	if err := n.enrol(ctx); err != nil {
		return err
	}
	return n.sign(ctx)
}

// enrol makes this node known to the directory as it is now, and this process as the
// one it has.
func (n *node) enrol(ctx context.Context) error {
	row, err := n.directory.RegisterNode(ctx, n.spec())
	if err != nil {
		return err
	}
	n.nodeID = row.ID
	_, err = n.directory.StartNode(ctx, row.ID, row.Incarnation, n.incarnation)
	return err
}

// openDirectory opens this node's copy of the directory.
func (n *node) openDirectory(ctx context.Context) (err error) {
	if !n.rebuilding {
		if err := wholeDirectory(n.s.data); err != nil {
			return err
		}
	}
	n.directory, err = directory.Open(ctx, directory.Options{
		Dirs: in(n.s.data, directoryGroup...), Mirrors: n.s.mirrors(), Member: n.who.name, Clock: n.clock, Events: n.raftEvent,
		Transport: n.transport("directory"), Peers: n.peersAt(pathDirectory), Join: len(n.s.join) > 0,
	})
	if err != nil {
		return nameAll(err)
	}
	n.wire.serves(pathDirectory, n.directory.Serve)
	return nil
}

// openDirectoryAlone does so for a command that works while the server is stopped: on a
// directory of which the other copies are elsewhere nothing can be decided here.
func (n *node) openDirectoryAlone(ctx context.Context) error {
	if err := n.openDirectory(ctx); err != nil {
		return err
	}
	members, err := n.directory.Members()
	if err != nil {
		return err
	}
	if len(members) > 1 {
		return fmt.Errorf("this node is one of %d of a cluster: start it, and ask it with --admin", len(members))
	}
	return n.enrol(ctx)
}

// openFeedGroup opens this node's replica of the feed's state. join: if it has none, it
// waits to be given one.
func (n *node) openFeedGroup(ctx context.Context, join bool) (err error) {
	n.machine = feed.NewMachine()
	blocks, _ := feed.SplitBlocks(int64(n.s.feedBlocks))
	n.group, err = raftgroup.Open(ctx, raftgroup.Options{
		Dirs: in(n.s.data, feedGroup...), Mirrors: n.s.mirrors(), Name: "feed", NodeID: n.who.name, Machine: n.machine, Events: n.raftEvent, Tune: feed.Tune(blocks),
		Scratch:   func() raftgroup.Machine { return feed.NewMachine() },
		Transport: n.transport("feed"), Peers: n.peersAt(pathFeedGroup), Join: join,
	})
	if err != nil {
		return nameAll(err)
	}
	n.wire.serves(pathFeedGroup, n.group.Serve)
	return nil
}

// sign gets the keys that sign, and a slot for ids.
func (n *node) sign(ctx context.Context) error {
	if err := n.openKeys(ctx); err != nil {
		return err
	}
	n.ids = id.NewKeeper(id.KeeperOptions{
		Leaser: n.directory.Leaser(directory.AcquireRequest{Node: n.nodeID, Incarnation: n.incarnation, Kind: directory.IDs}),
		Clock:  n.clock,
		Failed: func(err error) { n.log.Warn("id lease", "err", err) },
	})
	return nil
}

// openFeed opens the feed on its group, or the way to one.
func (n *node) openFeed(context.Context) (err error) {
	if !n.plays(roleFeed) {
		n.away = feedremote.New(&feedNodes{n: n})
		return n.openPages()
	}
	_, blocks := feed.SplitBlocks(int64(n.s.feedBlocks))
	n.feed, err = feed.Open(feed.Options{
		Group: n.group, Machine: n.machine, Member: n.who.name, Mint: n.ids.Mint, Clock: n.clock, Lender: n.lender(),
		TimelineDirs: in(n.s.data, timelines...),
		Timeline: timeline.Options{
			Cap: n.s.timelineCap, Segment: n.s.timelineSegment, MaxFollowees: n.s.followeeThreshold,
			ActiveWindow: time.Duration(n.s.activeWindow), CacheBytes: blocks, Notify: n.timelineNotice,
		},
		SearchDirs: in(n.s.data, searchIndex...),
		Search:     search.Options{Notify: n.searchNotice},
		Policy: feed.Policy{
			CelebrityThreshold: uint64(n.s.celebrityThreshold), DeleteGrace: time.Duration(n.s.deleteGrace), MaxStale: time.Duration(n.s.maxStale),
		},
		RowBytes: int64(n.s.feedMemory), Notify: n.feedNotice,
	})
	if err == nil {
		served := feedremote.NewServer(n.feed)
		n.wire.answer(pathFeed, answerFeed(n.feed.Ready, served.Serve))
	}
	return err
}

// theFeed is the feed as the parts of this node use it; nil on the way of a command
// that works offline.
func (n *node) theFeed() feedOf {
	switch {
	case n.feed != nil:
		return n.feed
	case n.away != nil:
		return n.away
	}
	return nil
}

// openMedia makes the pool of decoding children, of the first kind that starts.
func (n *node) openMedia(ctx context.Context) error {
	if !n.plays(roleWorker) {
		return nil
	}
	commands, err := mediaCommands(n.s.mediaCommand)
	if err != nil {
		return err
	}
	for _, command := range commands {
		pool, perr := media.NewPool(media.PoolOptions{
			Command: command, Workers: n.mediaWorkers(), Clock: n.clock, Events: n.mediaEvent,
		})
		if perr != nil {
			return perr
		}
		engine, _, perr := pool.Probe(ctx)
		if perr == nil {
			n.pool = pool
			n.log.Info("decoding child", "command", strings.Join(command, " "), "engine", engine)
			return nil
		}
		pool.Close()
		n.log.Error("decoding child does not start", "command", command[0], "err", perr)
		err = errors.Join(err, perr)
	}
	return err
}

func (n *node) mediaWorkers() int {
	if n.s.mediaWorkers > 0 {
		return n.s.mediaWorkers
	}
	return runtime.NumCPU()
}

// startWork begins what runs beside requests: who is alive and who votes, timelines
// and sweeps, transcoding, reclaiming. When it fails this node is not ready any more.
func (n *node) startWork() error {
	n.idle = make(chan struct{})
	g, ctx := errgroup.WithContext(n.work)
	if n.edge != nil {
		g.Go(func() error { return n.followUpstream(ctx) })
		g.Go(func() error { n.warm(ctx); return nil })
		n.watchWork(g)
		return nil
	}
	g.Go(func() error { return n.runFleet(ctx) })
	g.Go(func() error { return n.followKeys(ctx) })
	if n.wire != nil {
		g.Go(func() error { return n.followDirectory(ctx) })
		g.Go(func() error { return n.stayIn(ctx) })
		g.Go(func() error { return n.runVoters(ctx, n.directoryVoters()) })
	}
	if n.feed != nil {
		g.Go(func() error { return n.feed.Run(ctx) })
		g.Go(func() error { heap.Pace(ctx, clock.Real{}); return nil })
		if n.wire != nil {
			g.Go(func() error { return n.runVoters(ctx, n.feedVoters()) })
		}
	} else {
		g.Go(func() error { return n.pingFeed(ctx, n.away) })
	}
	if n.plays(roleWorker) {
		if err := n.startWorkers(ctx, g); err != nil {
			n.stopWork()
			return errors.Join(err, g.Wait())
		}
	}
	n.watchWork(g)
	return nil
}

// watchWork says when background work has ended, and why when nobody asked for it.
func (n *node) watchWork(g *errgroup.Group) {
	go func() {
		defer close(n.idle)
		if err := g.Wait(); n.work.Err() == nil {
			// Reads go on: what is there can be served. A supervisor sees /readyz.
			err = fmt.Errorf("background work ended: %w", err)
			n.broken.Store(&err)
			n.log.Error("no more writes, timelines or transcoding until a restart", "err", err)
		}
	}()
}

// startWorkers begins to handle what the feed owes to the world.
func (n *node) startWorkers(ctx context.Context, g *errgroup.Group) error {
	push := n.newPusher()
	worker, err := n.transcoder(push)
	if err != nil {
		return err
	}
	g.Go(func() error { return push.run(ctx) })
	var owed effects = n.feed
	if n.feed == nil {
		owed = feed.Borrower{Lender: n.away, Holder: n.who.name, Clock: n.clock, Finish: n.away.Finish}
	}
	g.Go(func() error {
		return owed.RunEffects(ctx, feed.EffectTranscode, n.mediaWorkers(), func(ctx context.Context, e feed.Effect) error {
			return worker.Handle(ctx, transcode.Job{Photo: e.Photo})
		})
	})
	g.Go(func() error {
		return owed.RunEffects(ctx, feed.EffectReclaim, reclaimers, func(ctx context.Context, e feed.Effect) error {
			return n.blobs.Delete(ctx, e.Blob)
		})
	})
	return nil
}

// reclaimers is how many blobs are tombstoned at once: they share syncs.
const reclaimers = 8

// ready returns nil when requests can be served and writes accepted, as far as
// metadata is concerned. A full disk does not count: everything but uploads,
// which are told so, goes on.
func (n *node) ready() error {
	if err := n.broken.Load(); err != nil {
		return *err
	}
	if n.edge != nil {
		return n.edge.chain.Ready()
	}
	errs := []error{n.directory.Ready()}
	if n.plays(roleFeed) || n.plays(roleAPI) || n.plays(roleCache) && len(n.s.blobKeys) == 0 {
		errs = append(errs, n.theFeed().Ready())
	}
	return errors.Join(errs...)
}
