package directory

// paged is an immutable growing array. Setting an element copies one page and
// the table of pages, so a table of a hundred thousand volumes is changed at
// the cost of a few KiB while readers go on with the former one.
type paged[T any] struct {
	pages []*[pageSize]T
}

const pageSize = 64

// get returns element i, the zero value when it was never set.
func (p paged[T]) get(i int) (v T) {
	if n := i / pageSize; n < len(p.pages) && p.pages[n] != nil {
		return p.pages[n][i%pageSize]
	}
	return v
}

// with returns p with element i set to v.
func (p paged[T]) with(i int, v T) paged[T] {
	n := i / pageSize
	pages := make([]*[pageSize]T, max(len(p.pages), n+1))
	copy(pages, p.pages)
	page := new([pageSize]T)
	if pages[n] != nil {
		*page = *pages[n]
	}
	page[i%pageSize] = v
	pages[n] = page
	return paged[T]{pages}
}

// at returns the place of element i. Only whoever loads a table that nobody has
// seen yet may write there.
func (p *paged[T]) at(i int) *T {
	n := i / pageSize
	if n >= len(p.pages) {
		p.pages = append(p.pages, make([]*[pageSize]T, n+1-len(p.pages))...)
	}
	if p.pages[n] == nil {
		p.pages[n] = new([pageSize]T)
	}
	return &p.pages[n][i%pageSize]
}

// pagedOf returns the elements of s; it is how a whole table is loaded.
func pagedOf[T any](s []T) paged[T] {
	var p paged[T]
	for i := 0; i < len(s); i += pageSize {
		page := new([pageSize]T)
		copy(page[:], s[i:])
		p.pages = append(p.pages, page)
	}
	return p
}
