// Package torture is the crash test on a real disk: it kills a real writer
// process, or cuts a real file system off its device, again and again, and
// compares what the volumes hold with what the writer had acknowledged.
//
// Two processes take part. Writer puts and deletes until it is killed and
// reports every attempt before it is made and every acknowledgement after it,
// one line each, on its standard output: wire.go. Run, in the parent, starts
// it, keeps the ledger of what it said, kills it and verifies. What a needle
// holds follows from seed, key and class alone, so the ledger is small and the
// parent knows every byte: content.go.
//
// The rules of the ledger, for a volume that was opened again:
//
//   - an acknowledged put is there with its bytes, an acknowledged delete is
//     gone, whatever happened later;
//   - a put that was under way is whole or absent, each of its needles for
//     itself; a delete that was under way took all of its key or nothing;
//   - what the first opening after a crash showed stays so: found means
//     acknowledged from then on, absent means absent for ever;
//   - a volume that reported a failed write or sync is still read-only.
//
// A power cut is played by Disk: an ext4 image with a journal on a loop
// device, shut down in the kernel so that nothing that was not synced reaches
// the device. It does not play a device that forgets its own cache.
//
// Threads: Run uses the calling goroutine and ends with it. Run changes only
// the directory that it makes inside Options.Dir.
package torture
