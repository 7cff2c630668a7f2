package main

import (
	"fmt"
	"testing"
	"time"

	"hayloft/directory"
	"hayloft/internal/sign"
)

// A version of a key goes through its states by itself, and at no moment is there a URL
// that a node believes and another one, two minutes behind, does not.
func TestKeyStates(t *testing.T) {
	t0 := time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	row := func(version uint32, at time.Duration) directory.Key {
		return directory.Key{Version: version, Secret: [32]byte{byte(version)}, CreatedAt: t0.Add(at)}
	}
	rows := []directory.Key{row(1, 0), row(2, 10*time.Hour), row(3, 11*time.Hour)}
	for _, tt := range []struct {
		at   time.Duration
		rows int
		want string
	}{
		{0, 1, "[signs]"}, // the first of all signs at once: there is no other
		{10 * time.Hour, 2, "[signs standby]"},
		{10*time.Hour + keySettles - 1, 2, "[signs standby]"},
		{10*time.Hour + keySettles, 2, "[verifies signs]"},
		{11 * time.Hour, 3, "[verifies signs standby]"},
		{11*time.Hour + keySettles, 3, "[verifies verifies signs]"},
		{10*time.Hour + keySettles + keyLives, 3, "[retired verifies signs]"},
		{11*time.Hour + keySettles + keyLives, 3, "[retired retired signs]"},
	} {
		var got []string
		for _, s := range keyStates(keyMedia, rows[:tt.rows], t0.Add(tt.at)) {
			got = append(got, s.State)
		}
		if fmt.Sprint(got) != tt.want {
			t.Errorf("after %v: %v, want %s", tt.at, got, tt.want)
		}
	}

	const path = "/media/small/x.jpg"
	for at := time.Duration(0); at < 40*time.Hour; at += 30 * time.Second {
		ring := func(at time.Duration) *sign.Ring {
			n := 0
			for n < len(rows) && !rows[n].CreatedAt.After(t0.Add(at)) {
				n++
			}
			r, err := sign.NewRing(ringOf(rows[:max(n, 1)], t0.Add(at))...)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		signed := sign.MediaQuery(ring(at), path, 1, t0.Add(at), time.Hour)
		for _, later := range []time.Duration{-keySettles + time.Second, 0, time.Hour - time.Second} {
			if _, err := sign.CheckMedia(ring(max(at+later, 0)), path, signed, t0.Add(at+later)); err != nil {
				t.Fatalf("signed after %v, looked at %v later: %v", at, later, err)
			}
		}
	}
}
