package feed

import (
	"testing"

	"hayloft/internal/id"
)

// TestNotificationsOnReplicas: what is done at one member is told at every other, to a
// stream that waits there; a stream goes on at another member with nothing but its last
// seq; and listeners are told by whoever leads then.
func TestNotificationsOnReplicas(t *testing.T) {
	r := newReplicas(t)
	f := r.followers()
	anna, bob := r.account(f[0], "anna"), r.account(f[1], "bob")
	type answer struct {
		n   Notifications
		err error
	}
	wait := func(m *replica, user id.ID, after uint64, unseen int) chan answer {
		ch := make(chan answer, 1)
		go func() {
			for { // signs of life are passed over
				n, err := m.NotificationsAfter(r.ctx, user, after, unseen, 10)
				if err != nil || len(n.Rows) > 0 {
					ch <- answer{n, err}
					return
				}
			}
		}()
		return ch
	}
	told := wait(f[1], anna, 0, 0)
	r.must(f[0].Follow(r.ctx, bob, anna))
	a := <-told
	if r.must(a.err); len(a.n.Rows) != 1 || a.n.Rows[0].Kind != NotifyFollow || a.n.Last != 1 {
		t.Fatalf("told %+v", a.n)
	}
	r.must(f[1].Listen(r.ctx, bob, anna))
	lead := r.any()
	r.stop(lead.name)
	r.any()
	told = wait(f[0], bob, 0, 0)
	photo := r.post(f[1], anna)
	r.ready(f[1], photo)
	if a = <-told; a.err != nil || len(a.n.Rows) != 1 || a.n.Rows[0].Kind != NotifyPost || a.n.Rows[0].Photo.ID != photo {
		t.Errorf("listeners are told %+v, %v", a.n, a.err)
	}
	told = wait(f[0], anna, 1, 1) // at another member than before
	r.must(f[1].Like(r.ctx, bob, photo))
	if a = <-told; a.err != nil || len(a.n.Rows) != 1 || a.n.Rows[0].Kind != NotifyLike || a.n.Last != 2 {
		t.Errorf("goes on with %+v, %v", a.n, a.err)
	}
}
