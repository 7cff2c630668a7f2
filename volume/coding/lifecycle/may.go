package lifecycle

import "slices"

// What the holders of a row may do. They ask for each file, by what its name and
// head say.

// Readable tells whether shards of an epoch may be read: those of a committed
// one. Which files are its shards the digests of the commit say.
func (r Row) Readable(epoch uint32) bool {
	return r.Committed != nil && r.Committed.Epoch == epoch || r.Before != nil && r.Before.Epoch == epoch
}

// MayWrite tells whether an encoder may go on making shards of an epoch.
func (r Row) MayWrite(epoch uint32, encoder uint64) bool {
	return r.Run != nil && r.Run.Epoch == epoch && r.Run.Encoder == encoder
}

// MayRemoveSource tells whether the file of a generation may go.
func (r Row) MayRemoveSource(generation uint32) bool { return generation <= r.Released }

// MayRemoveShards tells whether the files of an epoch may go, finished or not:
// when it was given out and is void. Files of a younger epoch than the row knows
// stay.
func (r Row) MayRemoveShards(epoch uint32) bool {
	return epoch <= r.Epoch && !r.Readable(epoch) && (r.Run == nil || r.Run.Epoch != epoch)
}

// Homed tells whether a disk that is names is the home of a shard that the row
// knows: of an epoch that may be read, or of the run.
func (r Row) Homed(is func(Disk) bool) bool {
	return r.Run != nil && slices.ContainsFunc(r.Run.Homes, is) ||
		r.Committed != nil && slices.ContainsFunc(r.Committed.Homes, is) ||
		r.Before != nil && slices.ContainsFunc(r.Before.Homes, is)
}
