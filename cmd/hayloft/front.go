package main

import (
	"context"
	"net/netip"
	"slices"

	"hayloft/api"
	"hayloft/cache"
)

// serves reports whether a node answers the public: also one that only stores blobs for
// those who have a key.
func (s *settings) serves() bool {
	return len(s.blobKeys) > 0 || slices.Contains(s.roles, roleAPI) || slices.Contains(s.roles, roleCache)
}

// openFront opens what answers requests: the cache and the API, as far as this node
// has the roles.
func (n *node) openFront(context.Context) (err error) {
	if !n.s.serves() {
		return nil
	}
	o := api.Options{
		Ring: n.ring, Clock: n.clock, PublicURL: n.s.publicURL, MediaURL: n.s.mediaURL, Version: version,
		MediaRing: n.mediaRing, Limits: api.Limits{PhotoBytes: maxPhotoBytes}, Signup: api.Signup(n.s.signup), Events: n.apiEvent, Ready: n.ready,
		Store: blobStore{n.blobs},
	}
	for _, k := range n.s.blobKeys {
		key, _ := api.ParseBlobKey(k) // validated with the settings
		o.BlobKeys = append(o.BlobKeys, key)
	}
	for _, p := range n.s.trustedProxies {
		o.TrustedProxies = append(o.TrustedProxies, netip.MustParsePrefix(p)) // the same
	}
	if n.plays(roleCache) {
		if err := n.openCache(); err != nil {
			return err
		}
		o.Media, o.Hits = n.cache.Handle, n.cache.Hit
	}
	if n.plays(roleAPI) {
		o.Feed, o.Blobs = front{n.theFeed(), n.ready}, masters{n.blobs}
		if o.Page, err = api.WebPage(n.s.mediaURL); err != nil {
			return err
		}
	}
	n.api, err = api.New(o)
	return err
}

// openCache opens the photo cache.
func (n *node) openCache() (err error) {
	o := cache.Options{Ring: n.mediaRing, Clock: n.clock, Budget: int64(n.s.cacheMemory), Policy: n.s.cachePolicy, Events: n.cacheEvent}
	if n.edge != nil {
		o.Origin, o.Access, o.Purges = n.edge.chain, n.edge.chain, n.edge.chain
		o.FillTimeout, o.Name = edgeFill, n.who.name
	} else {
		o.Origin, o.Access, o.Purges = origin{n.blobs}, access{n.theFeed()}, purger{n.theFeed()}
	}
	if err := n.withDevice(&o); err != nil {
		return err
	}
	if n.cache, err = cache.New(o); err == nil {
		n.serveTiers()
	}
	return err
}
