// Package server is the blob server of one process: its data directories, the
// volumes on them, and the writers that append to those.
//
// Contract:
//
//   - A data directory is one disk. It holds an identity file (identity.go), so
//     that a disk is known whatever it is mounted as and two disks are never
//     taken for one another, and the folder volumes. One process at a time uses
//     it. Files this package does not know are left alone and reported.
//   - Durability. Write and Delete return nil only when what they did is on
//     stable storage. Reserve promises nothing: an id that is never written
//     costs nothing.
//   - Placement. Every disk has Options.OpenPerDisk writers for each class of
//     volume, each with a slot lease and an open tile of its own. What a writer mints lies in its tile,
//     and Write takes nothing else: an id whose tile has ended is ErrMoved, and
//     the caller reserves another. A volume that is full or poisoned, and a disk
//     without room, end in ErrMoved while another place can be had.
//   - Writes to several replicas (tile.go, holder.go, shun.go; decision 166). A tile may
//     have replicas on disks of other nodes. A group goes to all of them at once, and is
//     acknowledged when each has it; one that fails or is late costs the tile, and its
//     disk is avoided for a while. Writers that roam have no disk of their own. The
//     process that has the slot closes such tiles itself (tend.go).
//   - Deletes of several replicas (delete.go, primary.go; decision 167). Those of an open
//     volume go to all replicas in sync, those of others through the primary, which
//     numbers them. Who does not answer leaves the in-sync set first. What other nodes
//     ask of the replicas here is in replica.go; it is passed on to nobody.
//   - Reads of several replicas (source.go, latency.go). Those here first, then by distance,
//     another one when that is slow, the next when it fails. Only replicas in sync serve,
//     and only while this node has heard of the directory lately.
//   - Reads. What Read returns was verified by the engine. Not found is said
//     only under a table fetched since the call began, or by the volume that
//     holds the blob itself; else the answer is ErrUnavailable. What is corrupt
//     is volume.ErrCorrupt and never bytes.
//   - Memory of reads. Each disk has a share of Options.MaxReadBytes, booked
//     before it is read into and until the caller releases it, and a number of
//     places. Who has to wait is served in the order of coming. A read ends with
//     its context, and after Options.ReadTimeout at the latest, though the disk
//     hangs: what it brings too late is dropped. When a quarter of a disk's
//     places are taken by such reads it is not asked until it answers them. So a
//     disk that hangs costs its own readers, and its share.
//   - Life (upkeep.go, steps.go; decision 115). A goroutine per disk moves its
//     volumes on: it closes the tile of one that is old or poisoned, seals one
//     whose tile is closed (one that is poisoned goes on as its next generation:
//     salvage.go), compacts one of which much is dead, and removes what
//     was replaced, one job at a time and held to a rate. The directory decides
//     each step and the server executes it: it removes a file only after a
//     commit, and after reading back what replaces it. Nothing but directory and
//     files is remembered: each step finds what an earlier process has done.
//   - Birth (birth.go; decision 121). A volume's row is committed, then its file
//     made durable, then the row confirmed, and only then anything is written. A
//     row that a crash left unconfirmed holds nothing: the upkeep has it made
//     void, and then removes its file if that holds no needle.
//   - Generations. The one that is served is the one the directory has committed
//     when both are on the disk. While they change, the table of this node and
//     its disk may be of different moments; any generation that compaction made
//     answers for any other of its volume, since all hold the same but for what
//     is deleted, and go by one delete log. Calls under way end on the generation
//     they began with.
//   - Coded volumes (coder.go, coded.go; decision 138). The coder has epochs given
//     out, makes and reads back their shards, has them committed, and has the source
//     let go after a grace and one more look at every shard. A committed epoch
//     serves whatever else there is of its volume: it knows all deletes. Those wait at
//     a gate (gate.go) while the volume passes from its file to shards or from one
//     epoch to the next. What is lost is made again, on another disk when its own does
//     not come back; with more than m shards lost the answer is ErrUnavailable with
//     their numbers, and nothing is removed.
//   - Replicas on several nodes (together.go, sealing.go, union.go, making.go, fill.go,
//     admit.go, repair.go, drop.go; decisions 168 to 170). The first replica in sync whose
//     disk is there moves a volume on, and asks the others what Peer offers; nothing goes
//     wrong when two do. They are sealed and compacted together, and those that do not
//     hold the same are left out by the commit. A replica that is not in sync, or cannot
//     be served, is made right by its own node and admitted by the primary, under the
//     gate of its deletes. What is damaged is restored from another replica. A file that
//     the row does not list is served to nobody, and kept until the volume is complete
//     without it.
//   - Coded volumes on several nodes (keeper.go, shelf.go, site.go; decision 164). One
//     node serves a coded volume, the keeper that its row names under a term; the others
//     ask it. A folder of shards is a shelf, which the node of its disk gives out to one
//     keeper at a time, whoever has the latest term, when no call of the former one is
//     under way any more. The keeper uses shelves here and elsewhere as file systems.
//     When it is away the next home's node takes over. A node that is alone has no
//     keepers and no shelves.
//   - Containment. A sick volume or disk is out of service and reported, and
//     the process goes on.
//   - Health (health.go, watch.go; decision 136). A goroutine for each data
//     directory looks every second at what the disk's file system (observe.go)
//     saw: errors of the device, and calls that wait. A disk that fails or hangs is out
//     until it is sound again: reads are refused with its name, writes get
//     ErrMoved, also those under way. One of which identity file or directory are not
//     what was claimed has vanished and is out for good: it leaves Server.all, its
//     volumes are closed by goroutines for which nobody waits, and its file system lets no
//     call through any more. Its directory is taken into use again by the rules of
//     docs/data-directory.md, as another disk.
//   - Scrub (scrub*.go; decision 137). A goroutine per disk reads everything there
//     from the device, one item after another, spread over Options.ScrubEvery. What is
//     damaged is told, and made good from what else there is. Files that certainly are
//     nobody's of Hayloft are moved aside; nothing is removed.
//
// Threads: every method may be called from many goroutines. Event handlers are
// called without locks held and must not block.
//
// Locks: Server.mu guards the maps of volumes and is never held during I/O. A
// writer's gate is held while it opens a volume, calls to the directory
// included; nothing else is locked under it but a disk's birth, Server.mu and
// disk.mu. A disk's turn is held by the job at work there, which may take a
// writer's gate; its birth is held under a gate or a turn, while a volume is made or
// given up. The coder's turn is held by its own job, which may wait for a disk's job,
// and never the other way round. A volume's gate of deletes is held while the directory
// is asked and its shards are opened, and for a second at most while a replica joins. No
// turn is waited for by what other nodes ask: what they have made here takes a place of
// its own (disk.helping, disk.making), under which nothing is asked of another node but needles. handle.mu, codedVolume.mu and jobs are held for
// moments and nothing is locked under them; so are seat.mu, fleet.mu and observer.mu.
package server
