package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hayloft/api"
	"hayloft/cache"
	"hayloft/directory"
	"hayloft/directory/fleet"
	"hayloft/directory/steward"
	"hayloft/feed"
	"hayloft/feed/timeline"
	"hayloft/internal/clock"
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
	ring        *sign.Ring
	nodeID      directory.NodeID
	machine     *feed.Machine
	blobs       *server.Server
	fleet       *fleet.Fleet
	steward     *steward.Steward
	feed        *feed.Feed
	pool        *media.Pool
	cache       *cache.Cache
	api         *api.API
	metrics     *metrics
	diskNews    serial        // of data directories, for those who keep metadata there
	onRequest   bool          // volumes are sealed and compacted only when that is asked for
	rebuilding  bool          // the directory is being made again from the disks
	settle      time.Duration // how long the steward listens before its first plan; 0: as it likes

	work     context.Context // of what runs beside requests
	stopWork context.CancelFunc
	idle     chan struct{}         // closed when background work has ended; nil before it began
	broken   atomic.Pointer[error] // why background work ended early
}

// startNode opens every part, lowest first. What it has opened it closes again
// when one fails.
func startNode(ctx context.Context, s *settings, log *slog.Logger) (n *node, err error) {
	n = &node{s: s, log: log, clock: clock.Real{}, metrics: newMetrics()}
	n.meshLog.n = n
	n.work, n.stopWork = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = errors.Join(err, n.stop())
			n = nil
		}
	}()
	for _, step := range []func(context.Context) error{
		n.openIdentity, n.openData, n.openMesh, n.openAdmin, n.openGroups, n.openBlobs, n.openFleet, n.openFeed, n.openMedia, n.openFront,
	} {
		if err := step(ctx); err != nil {
			return n, err
		}
	}
	return n, nil
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

// openGroups opens the two Raft groups side by side: each replays its log.
func (n *node) openGroups(ctx context.Context) error {
	n.machine = feed.NewMachine()
	g, opening := errgroup.WithContext(ctx)
	g.Go(func() error { return n.openDirectory(opening) })
	g.Go(func() (err error) {
		n.group, err = raftgroup.Open(opening, raftgroup.Options{
			Dirs: in(n.s.data, feedGroup...), Mirrors: n.s.mirrors(), Name: "feed", NodeID: n.who.name, Machine: n.machine, Events: n.raftEvent,
			Scratch: func() raftgroup.Machine { return feed.NewMachine() },
		})
		return nameAll(err)
	})
	if err := g.Wait(); err != nil {
		return err
	}
	return n.sign(ctx)
}

// openDirectory opens the directory and makes this node known to it.
func (n *node) openDirectory(ctx context.Context) (err error) {
	if !n.rebuilding {
		if err := wholeDirectory(n.s.data); err != nil {
			return err
		}
	}
	n.directory, err = directory.Open(ctx, directory.Options{
		Dirs: in(n.s.data, directoryGroup...), Mirrors: n.s.mirrors(), Member: n.who.name, Clock: n.clock, Events: n.raftEvent,
	})
	if err != nil {
		return nameAll(err)
	}
	row, err := n.directory.RegisterNode(ctx, directory.NodeSpec{Name: n.who.name})
	n.nodeID = row.ID
	return err
}

// sign gets the keys that sign, and a slot for ids.
func (n *node) sign(ctx context.Context) error {
	keys, err := n.directory.EnsureKey(ctx, "sign")
	if err != nil {
		return err
	}
	ring := make([]sign.Key, len(keys))
	for i, k := range keys {
		ring[i] = sign.Key{Version: k.Version, Secret: k.Secret}
	}
	if n.ring, err = sign.NewRing(ring...); err != nil {
		return err
	}
	n.ids = id.NewKeeper(id.KeeperOptions{
		Leaser: n.directory.Leaser(directory.AcquireRequest{Node: n.nodeID, Incarnation: n.incarnation, Kind: directory.IDs}),
		Clock:  n.clock,
		Failed: func(err error) { n.log.Warn("id lease", "err", err) },
	})
	return nil
}

// openFeed opens the feed on its group.
func (n *node) openFeed(context.Context) (err error) {
	n.feed, err = feed.Open(feed.Options{
		Group: n.group, Machine: n.machine, Member: n.who.name, Mint: n.ids.Mint, Clock: n.clock,
		TimelineDirs: in(n.s.data, timelines...),
		Timeline: timeline.Options{
			Cap: n.s.timelineCap, ActiveWindow: time.Duration(n.s.activeWindow), Notify: n.timelineNotice,
		},
		Policy: feed.Policy{
			CelebrityThreshold: uint64(n.s.celebrityThreshold), DeleteGrace: time.Duration(n.s.deleteGrace),
		},
		Notify: n.feedNotice,
	})
	return err
}

// openMedia makes the pool of decoding children, of the first kind that starts.
func (n *node) openMedia(ctx context.Context) error {
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

// openFront opens what answers requests: the cache and the API.
func (n *node) openFront(context.Context) (err error) {
	n.cache, err = cache.New(cache.Options{
		Origin: origin{n.blobs}, Access: access{n.feed}, Purges: purger{n.feed},
		Ring: n.ring, Clock: n.clock, Budget: int64(n.s.cacheMemory), Events: n.cacheEvent,
	})
	if err != nil {
		return err
	}
	page, err := api.WebPage(n.s.mediaURL)
	if err != nil {
		return err
	}
	proxies := make([]netip.Prefix, len(n.s.trustedProxies))
	for i, p := range n.s.trustedProxies {
		proxies[i] = netip.MustParsePrefix(p) // validated with the settings
	}
	keys := make([]api.BlobKey, len(n.s.blobKeys))
	for i, k := range n.s.blobKeys {
		keys[i], _ = api.ParseBlobKey(k) // validated with the settings
	}
	n.api, err = api.New(api.Options{
		Store: blobStore{n.blobs}, BlobKeys: keys,
		Feed: front{n.feed, n.ready}, Blobs: masters{n.blobs}, Ring: n.ring, Clock: n.clock,
		PublicURL: n.s.publicURL, MediaURL: n.s.mediaURL, Version: version,
		Limits: api.Limits{PhotoBytes: maxPhotoBytes}, Signup: api.Signup(n.s.signup),
		TrustedProxies: proxies, Media: n.cache.Handle, Page: page, Events: n.apiEvent,
	})
	return err
}

// startWork begins what runs beside requests: timelines and sweeps, transcoding,
// reclaiming. When it fails this node is not ready any more.
func (n *node) startWork() error {
	worker, err := n.transcoder()
	if err != nil {
		return err
	}
	n.idle = make(chan struct{})
	g, ctx := errgroup.WithContext(n.work)
	g.Go(func() error { return n.feed.Run(ctx) })
	g.Go(func() error { return n.runFleet(ctx) })
	g.Go(func() error {
		return n.feed.RunEffects(ctx, feed.EffectTranscode, n.mediaWorkers(), func(ctx context.Context, e feed.Effect) error {
			return worker.Handle(ctx, transcode.Job{Photo: e.Photo})
		})
	})
	g.Go(func() error {
		return n.feed.RunEffects(ctx, feed.EffectReclaim, reclaimers, func(ctx context.Context, e feed.Effect) error {
			return n.blobs.Delete(ctx, e.Blob)
		})
	})
	go func() {
		defer close(n.idle)
		if err := g.Wait(); n.work.Err() == nil {
			// Reads go on: what is there can be served. A supervisor sees /readyz.
			err = fmt.Errorf("background work ended: %w", err)
			n.broken.Store(&err)
			n.log.Error("no more writes, timelines or transcoding until a restart", "err", err)
		}
	}()
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
	return errors.Join(n.feed.Ready(), n.directory.Ready())
}

// stop closes every part that is open, highest first. It may be called once.
// Requests have two thirds of the time, so that one slow upload does not keep
// leases from being given back. Those that take longer are cut short, which is no
// error: their clients were told nothing.
func (n *node) stop() error {
	third := time.Duration(n.s.drainTimeout) / 3
	if n.api != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 2*third)
		defer cancel()
		if err := n.api.Shutdown(ctx); err != nil {
			n.log.Warn("requests were cut short", "err", err)
		}
	}
	n.stopWork()
	if n.pool != nil {
		n.pool.Close()
	}
	ctx, cancel := context.WithTimeout(context.Background(), third)
	defer cancel()
	if n.idle != nil {
		select {
		case <-n.idle:
		case <-ctx.Done():
			// Closing what it uses would take its ground away. Everything
			// acknowledged is durable: leave the rest to the end of the process,
			// but for leases, which nobody else could have meanwhile.
			return errors.Join(errors.New("background work did not end in time"), n.blobs.Close(ctx), n.closeIDs())
		}
	}
	return n.closeParts(ctx)
}

// leaseTimeout bounds the giving back of the slot for ids. Time for it is there
// when everything else took too long.
const leaseTimeout = 2 * time.Second

func (n *node) closeIDs() error {
	ctx, cancel := context.WithTimeout(context.Background(), leaseTimeout)
	defer cancel()
	return n.ids.Close(ctx)
}

// closeParts closes what requests and background work used, which have ended.
func (n *node) closeParts(ctx context.Context) error {
	var errs []error
	if n.cache != nil {
		n.cache.Close()
	}
	if n.feed != nil {
		errs = append(errs, n.feed.Close())
	}
	if n.blobs != nil {
		errs = append(errs, n.blobs.Close(ctx))
	}
	if n.ids != nil {
		errs = append(errs, n.closeIDs())
	}
	if n.group != nil {
		errs = append(errs, n.group.Close())
	}
	if n.directory != nil {
		errs = append(errs, n.directory.Close())
	}
	if n.mesh != nil {
		errs = append(errs, n.mesh.Close(ctx))
	}
	n.locksMu.Lock()
	defer n.locksMu.Unlock()
	return errors.Join(append(errs, n.who.close())...)
}
