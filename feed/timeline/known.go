package timeline

import (
	"sync"

	"hayloft/internal/id"
)

// known are posts at positions that pages have looked up: a position is that of one
// post for ever, and the newest ones are on everybody's page.
type known struct {
	limit int

	mu    sync.RWMutex // guards posts
	posts map[id.ID]Post
}

func (k *known) init(limit int) { k.limit, k.posts = limit, map[id.ID]Post{} }

func (k *known) get(pos id.ID) (Post, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	p, ok := k.posts[pos]
	return p, ok
}

// put forgets everything when there is too much.
func (k *known) put(p Post) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.posts) >= k.limit {
		k.posts = map[id.ID]Post{}
	}
	k.posts[p.Pos] = p
}

// reset forgets everything: another instance may be of another feed.
func (k *known) reset() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.posts = map[id.ID]Post{}
}
