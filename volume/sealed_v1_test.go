package volume

import (
	"os"
	"path/filepath"
	"testing"
)

// TestV1SealedOpens: sealed files of version 1 open for ever, with and without
// their index. The files in testdata/v1 are never made again: "sealed" is what
// sealSample makes, "compacted" its generation 2 over delete number 1, and
// both go by "sealed.deletes".
func TestV1SealedOpens(t *testing.T) {
	for _, file := range []string{"sealed", "compacted"} {
		for _, indexed := range []bool{true, false} {
			dir := t.TempDir()
			generation := map[string]uint32{"sealed": 1, "compacted": 2}[file]
			put := func(from, name string) {
				b, err := os.ReadFile(filepath.Join("testdata", "v1", from))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put(file+".vol", FileName(7, generation))
			put("sealed.deletes", DeleteLogName(7))
			if indexed {
				put(file+".idx", IndexName(7, generation))
			}
			rebuilt := false
			v, err := Open(dir, 7, Options{Events: func(e Event) { rebuilt = rebuilt || e.Kind == EventSealedIndexLost }})
			if err != nil {
				t.Fatal(err)
			}
			if rebuilt == indexed {
				t.Fatalf("%s: the index was made again: %v", file, rebuilt)
			}
			live := []Needle{testNeedle(9, 0, 300), testNeedle(9, 1, 77), testNeedle(3, 2, 0), testNeedle(4, 0, 600), testNeedle(1, 0, 90)}
			dead := []Needle{testNeedle(2, 0, 200), testNeedle(5, 0, 10), testNeedle(6, 1, 40), testNeedle(7, 0, 50)}
			checkSample(t, v, live, dead)
			noFindings(t, v)
			rec, ok := v.Sealed()
			if !ok || !rec.equal(testSeal) || rec.Deletes != generation-1 || rec.Source != generation-1 {
				t.Fatalf("%+v", rec)
			}
			closeVolume(t, v)
		}
	}
}
