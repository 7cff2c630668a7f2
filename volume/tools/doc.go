// Package tools is what an operator can do with volumes: list, show, dump, verify,
// export, seal, compact, code into shards, rebuild and decode these, and ask why
// something cannot be read. The command line prints what it returns.
//
// There are three ways to the volumes, and one meaning of every verb:
//
//   - Files: bare files of a stopped server, opened over a file system in memory
//     (decision 110). Nothing is ever changed, so it is a Source only.
//   - Local: the blob server of this process, a Keeper. The process may be the
//     server, or a command that opened a stopped server's directories.
//   - Remote: a Local of another process, behind its admin listener. Serve is
//     the other end.
//
// Rescue is for when there is nothing to ask any more: bare files and shards,
// with no directory, of disks of which some may be missing. A Survey is what such
// disks say a directory should.
//
// A volume is verified, exported and dumped while the server goes on with it.
// A coded volume is served by its shards: they are what is exported and dumped, and
// the source that may lie beside them is not, since it does not know the newest
// deletes. Who decodes one gets its bytes, and writes them himself: a server writes
// nowhere but into its own directories, whoever asks.
//
// Sealing, compaction, coding and rebuilds are jobs of the process that has the volumes: who
// asked may leave, the job goes on, and who asks again joins it. All survive a
// crash at every step and are taken up by asking again.
//
// Threads: every method may be called by many goroutines; the functions given
// to one call are called by one goroutine at a time.
package tools
