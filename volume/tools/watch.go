package tools

import (
	"time"

	"hayloft/internal/clock"
	"hayloft/internal/vfs/overlay"
)

// tellEvery is how often long work tells how far it is.
const tellEvery = time.Second / 2

// watch tells how much was read through o until the function it returns is
// called; afterwards nothing is told any more.
func watch(o *overlay.FS, tell func(int64)) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-quit:
				return
			case <-(clock.Real{}).After(tellEvery):
				tell(o.BytesRead())
			}
		}
	}()
	return func() { close(quit); <-done }
}
