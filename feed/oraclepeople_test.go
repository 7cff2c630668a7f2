package feed

// What people of a life are to each other, and whether they are there at all.

// relate changes what one user is to another.
func (l *life) relate() {
	a, b := l.user(), l.anybody()
	x, y := l.users[a], l.users[b]
	switch n := l.rng.IntN(22); {
	case n < 10:
		l.expect(l.feed.Follow(l.ctx, x, y), l.w.Follow(a, b), "%d follows %d", a, b)
	case a == b:
	case n < 13:
		l.expect(l.feed.Unfollow(l.ctx, x, y), l.w.Unfollow(a, b), "%d unfollows %d", a, b)
	case n < 14:
		l.expect(l.feed.RemoveFollower(l.ctx, x, y), l.w.Unfollow(b, a), "%d removes %d", a, b)
	case n < 16:
		l.expect(l.feed.ApproveFollow(l.ctx, x, y), l.w.Answer(a, b, true), "%d accepts %d", a, b)
	case n < 17:
		l.expect(l.feed.DeclineFollow(l.ctx, x, y), l.w.Answer(a, b, false), "%d declines %d", a, b)
	case n < 18:
		l.expect(l.feed.Block(l.ctx, x, y), l.w.Block(a, b), "%d blocks %d", a, b)
	case n < 20:
		l.expect(l.feed.Unblock(l.ctx, x, y), false, "%d unblocks %d", a, b)
		l.w.Unblock(a, b)
	case n < 21:
		l.expect(l.feed.Mute(l.ctx, x, y), l.w.Mute(a, b, true), "%d mutes %d", a, b)
	default:
		l.expect(l.feed.Unmute(l.ctx, x, y), l.w.Mute(a, b, false), "%d unmutes %d", a, b)
	}
}

// absentee is one who may become absent: two others remain. -1: nobody may.
func (l *life) absentee() int {
	here := 0
	for u := range l.users {
		if !l.w.Absent(u) {
			here++
		}
	}
	if u := l.anybody(); here > 2 || l.w.Absent(u) {
		return u
	}
	return -1
}

// suspend hides somebody, or shows them again.
func (l *life) suspend() {
	if u := l.absentee(); u >= 0 {
		on := !l.w.Absent(u)
		l.expect(l.feed.Suspend(l.ctx, l.users[u], on), l.w.Suspend(u, on), "%d suspended: %v", u, on)
	}
}

// leave deletes somebody's account, and removes what they had at once or some day.
func (l *life) leave() {
	if u := l.absentee(); u >= 0 {
		l.expect(l.feed.DeleteAccount(l.ctx, l.users[u]), l.w.Leave(u), "%d leaves", u)
		if l.rng.IntN(3) == 0 {
			l.sweep()
		}
	}
}

func (l *life) sweep() {
	l.did("sweep")
	l.feed.sweepRows = 1 + l.rng.IntN(4)
	l.must(second2(l.sweepNow()))
	l.w.Clear()
}
