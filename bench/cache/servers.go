package cache

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// server is a process, or several, that hits are measured at.
type server struct {
	name string
	base string // http://host:port
	pid  int    // with its children
	stop func()
	// drive asks for the pictures of one of weights for d; nil: wrk does.
	drive func(ctx context.Context, weight int, d time.Duration) (load, error)
}

// serving begins the line with which our own processes say where they serve.
const serving = "serving on "

// startTime is how long a server may take until it answers.
const startTime = 10 * time.Second

// freePort is one that was free just now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// spawn starts a process of its own group. What it writes goes to log.
func spawn(log io.Writer, name string, args ...string) (*exec.Cmd, io.ReadCloser, func(), error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true} // Ctrl-C reaches us first
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, nil, nil, err
	}
	return cmd, out, func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // it may have ended
		kill := time.AfterFunc(5*time.Second, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
		cmd.Wait() //nolint:errcheck // how it ends does not matter
		kill.Stop()
	}, nil
}

// startOwn starts a hidden command of this binary, which says where it serves.
func (b *run) startOwn(name string, args ...string) (*server, error) {
	var log strings.Builder
	cmd, out, stop, err := spawn(&log, b.Binary, args...)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if at, ok := strings.CutPrefix(lines.Text(), serving); ok {
			go io.Copy(io.Discard, out) //nolint:errcheck // ends with the process
			return &server{name: name, base: "http://" + at, pid: cmd.Process.Pid, stop: stop}, nil
		}
	}
	stop()
	return nil, fmt.Errorf("%s ended before it served: %s", name, log.String())
}

// startForeign starts another server and waits until the port answers.
func startForeign(ctx context.Context, name string, port int, binary string, args ...string) (*server, error) {
	var log strings.Builder
	cmd, out, stop, err := spawn(&log, binary, args...)
	if err != nil {
		return nil, err
	}
	go io.Copy(io.Discard, out) //nolint:errcheck // ends with the process
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for began := time.Now(); ; {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			c.Close()
			return &server{name: name, base: "http://" + addr, pid: cmd.Process.Pid, stop: stop}, nil
		}
		if ctx.Err() != nil || time.Since(began) > startTime {
			stop()
			return nil, errors.Join(ctx.Err(), fmt.Errorf("%s does not answer: %w: %s", name, err, log.String()))
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// nginxConfig serves the files below %[2]s on three ports: with sendfile and
// tcp_nopush off and on, and as a cache before the first.
const nginxConfig = `
daemon off;
%[6]s
worker_processes auto;
pid %[1]s/nginx.pid;
error_log stderr error;
events { worker_connections 1024; }
http {
  access_log off; server_tokens off; keepalive_requests 1000000000;
  types { image/jpeg jpg; }
  client_body_temp_path %[1]s/body; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  proxy_temp_path %[1]s/proxy; proxy_cache_path %[1]s/cache levels=1:2 keys_zone=c:16m max_size=4g inactive=1d;
  sendfile on;
  upstream files { server 127.0.0.1:%[3]d; keepalive 16; }
  server { listen 127.0.0.1:%[3]d; root %[2]s; tcp_nopush off; }
  server { listen 127.0.0.1:%[4]d; root %[2]s; tcp_nopush on; }
  server { listen 127.0.0.1:%[5]d; tcp_nopush off;
    location / { proxy_pass http://files; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache c; proxy_cache_valid 200 1d; } }
}
`

// startNginx starts one nginx, which is three servers: each is measured alone.
func startNginx(ctx context.Context, dir, www string) ([]*server, error) {
	var ports [3]int
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	user := "" // workers of a root's nginx read what is ours
	if os.Geteuid() == 0 {
		user = "user root;"
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, dir, www, ports[0], ports[1], ports[2], user)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, err
	}
	s, err := startForeign(ctx, "nginx", ports[0], program("nginx"), "-p", dir, "-c", conf)
	if err != nil {
		return nil, err
	}
	nopush, proxy := *s, *s
	nopush.name, nopush.base, nopush.stop = "nginx_nopush", fmt.Sprintf("http://127.0.0.1:%d", ports[1]), func() {}
	proxy.name, proxy.base, proxy.stop = "nginx_proxy_cache", fmt.Sprintf("http://127.0.0.1:%d", ports[2]), func() {}
	return []*server{s, &nopush, &proxy}, nil
}

// startVarnish starts Varnish with memory as its storage, in front of origin.
func startVarnish(ctx context.Context, dir, origin string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	return startForeign(ctx, "varnish", port, program("varnishd"), "-F", "-n", dir, "-j", "none", "-t", "86400",
		"-a", fmt.Sprintf("127.0.0.1:%d", port), "-b", strings.TrimPrefix(origin, "http://"), "-s", "malloc,1g")
}

// program finds one that may lie where only root looks; empty: it is not installed.
func program(name string) string {
	for _, try := range []string{name, "/usr/sbin/" + name, "/usr/local/sbin/" + name} {
		if path, err := exec.LookPath(try); err == nil {
			return path
		}
	}
	return ""
}
