package raw

import (
	"sync"

	"hayloft/internal/vfs"
)

// Recorder is a file system that notes what is asked of the device.
type Recorder struct {
	vfs.Fault

	mu  sync.Mutex // guards Ops while the file system is used
	Ops []vfs.Op
}

// NewRecorder returns a recorder of the machine's file system.
func NewRecorder() *Recorder {
	r := &Recorder{Fault: vfs.Fault{FS: vfs.OS{}}}
	r.Before = func(op vfs.Op) vfs.Outcome {
		switch op.Kind {
		case vfs.OpRead, vfs.OpWrite, vfs.OpSync, vfs.OpAllocate, vfs.OpEvict:
			r.mu.Lock()
			r.Ops = append(r.Ops, op)
			r.mu.Unlock()
		}
		return vfs.Outcome{}
	}
	return r
}
