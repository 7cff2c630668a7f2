package cache

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/valyala/fasthttp"
)

// ServeBytes serves the files below dir out of memory with a bare fasthttp handler,
// until ctx ends: what hits are compared with. It says on out where.
func ServeBytes(ctx context.Context, dir string, out io.Writer) error {
	bodies := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, name)
		bodies["/"+filepath.ToSlash(rel)] = data
		return err
	})
	if err != nil {
		return err
	}
	return serve(ctx, out, func(ctx *fasthttp.RequestCtx) {
		data, ok := bodies[string(ctx.Path())]
		if !ok {
			ctx.SetStatusCode(fasthttp.StatusNotFound)
			return
		}
		ctx.Response.Header.SetContentType("image/jpeg")
		ctx.Response.SetBodyRaw(data)
	})
}

// serve runs a handler on a free port of this machine until ctx ends.
func serve(ctx context.Context, out io.Writer, handler fasthttp.RequestHandler) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &fasthttp.Server{Handler: handler, CloseOnShutdown: true}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ln) }()
	if _, err := fmt.Fprintln(out, serving+ln.Addr().String()); err != nil {
		ln.Close()
		return err
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		ln.Close()
		return nil
	}
}
