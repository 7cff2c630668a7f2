package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"hayloft/directory"
	"hayloft/internal/admin"
	"hayloft/internal/sign"
)

// The secrets that the nodes share, by what they are for.
const (
	keySign  = "sign"  // upload URLs and cursors
	keyMedia = "media" // private media URLs: cache tiers have these alone
)

// A new version of a key verifies at once and signs when every node has had time to
// hear of it; the one before verifies for as long as what it signed is of use.
const (
	keySettles = 2 * time.Minute
	keyLives   = 26 * time.Hour
	keyLook    = 5 * time.Second // how often nodes look for new versions
)

// ringOf is what a node signs and verifies with at a time, of all versions, oldest
// first.
func ringOf(rows []directory.Key, now time.Time) (keys []sign.Key) {
	for i, row := range rows {
		k := sign.Key{Version: row.Version, Secret: row.Secret}
		if i > 0 && now.Before(row.CreatedAt.Add(keySettles)) {
			k.Standby = true
		}
		if i+1 < len(rows) && !now.Before(rows[i+1].CreatedAt.Add(keySettles+keyLives)) {
			continue // nothing of use is signed with it any more
		}
		keys = append(keys, k)
	}
	return keys
}

// signingKeys is a ring that follows the directory.
type signingKeys struct {
	purpose string
	ring    *sign.Ring
}

// openKeys gets the keys that sign, and makes them when this is the first node of all.
func (n *node) openKeys(ctx context.Context) (err error) {
	for _, purpose := range []string{keySign, keyMedia} {
		rows, err := n.directory.EnsureKey(ctx, purpose)
		if err != nil {
			return err
		}
		ring, err := sign.NewRing(ringOf(rows, n.clock.Now())...)
		if err != nil {
			return err
		}
		n.keys = append(n.keys, signingKeys{purpose, ring})
	}
	n.ring, n.mediaRing = n.keys[0].ring, n.keys[1].ring
	return nil
}

// followKeys keeps the rings as the directory has them, until ctx ends.
func (n *node) followKeys(ctx context.Context) error {
	for {
		for _, k := range n.keys {
			if err := k.ring.Replace(ringOf(n.directory.Map().Keys(k.purpose), n.clock.Now())...); err != nil {
				n.log.Error("signing keys can't be used: those from before stay in use", "purpose", k.purpose, "err", err)
			}
		}
		select {
		case <-n.clock.After(keyLook):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// mediaKeys are what cache tiers check private URLs with.
func (n *node) mediaKeys() []sign.Key {
	if n.edge != nil {
		return *n.edge.keys.Load()
	}
	return ringOf(n.directory.Map().Keys(keyMedia), n.clock.Now())
}

// keyCalls are the calls of a node's admin listener about keys.
type keyCalls struct{ n *node }

func (k keyCalls) serve(d *admin.Door) {
	d.Look("GET", clusterCalls+"/keys", k.list)
	d.Guard("POST", clusterCalls+"/rotate-key", k.rotate)
}

// keyState is one version of a key as operators see it: never its secret.
type keyState struct {
	Purpose string    `json:"purpose"`
	Version uint32    `json:"version"`
	State   string    `json:"state"` // standby, signs, verifies, retired
	Created time.Time `json:"created"`
	Until   time.Time `json:"until,omitzero"` // of this state, where it ends by itself
}

func (k keyCalls) list(c *admin.Call) error {
	if _, err := c.Query(); err != nil {
		return err
	}
	out := []keyState{}
	for _, purpose := range []string{keySign, keyMedia} {
		out = append(out, keyStates(purpose, k.n.directory.Map().Keys(purpose), k.n.clock.Now())...)
	}
	return c.Answer(out)
}

func keyStates(purpose string, rows []directory.Key, now time.Time) (out []keyState) {
	ring := ringOf(rows, now)
	var signer uint32
	for _, key := range ring {
		if !key.Standby {
			signer = max(signer, key.Version)
		}
	}
	for i, row := range rows {
		s := keyState{Purpose: purpose, Version: row.Version, Created: row.CreatedAt}
		at := slices.IndexFunc(ring, func(key sign.Key) bool { return key.Version == row.Version })
		switch {
		case at < 0:
			s.State = "retired"
		case ring[at].Standby:
			s.State, s.Until = "standby", row.CreatedAt.Add(keySettles)
		case row.Version == signer:
			s.State = "signs"
		default:
			s.State, s.Until = "verifies", rows[i+1].CreatedAt.Add(keySettles+keyLives)
		}
		out = append(out, s)
	}
	return out
}

func (k keyCalls) rotate(c *admin.Call) error {
	q, err := c.Query("purpose")
	if err != nil {
		return err
	}
	purpose := q.Get("purpose")
	if purpose != keySign && purpose != keyMedia {
		return admin.Invalid("purpose=%q is neither %s nor %s", purpose, keySign, keyMedia)
	}
	now := k.n.clock.Now()
	rows := k.n.directory.Map().Keys(purpose)
	if len(rows) == 0 {
		return errors.New("there is no key yet")
	}
	newest := rows[len(rows)-1]
	if len(rows) > 1 && now.Before(newest.CreatedAt.Add(keySettles)) {
		return admin.Invalid("version %d does not sign yet: wait until %s", newest.Version, newest.CreatedAt.Add(keySettles).UTC().Format(time.TimeOnly))
	}
	if rows, err = k.n.directory.RotateKey(c.Context(), purpose, newest.Version); err != nil {
		return err
	}
	return c.Stream().Send(admin.KindResult, keyStates(purpose, rows, now))
}
