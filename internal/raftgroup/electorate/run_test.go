package electorate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeGroup is a group whose changes are noted and may fail.
type fakeGroup struct {
	mu      sync.Mutex
	members []Member
	fail    error
	calls   []string
}

func (g *fakeGroup) note(call, id string, f func(*Member)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = append(g.calls, call+" "+id)
	if g.fail != nil {
		return g.fail
	}
	for i := range g.members {
		if g.members[i].ID == id {
			f(&g.members[i])
		}
	}
	return nil
}

func (g *fakeGroup) AddVoter(_ context.Context, id string) error {
	return g.note("add", id, func(m *Member) { m.Voter = true })
}
func (g *fakeGroup) Demote(_ context.Context, id string) error {
	return g.note("demote", id, func(m *Member) { m.Voter = false })
}
func (g *fakeGroup) Remove(_ context.Context, id string) error {
	return g.note("remove", id, func(m *Member) {})
}
func (g *fakeGroup) TransferLeadership(context.Context, string) error {
	return g.note("transfer", "", func(*Member) {})
}

func (g *fakeGroup) look() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.members)
}

// TestRun: one change after the other until all is right; one that fails is told
// and tried again, not at once.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGroup{members: []Member{{ID: "a", Voter: true, Leader: true}, {ID: "b"}, {ID: "c"}}, fail: errors.New("behind")}
		ctx, cancel := context.WithCancel(t.Context())
		var told []string
		done := make(chan error)
		go func() {
			done <- Run(ctx, Options{Group: g, Look: g.look, Events: func(c Change, err error) { told = append(told, fmt.Sprint(c.ID, err)) }})
		}()
		<-time.After(9 * time.Second)
		synctest.Wait()
		g.mu.Lock()
		if len(g.calls) != 1 {
			t.Errorf("a change that failed was tried %d times in 9 seconds", len(g.calls))
		}
		g.fail = nil
		g.mu.Unlock()
		<-time.After(10 * time.Second)
		synctest.Wait()
		want := []string{"add b", "add b", "add c"}
		g.mu.Lock()
		if !slices.Equal(g.calls, want) {
			t.Errorf("%v, want %v", g.calls, want)
		}
		g.mu.Unlock()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if !slices.Equal(told, []string{"bbehind", "b<nil>", "c<nil>"}) {
			t.Errorf("told %v", told)
		}
	})
}
