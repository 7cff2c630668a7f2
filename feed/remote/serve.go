package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"time"

	"hayloft/feed"
	"hayloft/internal/id"
)

// indexWait is how long a call waits for what its caller has seen elsewhere.
const indexWait = 2 * time.Second

// Server answers calls with a feed of this process.
type Server struct {
	f       *feed.Feed
	methods map[string]reflect.Value
}

// NewServer returns a Server over f.
func NewServer(f *feed.Feed) *Server {
	s := &Server{f: f, methods: make(map[string]reflect.Value)}
	for _, table := range []map[string]any{coreMethods(f), graphMethods(f), personalMethods(f), notificationMethods(f), searchMethods(f), pageMethods(f)} {
		for name, m := range table {
			s.methods[name] = reflect.ValueOf(m)
		}
	}
	return s
}

// coreMethods are the calls about accounts, photos, what people do with them, and
// what is owed to the world outside.
func coreMethods(f *feed.Feed) map[string]any {
	return map[string]any{
		"CreateAccount":  f.CreateAccount,
		"Credentials":    f.Credentials,
		"CreateSession":  f.CreateSession,
		"SessionByToken": f.SessionByToken,
		"Sessions":       f.Sessions,
		"DeleteSession":  f.DeleteSession,
		"DeleteSessions": f.DeleteSessions,
		"UserByID":       f.UserByID,
		"UserByHandle":   f.UserByHandle,
		"UpdateProfile":  f.UpdateProfile,
		"BeginUpload":    f.BeginUpload,
		"Upload":         f.Upload,
		"Intend":         f.Intend,
		"Stored":         f.Stored,
		"Finalize":       f.Finalize,
		"Photo":          f.Photo,
		"WaitReady":      f.WaitReady,
		"DeletePhoto":    f.DeletePhoto,
		"RestorePhoto":   f.RestorePhoto,
		"DeletedPhotos":  f.DeletedPhotos,
		"PhotosBy":       f.PhotosBy,
		"Like":           f.Like,
		"Unlike":         f.Unlike,
		"Likes":          f.Likes,
		"AddComment":     f.AddComment,
		"DeleteComment":  f.DeleteComment,
		"Comments":       f.Comments,
		"Replies":        f.Replies,
		"Owned":          f.Owned,
		"Said":           f.Said,
		"Liked":          f.Liked,
		"Access":         f.Access,
		"Purges":         agelessPurges(f),
		"PurgesAged":     f.Purges,
		"Master":         f.Master,
		"PhotoRow":       f.PhotoRow,
		"MarkReady":      f.MarkReady,
		"MarkFailed":     f.MarkFailed,
		"LendHere":       f.Lend,
		"KeepHere":       f.Keep,
		"ReturnHere":     f.Return,
		"Finish":         f.Finish,
		"Fresh":          f.Fresh,
		"Ping":           func(context.Context) error { return f.Ready() },
		// Who has no replica asks any node, which passes it on to the one that leads.
		"Lend": func(ctx context.Context, kind feed.EffectKind, holder string) (*feed.Effect, error) {
			return f.Lending().Lend(ctx, kind, holder)
		},
		"Keep": func(ctx context.Context, seq uint64, holder string) error {
			return f.Lending().Keep(ctx, seq, holder)
		},
		"Return": func(ctx context.Context, seq uint64, holder string) error {
			return f.Lending().Return(ctx, seq, holder)
		},
		"UpdatePhoto": func(ctx context.Context, owner, photo id.ID, c change) (feed.PhotoView, error) {
			return f.UpdatePhoto(ctx, owner, photo, c.photoChange())
		},
		"Repeated": func(ctx context.Context, i idempotency) (id.ID, bool, error) {
			return f.Repeated(ctx, feed.Idempotency{Account: i.Account, Route: i.Route, Key: i.Key, Fingerprint: i.Fingerprint})
		},
	}
}

// agelessPurges is how nodes of the version before ask for purges: they are a second late.
func agelessPurges(f *feed.Feed) any {
	return func(ctx context.Context, after uint64, limit int) ([]feed.Purge, error) {
		list, _, err := f.Purges(ctx, after, limit)
		return list, err
	}
}

// Serve answers one call. The error is that of a request which cannot be read: what
// the feed says is in the answer.
func (s *Server) Serve(ctx context.Context, body []byte) ([]byte, error) {
	var req request
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("feed/remote: %w", err)
	}
	var a answer
	if err := s.answer(ctx, &req, &a); err != nil {
		a.Results, a.Err = nil, failureOf(err)
	}
	a.Index = s.f.AppliedIndex()
	return json.Marshal(a)
}

var errMethod = errors.New("feed/remote: this node does not know the method")

func (s *Server) answer(ctx context.Context, req *request, a *answer) error {
	m, ok := s.methods[req.Method]
	if !ok {
		return fmt.Errorf("%w: %s", errMethod, req.Method)
	}
	in, err := arguments(m.Type(), req.Args)
	if err != nil {
		return fmt.Errorf("feed/remote: %s: %w", req.Method, err)
	}
	if err := s.await(ctx, req.Index); err != nil {
		return err
	}
	if i := req.Idem; i != nil {
		ctx = feed.WithIdempotency(ctx, feed.Idempotency{
			Account: i.Account, Route: i.Route, Key: i.Key, Fingerprint: i.Fingerprint, Earlier: &a.Earlier,
		})
	}
	out := m.Call(append([]reflect.Value{reflect.ValueOf(ctx)}, in...))
	if err, _ := out[len(out)-1].Interface().(error); err != nil {
		return err
	}
	for _, v := range out[:len(out)-1] {
		b, err := json.Marshal(v.Interface())
		if err != nil {
			return err
		}
		a.Results = append(a.Results, b)
	}
	return nil
}

// arguments decodes what follows the context.
func arguments(t reflect.Type, raw []json.RawMessage) ([]reflect.Value, error) {
	if len(raw) != t.NumIn()-1 {
		return nil, fmt.Errorf("%d arguments, want %d", len(raw), t.NumIn()-1)
	}
	in := make([]reflect.Value, len(raw))
	for i, b := range raw {
		v := reflect.New(t.In(i + 1))
		if err := json.Unmarshal(b, v.Interface()); err != nil {
			return nil, fmt.Errorf("argument %d: %w", i, err)
		}
		in[i] = v.Elem()
	}
	return in, nil
}

// await waits until this replica has applied an index.
func (s *Server) await(ctx context.Context, index uint64) error {
	ctx, cancel := context.WithTimeout(ctx, indexWait)
	defer cancel()
	if err := s.f.WaitApplied(ctx, index); err != nil {
		return fmt.Errorf("%w: this replica is behind: %w", feed.ErrUnavailable, err)
	}
	return nil
}
