package mesh

import "sync"

// book says where nodes are. The newest word counts: a changed row of the
// directory, or what a node has said of itself on a verified connection.
type book struct {
	mu    sync.Mutex // guards nodes
	nodes map[string]entry
}

type entry struct {
	row    string // as SetAddr was told last
	addr   string
	pinned bool
}

// pin takes the address by which a node is reached from here, whatever it says.
func (b *book) pin(node, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes[node] = entry{addr: addr, pinned: true}
}

// set takes a row's address. The same again is no news: it does not undo what the
// node has said of itself since.
func (b *book) set(node, addr string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e, ok := b.nodes[node]; !ok || e.row != addr && !e.pinned {
		b.nodes[node] = entry{row: addr, addr: addr}
	}
}

// learn takes what a node has said of itself.
func (b *book) learn(node, addr string) {
	if addr == "" {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.nodes[node]
	if !e.pinned {
		e.addr = addr
	}
	b.nodes[node] = e
}

func (b *book) addr(node string) (string, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.nodes[node]
	return e.addr, ok && e.addr != ""
}

func (b *book) forget(node string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.nodes, node)
}
