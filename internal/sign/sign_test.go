package sign

import (
	"encoding/hex"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

func key(version uint32, fill byte) Key {
	k := Key{Version: version}
	for i := range k.Secret {
		k.Secret[i] = fill
	}
	return k
}

func ring(t *testing.T, keys ...Key) *Ring {
	t.Helper()
	r, err := NewRing(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// The code was computed apart, with Python's hmac, from the description at func
// code. A change of the construction would void every URL that is out there.
func TestCodeNeverChanges(t *testing.T) {
	v, mac := ring(t, key(7, 0x42)).Sign("media", "/media/x", "", "1")
	const want = "789230c2370c3ca5ead90a3ac7a6666a4b5363a2510a6b6ab0645613e44a3931"
	if got := hex.EncodeToString(mac); v != 7 || got != want {
		t.Errorf("version %d code %s, want 7 %s", v, got, want)
	}
}

func TestPartsAndPurposesAreSeparate(t *testing.T) {
	r := ring(t, key(1, 1))
	v, mac := r.Sign("upload", "ab", "c")
	if !r.Verify("upload", v, mac, "ab", "c") {
		t.Fatal("own code refused")
	}
	for _, c := range []struct {
		purpose string
		parts   []string
	}{
		{"upload", []string{"a", "bc"}}, {"upload", []string{"abc"}}, {"upload", []string{"ab", "c", ""}},
		{"upload", []string{"", "ab", "c"}}, {"upload", []string{"c", "ab"}}, {"upload", nil},
		{"cursor", []string{"ab", "c"}}, {"", []string{"upload", "ab", "c"}}, {"uploada", []string{"b", "c"}},
	} {
		if r.Verify(c.purpose, v, mac, c.parts...) {
			t.Errorf("code accepted for %q %q", c.purpose, c.parts)
		}
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	r := ring(t, key(1, 1))
	v, mac := r.Sign("p", "x")
	for i := range mac {
		for bit := range 8 {
			mac[i] ^= 1 << bit
			if r.Verify("p", v, mac, "x") {
				t.Fatalf("accepted with bit %d of byte %d flipped", bit, i)
			}
			mac[i] ^= 1 << bit
		}
	}
	for _, m := range [][]byte{nil, {}, mac[:16], append(mac[:32:32], 0)} {
		if r.Verify("p", v, m, "x") {
			t.Errorf("accepted a code of %d bytes", len(m))
		}
	}
}

func TestRotation(t *testing.T) {
	oldKey, newKey := key(1, 1), key(2, 2)
	r := ring(t, oldKey)
	v1, mac1 := r.Sign("p", "x")

	standby := newKey
	standby.Standby = true
	if err := r.Replace(standby, oldKey); err != nil {
		t.Fatal(err)
	}
	if v, _ := r.Sign("p", "x"); v != 1 {
		t.Errorf("signs with version %d while the new key stands by", v)
	}
	v2, mac2 := ring(t, newKey).Sign("p", "x") // another node that is one step ahead
	if !r.Verify("p", v2, mac2, "x") {
		t.Error("standby key does not verify")
	}

	if err := r.Replace(newKey, oldKey); err != nil {
		t.Fatal(err)
	}
	if v, _ := r.Sign("p", "x"); v != 2 {
		t.Errorf("signs with version %d, want the highest", v)
	}
	if !r.Verify("p", v1, mac1, "x") {
		t.Error("code of the former key refused during the overlap")
	}
	if r.Verify("p", 2, mac1, "x") {
		t.Error("code accepted under another version")
	}
	if err := r.Replace(newKey); err != nil {
		t.Fatal(err)
	}
	if r.Verify("p", v1, mac1, "x") {
		t.Error("code of a retired key accepted")
	}
}

func TestBadKeysChangeNothing(t *testing.T) {
	r := ring(t, key(1, 1))
	for _, keys := range [][]Key{{key(0, 1)}, {key(2, 0)}, {key(2, 1), key(2, 2)}} {
		if err := r.Replace(keys...); !errors.Is(err, ErrKey) {
			t.Errorf("Replace(%v) = %v", keys, err)
		}
		if v, _ := r.Sign("p"); v != 1 {
			t.Error("ring changed by a refused Replace")
		}
	}
	if _, err := NewRing(key(0, 1)); !errors.Is(err, ErrKey) {
		t.Errorf("NewRing: %v", err)
	}
	empty := ring(t)
	v, mac := empty.Sign("p", "x")
	if v != 0 || mac != nil || empty.Verify("p", v, mac, "x") || r.Verify("p", v, mac, "x") {
		t.Error("an empty ring signs or verifies")
	}
}

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func TestMediaQuery(t *testing.T) {
	r := ring(t, key(3, 9))
	const path = "/media/large/0000000000001-0000000000002.jpg"
	q := MediaQuery(r, path, 5, noon.Add(time.Second), time.Hour)
	g, err := CheckMedia(r, path, q, noon)
	if err != nil || g.Epoch != 5 || !g.Expires.Equal(noon.Add(2*time.Hour)) {
		t.Fatalf("grant %+v, %v", g, err)
	}
	if again := MediaQuery(r, path, 5, noon.Add(59*time.Minute), time.Hour); again != q {
		t.Errorf("two texts within one hour:\n%s\n%s", q, again)
	}
	if exact := MediaQuery(r, path, 5, noon, time.Hour); !strings.Contains(exact, "e="+"1795179600&") {
		t.Errorf("an expiry on the hour is moved: %s", exact)
	}
	if _, err := CheckMedia(r, path, q, g.Expires.Add(-time.Nanosecond)); err != nil {
		t.Errorf("just before expiry: %v", err)
	}
	if _, err := CheckMedia(r, path, q, g.Expires); !errors.Is(err, ErrExpired) {
		t.Errorf("at expiry: %v", err)
	}
	if _, err := CheckMedia(r, path+"x", q, noon); !errors.Is(err, ErrSignature) {
		t.Errorf("other path: %v", err)
	}
	if _, err := CheckMedia(r, path, MediaQuery(ring(t), path, 5, noon, time.Hour), noon); !errors.Is(err, ErrSignature) {
		t.Errorf("query of an empty ring: %v", err)
	}
}

func TestMediaQueryHasOneText(t *testing.T) {
	r := ring(t, key(3, 9))
	const path = "/media/large/0000000000001-0000000000002.jpg"
	q := MediaQuery(r, path, 5, noon, time.Hour)
	p := strings.Split(q, "&")
	mac := strings.TrimPrefix(p[3], "s=")
	// The last character of 43 carries two bits that no byte uses.
	loose := mac[:42] + string(mac[42]+1)
	for name, bad := range map[string]string{
		"empty":          "",
		"appended":       q + "&x=1",
		"appended &":     q + "&",
		"prepended &":    "&" + q,
		"twice":          q + "&" + p[3],
		"other order":    strings.Join([]string{p[1], p[0], p[2], p[3]}, "&"),
		"missing":        strings.Join(p[:3], "&"),
		"leading zero":   strings.Replace(q, "v=3", "v=03", 1),
		"plus":           strings.Replace(q, "v=3", "v=+3", 1),
		"percent":        strings.Replace(q, "v=3", "v=%33", 1),
		"other version":  strings.Replace(q, "v=3", "v=4", 1),
		"other epoch":    strings.Replace(q, "p=5", "p=6", 1),
		"huge epoch":     strings.Replace(q, "p=5", "p=4294967301", 1),
		"later expiry":   strings.Replace(q, p[1], "e=9999999999", 1),
		"huge expiry":    strings.Replace(q, p[1], "e=18446744073709551615", 1),
		"padded":         q + "=",
		"newline":        q + "\n",
		"newline inside": strings.Replace(q, mac, mac[:20]+"\n"+mac[20:], 1),
		"trailing bits":  strings.Replace(q, mac, loose, 1),
		"cut":            q[:len(q)-1],
		"no code":        strings.Replace(q, mac, "", 1),
		"semicolons":     strings.ReplaceAll(q, "&", ";"),
	} {
		if _, err := CheckMedia(r, path, bad, noon); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %q gave %v", name, bad, err)
		}
	}
}

func FuzzCheckMedia(f *testing.F) {
	r, err := NewRing(key(3, 9))
	if err != nil {
		f.Fatal(err)
	}
	const path = "/media/large/x.jpg"
	good := MediaQuery(r, path, 5, noon, time.Hour)
	f.Add(path, good)
	f.Add(path, "v=1&e=2&p=3&s=")
	f.Fuzz(func(t *testing.T, p, q string) {
		if _, err := CheckMedia(r, p, q, noon); err == nil && (p != path || q != good) {
			t.Fatalf("accepted %q %q", p, q)
		}
	})
}

func TestReplaceWhileInUse(t *testing.T) {
	r := ring(t, key(1, 1), key(2, 2), key(3, 3))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 500 {
				v, mac := r.Sign("p", "x")
				if !r.Verify("p", v, mac, "x") {
					t.Error("own code refused")
				}
			}
		})
	}
	for i := range 500 {
		next := key(3, 3)
		next.Standby = i%2 == 0
		if err := r.Replace(key(1, 1), key(2, 2), next); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}
