package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"hayloft/api"
	"hayloft/cache"
	"hayloft/cache/tier"
	"hayloft/feed"
	"hayloft/feed/timeline"
	"hayloft/internal/raftgroup"
	"hayloft/media"
	"hayloft/volume"
	"hayloft/volume/server"
)

// The parts of Hayloft never log: they emit events, and this file turns them
// into log lines. Nothing here holds tokens, passwords, cookies or coordinates.

func (n *node) raftEvent(e raftgroup.Event) {
	log := n.log.With("group", e.Group)
	switch e.Kind {
	case raftgroup.EventLog:
		switch {
		case n.work.Err() != nil: // connections end when a node stops
			log.Debug(e.Text)
		case e.Level == raftgroup.Error:
			if e.Err != nil {
				log = log.With("err", e.Err)
			}
			log.Error(e.Text)
		case e.Level == raftgroup.Warn:
			log.Warn(e.Text)
		default:
			log.Debug(e.Text)
		}
	case raftgroup.EventLeader:
		log.Info("leads", "applied", e.Index)
	case raftgroup.EventFollower:
		log.Warn("leads no more")
	case raftgroup.EventStopped:
		if errors.Is(e.Err, raftgroup.ErrForeign) {
			n.foreign.Store(true)
		}
		if n.work.Err() == nil { // not asked for
			log.Error("the group stopped: no more writes", "err", e.Err)
		}
	case raftgroup.EventSnapshot:
		logOutcome(log, "snapshot", e.Err, "index", e.Index)
	case raftgroup.EventRestored:
		log.Info("state restored from a snapshot", "index", e.Index)
	case raftgroup.EventRebuilding:
		log.Warn("rebuilding the state from snapshot and log", "dir", e.Dir, "err", e.Err)
	case raftgroup.EventMirrorLost:
		log.Error("a directory is given up: metadata is on fewer disks until there is another", "dir", e.Dir, "err", e.Err)
	case raftgroup.EventMirrorMade:
		log.Info("a directory holds all metadata of the group now", "dir", e.Dir)
	}
}

// logOutcome logs what went well quietly and what failed loudly.
func logOutcome(log *slog.Logger, what string, err error, args ...any) {
	if err != nil {
		log.Error(what+" failed", append(args, "err", err)...)
		return
	}
	log.Info(what, args...)
}

func (n *node) timelineNotice(e timeline.Notice) {
	switch e.Kind {
	case timeline.Wiped:
		n.log.Warn("timelines start empty and are built again as readers come", "err", e.Err)
	case timeline.StorageFailed:
		n.log.Error("timelines: a background write failed and is tried again", "err", e.Err)
	case timeline.Homeless:
		n.log.Error("timelines: no directory is left, pages are pulled whole", "err", e.Err)
	case timeline.ReadFailed:
		n.log.Error("timelines: a page was pulled whole", "err", e.Err)
	}
}

func (n *node) feedNotice(e feed.Notice) {
	switch e.Kind {
	case feed.EffectRetried:
		n.log.Warn("effect failed and will be tried again", "effect", e.Effect.Seq, "photo", e.Effect.Photo, "attempts", e.Effect.Attempts, "err", e.Err)
	case feed.EffectParked:
		n.log.Error("effect is poisonous and parked", "effect", e.Effect.Seq, "photo", e.Effect.Photo, "attempts", e.Effect.Attempts, "err", e.Err)
	case feed.SweepFailed:
		n.log.Warn("sweeper: a command was not accepted and will be tried again", "err", e.Err)
	}
}

func (n *node) mediaEvent(e media.Event) {
	log := n.log.With("pid", e.PID)
	switch e.Kind {
	case media.EventStarted:
		log.Info("decoding child started", "engine", e.Engine)
	case media.EventStartFailed:
		log.Error("decoding child could not be started", "err", e.Err, "ended", e.Ended, "stderr", e.Stderr)
	case media.EventStruck:
		log.Warn("decoding child struck out on a photo", "err", e.Err, "ended", e.Ended, "stderr", e.Stderr)
	case media.EventRetired:
		log.Debug("decoding child retired")
	case media.EventDegraded:
		log.Warn("decoding child runs without a precaution", "err", e.Err)
	}
}

// cacheEvent writes one line a minute of what comes again with each request.
func (n *node) cacheEvent(e cache.Event) {
	again := fmt.Sprint("cache", e.Kind)
	if e.Kind == cache.FillFailed && !errors.Is(e.Err, tier.ErrDown) && !errors.Is(e.Err, tier.ErrBusy) {
		again += e.Key.Blob.String()
	}
	if !n.meshLog.first(again) {
		return
	}
	switch e.Kind {
	case cache.FillFailed:
		n.log.Error("cache: a fill failed", "variant", e.Key.Variant, "blob", e.Key.Blob, "err", e.Err)
	case cache.AccessFailed:
		n.log.Error("cache: access could not be asked", "blob", e.Key.Blob, "err", e.Err)
	case cache.PurgeLogFailed:
		n.log.Warn("cache: the purge log does not answer", "err", e.Err)
	case cache.PurgeLogGap:
		n.log.Warn("cache: the purge log has a gap, everything was dropped", "err", e.Err)
	}
}

func (n *node) apiEvent(e api.Event) {
	n.metrics.request(e)
	if e.Kind == api.EventRequest && !n.log.Enabled(context.Background(), slog.LevelDebug) {
		return // most of all events: spare them the line that nobody reads
	}
	log := n.log.With("route", strings.TrimSpace(e.Method+" "+e.Route), "address", e.Address)
	switch e.Kind {
	case api.EventRequest:
		log.Debug("request", "status", e.Status, "took", e.Took)
	case api.EventFault:
		log.Error("a call failed", "status", e.Status, "err", e.Err)
	case api.EventPanic:
		log.Error("a handler panicked", "err", e.Err, "note", e.Note)
	case api.EventServer:
		log.Debug("http: " + e.Note)
	case api.EventSignUp, api.EventSignIn, api.EventSignOut, api.EventPassword, api.EventKeyMade, api.EventKeyEnded, api.EventAccountDeleted, api.EventExport, api.EventArchive:
		log.Info("audit: "+auditNames[e.Kind], "account", e.Account)
	case api.EventSignInFail:
		log.Warn("audit: sign-in failed", "account", e.Account)
	case api.EventRateLimit:
		log.LogAttrs(context.Background(), slog.LevelWarn, "a limit refused a call", slog.String("limit", e.Note), slog.Any("account", e.Account))
	}
}

var auditNames = map[api.EventKind]string{
	api.EventSignUp: "account made", api.EventSignIn: "signed in", api.EventSignOut: "signed out",
	api.EventPassword: "password changed", api.EventKeyMade: "API key made", api.EventKeyEnded: "API key deleted", api.EventAccountDeleted: "account deleted",
	api.EventExport: "archive asked for", api.EventArchive: "archive taken",
}

func (n *node) blobEvent(e server.Event) {
	log := n.log
	if e.Dir != "" {
		log = log.With("dir", e.Dir)
	}
	if e.Volume != 0 {
		log = log.With("volume", e.Volume)
	}
	if line, ok := replicaLines[e.Kind]; ok {
		if e.Disk != 0 {
			log = log.With("disk", e.Disk)
		}
		if e.File != "" {
			log = log.With("file", e.File)
		}
		if e.Err != nil {
			log = log.With("err", e.Err)
		}
		log.Log(context.Background(), line.level, line.text)
		return
	}
	if line, ok := codedLines[e.Kind]; ok {
		var args []any
		if e.Err != nil {
			args = append(args, line.what, e.Err)
		}
		log.Log(context.Background(), line.level, line.text, args...)
		return
	}
	switch e.Kind {
	case server.EventVolume:
		n.metrics.events.WithLabelValues(e.Dir, e.Engine.Kind.String()).Inc()
		engineEvent(log, e.Engine)
	case server.EventVolumeSick:
		log.Error("a volume can't be opened and is out of service", "err", e.Err)
	case server.EventUnknownFile:
		log.Warn("a file that is not ours is left alone", "file", e.File)
	case server.EventDiskFailing:
		log.Error("the disk fails: nothing is written to it for now", "err", e.Err)
	case server.EventDiskFull:
		log.Error("the disk is full: nothing is written to it for now", "err", e.Err)
	case server.EventRolled:
		log.Info("the volume is closed, the next one follows", "why", e.Err)
	case server.EventLease:
		log.Warn("slot lease", "err", e.Err)
	case server.EventSealed:
		log.Info("the volume is sealed")
	case server.EventCompacted:
		log.Info("the volume is compacted, and served from its new generation")
	case server.EventUpkeepFailed:
		log.Error(e.Work+" the volume failed and will be tried again", "err", e.Err)
	case server.EventGeneration:
		log.Warn("another generation than the committed one is served", "err", e.Err)
	case server.EventDiskMissing:
		log.Warn("a disk of this node is missing: its volumes are out of service", "err", e.Err)
	case server.EventScrubFound, server.EventScrubRepaired, server.EventScrubUnrepairable:
		scrubEvent(log, e)
	case server.EventDiskHangs:
		log.Error("the disk does not answer: it is not read until it does")
	case server.EventDiskSuspect:
		log.Warn("the disk is suspect: photos go to others while there are any", "reason", e.Reason.String(), "err", e.Err)
	case server.EventDiskOut:
		log.Error("the disk is out of service: what lies on it answers 503, and new photos go to others", "reason", e.Reason.String(), "err", e.Err)
	case server.EventDiskBack:
		log.Warn("the disk is in service again", "reason", e.Reason.String())
	case server.EventDiskRefused:
		log.Error("what lies in the data directory is not taken into use", "err", e.Err)
	}
}

// replicaLines say how loud each event of a volume's replicas is, and what it means.
var replicaLines = map[server.EventKind]struct {
	level slog.Level
	text  string
}{
	server.EventLeftSync:        {slog.LevelWarn, "a replica is not in sync any more: it serves nothing until it is filled"},
	server.EventFilled:          {slog.LevelInfo, "a replica was filled, and is in sync"},
	server.EventReplicaRepaired: {slog.LevelInfo, "what was damaged in a replica was written again from another one"},
	server.EventQuarantined:     {slog.LevelWarn, "the file of a replica is not what it should be: it is kept in quarantine while another one takes its place"},
	server.EventDropped:         {slog.LevelInfo, "a file that is no replica of the volume any more was removed: the volume is complete without it"},
}

// codedLines say how loud each event of a coded volume is, what it means, and what its
// error tells.
var codedLines = map[server.EventKind]struct {
	level      slog.Level
	text, what string
}{
	server.EventCoded:        {slog.LevelInfo, "the volume is coded, and served out of its shards", "err"},
	server.EventKept:         {slog.LevelWarn, "the node that served a coded volume is away: this one serves it now", "err"},
	server.EventReleased:     {slog.LevelInfo, "the shards were read and are whole: the file that was coded goes", "err"},
	server.EventRevoked:      {slog.LevelError, "too many shards are lost: the file that was coded goes on, and is coded again", "err"},
	server.EventReclaimed:    {slog.LevelInfo, "the coded volume is written anew without what is deleted, and is coded again", "err"},
	server.EventShardDamaged: {slog.LevelError, "a shard is damaged: others make up for it, and it is repaired", "err"},
	server.EventRepaired:     {slog.LevelInfo, "damaged places of a shard were written again", "what"},
	server.EventRebuilt:      {slog.LevelInfo, "a lost shard was made again", "what"},
	server.EventDeleteLog:    {slog.LevelWarn, "a copy of the volume's delete log does not count any more, and is made again", "err"},
}

// tellOpened sums up what opening the volumes took.
func (n *node) tellOpened(took time.Duration) {
	st := n.blobs.Stats()
	var sum volume.Recovery
	scanned := 0
	for _, v := range st.Volumes {
		r := v.Recovery
		sum.Elapsed, sum.Walked = max(sum.Elapsed, r.Elapsed), sum.Walked+r.Walked
		sum.Kept, sum.Voided = sum.Kept+r.Kept, sum.Voided+r.Voided
		if !r.Checkpoint {
			scanned++
		}
	}
	n.log.Info("volumes are open", "volumes", len(st.Volumes), "took", took.Round(time.Millisecond), "slowest", sum.Elapsed.Round(time.Millisecond),
		"without_checkpoint", scanned, "walked", sum.Walked, "records_kept", sum.Kept, "places_dropped", sum.Voided)
}

// engineLines say how loud each event of a volume is, and what it means.
var engineLines = map[volume.EventKind]struct {
	level slog.Level
	text  string
}{
	volume.EventRecovered:         {slog.LevelInfo, "recovered after a crash"},
	volume.EventVoid:              {slog.LevelInfo, "a torn batch was dropped; nobody was told that it was stored"},
	volume.EventRot:               {slog.LevelError, "a part of the file is damaged; it is kept"},
	volume.EventCorruptRead:       {slog.LevelError, "a read failed verification, or the device failed it; nothing was served"},
	volume.EventPoisoned:          {slog.LevelError, "a write or sync failed: read-only from now on"},
	volume.EventNoSpace:           {slog.LevelError, "the disk is full: puts are refused for now"},
	volume.EventSuperblock:        {slog.LevelError, "one copy of the superblock is damaged; the other serves"},
	volume.EventMarkerFailed:      {slog.LevelError, "the poison marker could not be written"},
	volume.EventCheckpointFailed:  {slog.LevelWarn, "a checkpoint could not be written: the next start takes longer"},
	volume.EventIndexRebuilt:      {slog.LevelWarn, "the index was rebuilt from the whole file"},
	volume.EventScanning:          {slog.LevelInfo, "going through the file"},
	volume.EventPageCache:         {slog.LevelWarn, "the page cache can't be passed by here: the volume works, at a lower speed"},
	volume.EventFenced:            {slog.LevelInfo, "fenced: puts are refused from now on"},
	volume.EventSealed:            {slog.LevelInfo, "sealed"},
	volume.EventSealedIndexLost:   {slog.LevelWarn, "the sealed index is lost or damaged and is made again"},
	volume.EventSealedIndexFailed: {slog.LevelWarn, "the sealed index could not be written; it will be made again"},
	volume.EventCompacting:        {slog.LevelInfo, "compacting"},
	volume.EventCompacted:         {slog.LevelInfo, "compacted: a new generation is there"},
	volume.EventRepaired:          {slog.LevelInfo, "a damaged needle was replaced by a good copy"},
	volume.EventRemoved:           {slog.LevelInfo, "a leftover, an older generation or a file in quarantine was removed"},
	volume.EventReceived:          {slog.LevelInfo, "received: a generation came from another replica"},
	volume.EventQuarantined:       {slog.LevelWarn, "a file was moved to quarantine: another one takes its place here, or none"},
}

// engineEvent logs what a volume reports.
func engineEvent(log *slog.Logger, e volume.Event) {
	line, known := engineLines[e.Kind]
	if !known {
		line.level = slog.LevelError
	}
	args := []any{"event", e.Kind.String(), "offset", e.Offset, "length", e.Length}
	if e.Key != 0 {
		args = append(args, "key", e.Key)
	}
	if e.Elapsed != 0 {
		args = append(args, "took", e.Elapsed)
	}
	if r := e.Recovery; e.Kind == volume.EventRecovered {
		args = append(args, "walked", r.Walked, "records_kept", r.Kept, "places_dropped", r.Voided, "checkpoint", r.Checkpoint)
	}
	if e.Err != nil {
		args = append(args, "err", e.Err)
	}
	log.Log(context.Background(), line.level, "volume: "+line.text, args...)
}
