package search

import (
	"testing"

	"go.uber.org/goleak"
)

// Nothing that this package starts may outlive its owner.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
