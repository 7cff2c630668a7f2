package e2e

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
)

// takesEverything asks for the archive, and takes it from the link, which needs no session:
// the originals in it are what was uploaded.
func (b *tab) takesEverything() {
	b.t.Helper()
	b.click("export")
	b.see("export-download")
	b.sound("settings with a link to the archive")
	resp, err := http.Get(eval[string](b, `document.querySelector('[data-testid="export-download"]').href`))
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.t.Fatalf("the archive: %d, %v", resp.StatusCode, err)
	}
	z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
	if err != nil {
		b.t.Fatal(err)
	}
	files := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err != nil {
			b.t.Fatal(err)
		}
		if files[f.Name], err = io.ReadAll(r); err != nil {
			b.t.Fatalf("%s: %v", f.Name, err)
		}
	}
	var photos []struct{ File, SHA256 string }
	if err := json.Unmarshal(files["photos.json"], &photos); err != nil || len(photos) == 0 {
		b.t.Fatalf("photos.json: %v in %s", err, files["photos.json"])
	}
	for _, p := range photos {
		if sum := sha256.Sum256(files[p.File]); hex.EncodeToString(sum[:]) != p.SHA256 {
			b.t.Errorf("%s is not what was uploaded: %d bytes", p.File, len(files[p.File]))
		}
	}
	if files["account.json"] == nil || files["missing.json"] != nil {
		b.t.Errorf("account.json: %s; missing.json: %s", files["account.json"], files["missing.json"])
	}
}
