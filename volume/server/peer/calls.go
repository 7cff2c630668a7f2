package peer

import (
	"time"

	"hayloft/internal/clock"
)

// version is that of the protocol, in the path.
const version = "1"

const (
	pathPrefix     = "/blobs/v"
	headerTimeout  = "Hayloft-Timeout"        // of a request: milliseconds
	headerVersions = "Hayloft-Blobs-Versions" // of an answer with 501
)

// call is the name of a call, the last part of its path.
type call string

const (
	callCreate   call = "create"
	callAppend   call = "append"
	callEntomb   call = "entomb"
	callDelete   call = "delete"
	callLog      call = "log"
	callRead     call = "read"
	callRange    call = "range"
	callProbe    call = "probe"
	callStanding call = "standing"
	callFence    call = "fence"
	callAdmit    call = "admit"
	callHoldings call = "holdings"
	callFetch    call = "fetch"
	callFill     call = "fill"
	callBury     call = "bury"
	callSeal     call = "seal"
	callMake     call = "make"
	callCopy     call = "copy"
	callDeletes  call = "deletes"
	callMend     call = "mend"
	callShelf    call = "shelf"
	callOpen     call = "open"
	callGet      call = "get"
	callPut      call = "put"
	callFile     call = "file"
	callName     call = "name"
)

// class is a kind of call, with room of its own.
type class int

const (
	classWrite class = iota
	classRead
	classAsk  // the called node asks others
	classLong // that give; as long as it takes
	classWork // that take and work; as long as it takes
	classes
)

// long says whether calls have no time of their own.
func (c class) long() bool { return c >= classLong }

// classOf has all calls.
var classOf = map[call]class{
	callCreate: classWrite, callAppend: classWrite, callEntomb: classWrite, callLog: classWrite, callFence: classWrite,
	callRead: classRead, callRange: classRead, callProbe: classRead, callStanding: classRead,
	callDelete: classAsk, callAdmit: classAsk,
	callHoldings: classLong, callFetch: classLong, callCopy: classLong, callDeletes: classLong,
	callFill: classWork, callBury: classWork, callSeal: classWork, callMake: classWork, callMend: classWork,
	callShelf: classWrite, callOpen: classWrite, callPut: classWrite, callFile: classWrite, callName: classWrite, callGet: classRead,
}

// Timing is how patient both sides are. The zero value is what the protocol says.
type Timing struct {
	Timeout  time.Duration // of calls that are not long; 0: 30 s
	Patience time.Duration // with silence in a long one; 0: 30 s
	Beat     time.Duration // between signs of life in a long one; 0: 5 s
	Clock    clock.Clock   // nil: the machine's. Contexts and sockets have the machine's in any case
}

func (t *Timing) setDefaults() {
	if t.Timeout <= 0 {
		t.Timeout = 30 * time.Second
	}
	if t.Patience <= 0 {
		t.Patience = 30 * time.Second
	}
	if t.Beat <= 0 {
		t.Beat = 5 * time.Second
	}
	if t.Clock == nil {
		t.Clock = clock.Real{}
	}
}
