package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ownServer is a server process that a benchmark started for itself.
type ownServer struct {
	url, dir string
	cmd      *exec.Cmd
	temp     string // to be removed
}

// startOwnServer runs this binary as a server with default settings, but for flags, on a
// free loopback port, in an empty directory below dir, and waits until it is ready.
func startOwnServer(ctx context.Context, dir string, flags ...string) (*ownServer, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(dir, "hayloft-bench-*")
	if err != nil {
		return nil, err
	}
	s := &ownServer{dir: temp, temp: temp}
	s.cmd = exec.CommandContext(ctx, self, append([]string{"server", "--data", filepath.Join(temp, "data"),
		"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}, flags...)...)
	s.cmd.Env = withoutSettings(os.Environ())
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches us first
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		s.cmd.Stderr = os.Stderr
		err = s.cmd.Start()
	}
	if err != nil {
		s.stop()
		return nil, err
	}
	if s.url, err = readyURL(out); err != nil {
		s.stop()
		return nil, err
	}
	go io.Copy(io.Discard, out) // ends with the process
	return s, nil
}

// readyURL reads the server's standard output up to the line that says where it
// serves.
func readyURL(r io.Reader) (string, error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if url, ok := strings.CutPrefix(lines.Text(), readyPrefix); ok {
			return url, nil
		}
	}
	return "", fmt.Errorf("the server ended before it was ready: %v", lines.Err())
}

// withoutSettings drops HAYLOFT_* so that the defaults are measured.
func withoutSettings(env []string) []string {
	var out []string
	for _, e := range env {
		if !strings.HasPrefix(e, "HAYLOFT_") {
			out = append(out, e)
		}
	}
	return out
}

func (s *ownServer) stop() {
	if s.cmd.Process != nil {
		s.cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { s.cmd.Process.Kill() })
		s.cmd.Wait()
		timer.Stop()
	}
	os.RemoveAll(s.temp)
}
