package feed

import (
	"context"
	"errors"

	"hayloft/feed/search"
	"hayloft/internal/id"
)

// errNoSearch is what a replica without an index answers.
var errNoSearch = errors.New("feed: this replica has no index for search")

// find calls do with the index and, taken after it, a view of the state.
func (f *Feed) find(ctx context.Context, do func(v *view, x *search.Index) error) error {
	if f.search == nil {
		return unavailable(errNoSearch)
	}
	err := f.search.View(func(x *search.Index) error {
		return f.serve(ctx, func(v *view) error {
			if err := x.Join(searchSnapshot{v.store}); err != nil {
				return err
			}
			return do(v, x)
		})
	})
	if errors.Is(err, search.ErrBuilding) || errors.Is(err, search.ErrHomeless) {
		return unavailable(err)
	}
	return err
}

// RebuildSearch derives this replica's index anew, beside the one that goes on
// answering, and returns when the new one has taken its place. Run must be running.
func (f *Feed) RebuildSearch(ctx context.Context) error {
	if f.search == nil {
		return unavailable(errNoSearch)
	}
	return f.search.Rebuild(ctx)
}

// SearchStats describes this replica's index.
type SearchStats struct {
	search.Stats
	Lag uint64 // changes that it has not processed, at most; it joins them at read
}

// SearchStats returns the present numbers; zero without an index.
func (f *Feed) SearchStats() SearchStats {
	if f.search == nil {
		return SearchStats{}
	}
	out := SearchStats{Stats: f.search.Stats()}
	_ = f.read(context.Background(), func(v *view) error { // without it the lag is not known
		last, err := v.lastChange()
		if last > out.Cursor {
			out.Lag = last - out.Cursor
		}
		return err
	})
	return out
}

// SearchLost tells that the disk of one of SearchDirs is gone: the index begins anew in
// another.
func (f *Feed) SearchLost(dir string, why error) {
	if f.search != nil {
		f.search.Lost(dir, why)
	}
}

// SearchUsable tells that one of SearchDirs may be used again.
func (f *Feed) SearchUsable(dir string) {
	if f.search != nil {
		f.search.Usable(dir)
	}
}

// searchSource gives the index the committed state it derives from.
type searchSource struct{ f *Feed }

var _ search.Source = searchSource{}

// Snapshot implements search.Source.
func (s searchSource) Snapshot() (search.Snapshot, error) {
	snap, err := s.f.snapshot()
	if err != nil {
		return nil, unavailable(err)
	}
	return searchSnapshot{store{snap}}, nil
}

// Changed implements search.Source.
func (s searchSource) Changed() <-chan struct{} {
	w := &s.f.machine.watch
	return w.on(&w.changes)
}

type searchSnapshot struct{ store }

// Close implements search.Snapshot.
func (s searchSnapshot) Close() error { return s.r.Close() }

// LastChange implements search.Snapshot.
func (s searchSnapshot) LastChange() (seq uint64, whole bool, err error) {
	if seq, err = s.lastChange(); err != nil {
		return 0, false, err
	}
	whole, err = s.filled()
	return seq, whole, err
}

// Changes implements search.Snapshot.
func (s searchSnapshot) Changes(after uint64, limit int) ([]search.Change, error) {
	list, err := s.changes(after, limit)
	out := make([]search.Change, len(list))
	for i, c := range list {
		out[i] = search.Change{Seq: c.Seq, Kind: search.Kind(c.Kind), ID: c.ID, Pos: c.Pos}
	}
	return out, err
}

// Photo implements search.Snapshot.
func (s searchSnapshot) Photo(photo id.ID) (*search.Photo, error) {
	p, err := s.photo(photo)
	if err != nil || p == nil || p.Status != Ready {
		return nil, err
	}
	return searched(p), nil
}

// searched is what search knows of a photo.
func searched(p *photoRow) *search.Photo {
	d := &p.Details
	return &search.Photo{ID: p.ID, Pos: p.Pos, Title: d.Title, Caption: d.Caption, Tags: d.Tags, Place: d.Location.place()}
}

func (l *Location) place() *search.Place {
	if l == nil {
		return nil
	}
	return search.PlaceOf(l.Name, l.Lat, l.Lng)
}

// Place is the id of the place where photos with this location were taken; 0 when it
// has no name.
func (l *Location) Place() id.ID {
	if p := l.place(); p != nil {
		return p.ID
	}
	return 0
}

// Name implements search.Snapshot.
func (s searchSnapshot) Name(user id.ID) (string, error) {
	a, err := s.account(user)
	if err != nil || a == nil {
		return "", err
	}
	return a.Name, nil
}
