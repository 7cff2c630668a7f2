package media_test

import (
	"fmt"
	"os"
	"testing"

	"hayloft/media"
	"hayloft/media/mediatest"
)

// TestMain makes the test binary its own decoding child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "media-worker" {
		if err := media.RunWorker(os.Stdin, os.Stdout, media.Limits{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestConformance(t *testing.T) {
	mediatest.Conformance(t, []string{os.Args[0], "media-worker"})
}
