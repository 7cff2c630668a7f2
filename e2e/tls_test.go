package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hayloft/client"
	"hayloft/testdata/photos"
)

// TestPublicTLS takes a photo up and down over HTTPS.
func TestPublicTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certified(t, dir, "web")
	certs := filepath.Join(dir, "web-certs")
	s := start(t, filepath.Join(dir, "data"), "--disk-reserve", "64MiB", "--tls-cert", filepath.Join(certs, "node.pem"), "--tls-key", filepath.Join(certs, "node.key"))
	if !strings.HasPrefix(s.url, "https://") {
		t.Fatalf("it says that it serves on %s", s.url)
	}
	ca, err := os.ReadFile(filepath.Join(dir, "ca", "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	anybody, err := client.New(s.url, client.Options{HTTPClient: web})
	if err != nil {
		t.Fatal(err)
	}
	login, err := anybody.CreateAccount(t.Context(), client.NewAccount{Handle: "author", Password: "correct horse author"})
	if err != nil {
		t.Fatal(err)
	}
	author := anybody.WithToken(login.Token)
	id, err := put(t.Context(), author, photos.ByName("bridge.jpg").Data, true)
	if err != nil {
		t.Fatal(err)
	}
	p, err := author.WaitReady(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var first []byte
	for i := range 3 { // a fill, and hits
		res, err := web.Get(p.URLs.Large)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || i > 0 && string(b) != string(first) || res.TLS == nil || res.TLS.Version < tls.VersionTLS12 {
			t.Fatalf("%s: %d bytes, %v, %+v", res.Status, len(b), err, res.TLS)
		}
		first = b
	}
	// Who speaks no TLS is told nothing of what is served here.
	if res, err := http.Get("http" + strings.TrimPrefix(s.url, "https") + "/healthz"); err == nil {
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			t.Error("answered without TLS")
		}
	}
	s.stop(t)
}
