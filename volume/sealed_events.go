package volume

// What fencing, sealing and compaction report.
const (
	EventFenced            EventKind = 64 + iota // puts are refused from now on
	EventSealed                                  // Length bytes are sealed
	EventSealedIndexLost                         // the sealed index was lost or damaged and is made again
	EventSealedIndexFailed                       // the sealed index could not be written; it will be made again
	EventCompacting                              // Offset of Length bytes are copied
	EventCompacted                               // a new generation of Length bytes is there
	EventRepaired                                // a damaged needle was replaced by a good copy
	EventRemoved                                 // a leftover, an older generation or a file in quarantine was removed
	EventReceived                                // a generation of Length bytes came from another replica
	EventQuarantined                             // a file of Length bytes was moved to quarantine
)

var sealEventNames = [...]string{
	"fenced", "sealed", "sealed-index-lost", "sealed-index-failed", "compacting", "compacted", "repaired", "removed",
	"received", "quarantined",
}
