package feed

import (
	"context"
	"slices"

	"hayloft/feed/timeline"
	"hayloft/internal/id"
)

// SetPassword replaces an account's password hash and ends all its logins but the
// session keep. was is the hash that the caller has verified; ErrConflict when it is
// another one by now. Without was it is an operator's call, and API keys end, too.
func (f *Feed) SetPassword(ctx context.Context, user id.ID, hash, was string, keep id.ID) error {
	if hash == "" {
		return Invalid{"password", "is missing"}
	}
	_, err := f.propose(ctx, &cmdSetPassword{User: user, Hash: hash, Was: was, Keep: keep})
	return err
}

// CreateAPIKey makes a key; hash is SHA-256 of its token. ErrConflict when the account
// has 50.
func (f *Feed) CreateAPIKey(ctx context.Context, user id.ID, hash [32]byte, name string, scopes Scopes) (APIKey, error) {
	switch {
	case hash == [32]byte{}:
		return APIKey{}, Invalid{"key", "hash is missing"}
	case scopes == 0 || scopes&^(ScopeRead|ScopeWrite) != 0:
		return APIKey{}, Invalid{"scopes", "are not read and write"}
	}
	if err := f.policy.Limits.checkProfile(&name, nil); err != nil {
		return APIKey{}, err
	}
	key, err := f.newID(ctx)
	if err != nil {
		return APIKey{}, err
	}
	cmd := &cmdCreateKey{User: user, Key: key, Hash: hash, Name: name, Scopes: scopes}
	if _, err := f.propose(withoutIdempotency(ctx), cmd); err != nil {
		return APIKey{}, err
	}
	return f.KeyByToken(ctx, hash)
}

// KeyByToken returns the API key of a token's SHA-256; ErrNotFound also while its
// account is hidden.
func (f *Feed) KeyByToken(ctx context.Context, hash [32]byte) (APIKey, error) {
	var out APIKey
	err := f.readSure(ctx, func(v *view) error {
		row, err := load[apiKeyRow](v.store, apiKeyKey(hash))
		if err != nil || row == nil {
			return firstErr(err, ErrNotFound)
		}
		if _, err := v.mustAccount(row.User); err != nil {
			return err
		}
		out = row.APIKey
		return nil
	})
	return out, err
}

// APIKeys lists the keys of an account, newest first: at most 50.
func (f *Feed) APIKeys(ctx context.Context, user id.ID) ([]APIKey, error) {
	var out []APIKey
	err := f.serve(ctx, func(v *view) error {
		return v.list(tabUserKeys, user, 0, func(_ id.ID, value []byte) error {
			hash, err := hashOf(value)
			if err != nil {
				return err
			}
			row, err := load[apiKeyRow](v.store, apiKeyKey(hash))
			if err == nil && row != nil {
				out = append(out, row.APIKey)
			}
			return err
		})
	})
	slices.SortStableFunc(out, func(a, b APIKey) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return out, err
}

// DeleteAPIKey ends a key of an account.
func (f *Feed) DeleteAPIKey(ctx context.Context, user, key id.ID) error {
	_, err := f.propose(ctx, &cmdDeleteKey{User: user, Key: key})
	return err
}

// SetAvatar shows one of the user's own ready and public photos as their face; 0 is
// none. It shows for as long as the photo is that.
func (f *Feed) SetAvatar(ctx context.Context, user, photo id.ID) error {
	_, err := f.propose(ctx, &cmdSetAvatar{User: user, Photo: photo})
	return err
}

// avatar is where the face of an account is, as everybody who sees the account may
// see it.
func (v *view) avatar(a *accountRow) (Avatar, error) {
	if a.Avatar == 0 {
		return Avatar{}, nil
	}
	out, ok := v.avatars[a.ID]
	if ok {
		return out, nil
	}
	p, err := v.photo(a.Avatar)
	if err != nil {
		return Avatar{}, err
	}
	if p != nil && p.Author == a.ID && p.Status == Ready && !p.Purging && p.Details.Visibility == Public {
		out = Avatar{Blob: p.Rendition.Blob, Cookie: p.Rendition.Cookie, Signed: signed(a, p), Epoch: mediaEpoch(a, p)}
	}
	if v.avatars == nil {
		v.avatars = make(map[id.ID]Avatar)
	}
	v.avatars[a.ID] = out
	return out, nil
}

const (
	maxNew   = 99   // FeedNew counts to here
	newLooks = 8192 // photos of the feed that it looks at: who has muted much has much that does not count
)

// Seen moves the user's mark in their feed up to a photo that they may see. A mark
// that is further already stays.
func (f *Feed) Seen(ctx context.Context, user, photo id.ID) error {
	_, err := f.propose(ctx, &cmdSeen{User: user, Photo: photo})
	return err
}

// FeedNew counts the photos that the feed shows above the mark, up to 99, and names
// the newest photo of the feed; 0 when the feed is empty.
func (f *Feed) FeedNew(ctx context.Context, user id.ID) (count int, latest id.ID, err error) {
	return f.feedNew(ctx, user, newLooks)
}

// feedNew is FeedNew that stops, with what it has, when it has looked at so many photos.
func (f *Feed) feedNew(ctx context.Context, user id.ID, looks int) (count int, latest id.ID, err error) {
	err = f.serve(ctx, func(v *view) error {
		if _, err := v.mustAccount(user); err != nil {
			return err
		}
		seen, err := v.idAt(key1(tabSeen, user))
		if err != nil {
			return err
		}
		before, limit := id.ID(0), 1 // mostly there is nothing new
		for count < maxNew && looks > 0 {
			posts, next, err := f.timeline.Page(ctx, user, before, limit, func(posts []timeline.Post, show []bool) error {
				looks -= len(posts)
				return v.inFeed(user, posts, show)
			})
			if err != nil {
				return err
			}
			for _, post := range posts {
				if latest == 0 {
					latest = post.Photo
				}
				if post.Pos <= seen {
					return nil
				}
				count = min(count+1, maxNew)
			}
			if next == 0 || next <= seen && latest != 0 { // the newest may be below the mark
				return nil
			}
			before, limit = next, maxNew/3
		}
		return nil
	})
	return count, latest, err
}

// inFeed says which posts show in the viewer's feed.
func (v *view) inFeed(viewer id.ID, posts []timeline.Post, show []bool) error {
	for i, post := range posts {
		row, err := v.photo(post.Photo)
		if err == nil && row != nil && row.Pos == post.Pos {
			show[i], err = visible(v, viewer, row, inFeed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// LikeComment likes a comment that user may see; again is nothing.
func (f *Feed) LikeComment(ctx context.Context, user, comment id.ID) error {
	like, err := f.newID(ctx)
	if err != nil {
		return err
	}
	_, err = f.propose(ctx, &cmdLikeComment{User: user, Comment: comment, Like: like})
	return err
}

// UnlikeComment takes a like back; none to take back is nothing.
func (f *Feed) UnlikeComment(ctx context.Context, user, comment id.ID) error {
	_, err := f.propose(ctx, &cmdUnlikeComment{User: user, Comment: comment})
	return err
}
