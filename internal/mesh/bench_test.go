package mesh_test

import (
	"context"
	"net/http"
	"testing"

	"hayloft/internal/mesh"
	"hayloft/internal/mesh/meshtest"
)

// BenchmarkCall is a question of 64 KiB and a short answer, as a write to a replica
// is, one after another on one connection over loopback.
func BenchmarkCall(b *testing.B) {
	ca := meshtest.CA(b)
	x, y := meshtest.Node(b, ca, "x"), meshtest.Node(b, ca, "y")
	meshtest.Acquaint(x, y)
	y.Handle("put", mesh.Answer(func(context.Context, mesh.Peer, []byte) ([]byte, error) { return []byte("stored"), nil }))
	y.Handle("get", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "65536")
		_, _ = w.Write(make([]byte, 64<<10))
	}))
	put, get := x.Client("put"), x.Client("get")
	body := make([]byte, 64<<10)
	run := func(name string, fn func(b *testing.B)) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				fn(b)
			}
		})
	}
	run("put64KiB", func(b *testing.B) {
		if _, err := put.Call(b.Context(), "y", "/", body); err != nil {
			b.Fatal(err)
		}
	})
	run("put100B", func(b *testing.B) {
		if _, err := put.Call(b.Context(), "y", "/", body[:100]); err != nil {
			b.Fatal(err)
		}
	})
	run("get64KiB", func(b *testing.B) {
		if _, err := get.Call(b.Context(), "y", "/", nil); err != nil {
			b.Fatal(err)
		}
	})
}
