package feed

import (
	"os/exec"
	"testing"
)

// redisOf is the Redis server of this machine, which make test installs, or none.
func redisOf(t *testing.T) string {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Log("without redis-server")
		return "none"
	}
	return path
}
