package main

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"hayloft/api"
	"hayloft/feed"
	"hayloft/internal/admin"
)

// userPath begins the calls about accounts.
const userPath = "/admin/users"

// usersAtOnce is how many accounts one answer lists at most.
const usersAtOnce = 1000

// userRow is an account as operators see it.
type userRow struct {
	ID        string    `json:"id"`
	Handle    string    `json:"handle"`
	Name      string    `json:"name"`
	State     string    `json:"state"` // active or suspended
	Private   bool      `json:"is_private"`
	Photos    uint64    `json:"photo_count"`
	Followers uint64    `json:"follower_count"`
	Following uint64    `json:"following_count"`
	CreatedAt time.Time `json:"created_at"`
}

func userRowOf(a feed.Account) userRow {
	r := userRow{
		ID: a.ID.String(), Handle: a.Handle, Name: a.Name, State: "active", Private: a.IsPrivate, Photos: a.Photos,
		Followers: a.Followers, Following: a.Following, CreatedAt: a.CreatedAt,
	}
	if a.Suspended {
		r.State = "suspended"
	}
	return r
}

// userPage is a part of the list of accounts, by handle.
type userPage struct {
	Users []userRow `json:"users"`
	Next  string    `json:"next,omitempty"` // goes on after this handle
}

// userSecret is an account with a password that was drawn for it. It is shown once.
type userSecret struct {
	User     userRow `json:"user"`
	Password string  `json:"password"`
}

// userCalls are the calls of a node's admin listener about accounts. Passwords are
// drawn here and go into answers only: what is asked is logged.
type userCalls struct{ n *node }

// serve adds them to a door.
func (u userCalls) serve(d *admin.Door) {
	d.Guard(http.MethodGet, userPath, u.list)
	d.Guard(http.MethodPost, userPath, u.create)
	d.Guard(http.MethodPost, userPath+"/{user}/suspend", u.suspend)
	d.Guard(http.MethodPost, userPath+"/{user}/password", u.password)
}

// list answers a part of the accounts.
func (u userCalls) list(c *admin.Call) error {
	q, err := c.Query("after", "limit")
	if err != nil {
		return err
	}
	limit := usersAtOnce
	if q.Has("limit") {
		if limit, err = strconv.Atoi(q.Get("limit")); err != nil || limit < 1 {
			return admin.Invalid("limit=%q is not a number of accounts", q.Get("limit"))
		}
	}
	rows, next, err := u.n.theFeed().Accounts(c.Context(), q.Get("after"), min(limit, usersAtOnce))
	if err != nil {
		return err
	}
	page := userPage{Users: make([]userRow, 0, len(rows)), Next: next}
	for _, a := range rows {
		page.Users = append(page.Users, userRowOf(a))
	}
	return c.Stream().Send(admin.KindResult, page)
}

// create makes an account, whatever the setting signup says.
func (u userCalls) create(c *admin.Call) error {
	q, err := c.Query("handle", "name")
	if err != nil {
		return err
	}
	password, hash, err := drawPassword()
	if err != nil {
		return err
	}
	// The account begins with a session that nobody has the token of.
	made, _, err := u.n.theFeed().CreateAccount(c.Context(), feed.NewAccount{
		Handle: q.Get("handle"), Name: q.Get("name"), PasswordHash: hash,
		Session: feed.NewSession{TokenHash: sha256.Sum256([]byte(rand.Text())), ExpiresAt: u.n.clock.Now().Add(time.Minute)},
	})
	if err != nil {
		return userProblem(err, q.Get("handle"))
	}
	return c.Stream().Send(admin.KindResult, userSecret{userRowOf(feed.Account{User: made}), password})
}

// suspend hides an account, or with on=false shows it again.
func (u userCalls) suspend(c *admin.Call) error {
	q, err := c.Query("on")
	if err != nil {
		return err
	}
	if on := q.Get("on"); on != "true" && on != "false" {
		return admin.Invalid("on=%q is neither true nor false", on)
	}
	a, err := u.account(c)
	if err != nil {
		return err
	}
	a.Suspended = q.Get("on") == "true"
	if err := u.n.theFeed().Suspend(c.Context(), a.ID, a.Suspended); err != nil {
		return userProblem(err, a.Handle)
	}
	return c.Stream().Send(admin.KindResult, userRowOf(a))
}

// password gives an account a new password, and ends its sessions and API keys.
func (u userCalls) password(c *admin.Call) error {
	if _, err := c.Query(); err != nil {
		return err
	}
	a, err := u.account(c)
	if err != nil {
		return err
	}
	password, hash, err := drawPassword()
	if err != nil {
		return err
	}
	if err := u.n.theFeed().SetPassword(c.Context(), a.ID, hash, "", 0); err != nil {
		return userProblem(err, a.Handle)
	}
	return c.Stream().Send(admin.KindResult, userSecret{userRowOf(a), password})
}

// account is the one that a call's path names, with or without an @.
func (u userCalls) account(c *admin.Call) (feed.Account, error) {
	handle := strings.TrimPrefix(c.Path("user"), "@")
	a, err := u.n.theFeed().Account(c.Context(), handle)
	return a, userProblem(err, handle)
}

// drawPassword returns a password of 26 letters and digits, and its hash.
func drawPassword() (password, hash string, err error) {
	password = strings.ToLower(rand.Text())
	hash, err = api.HashPassword(rand.Reader, password)
	return password, hash, err
}

// userProblem names an error about an account.
func userProblem(err error, handle string) error {
	inv, invalid := errors.AsType[feed.Invalid](err)
	switch {
	case invalid:
		return admin.Invalid("%s %s", inv.Field, inv.Reason)
	case errors.Is(err, feed.ErrNotFound):
		return admin.NewProblem("no-such-user", http.StatusNotFound, "There is no such account", "nobody is called %q", handle)
	case errors.Is(err, feed.ErrHandleTaken):
		return admin.NewProblem("handle-taken", http.StatusConflict, "The handle is taken", "somebody is called %q, or was until not long ago", handle)
	case errors.Is(err, feed.ErrUnavailable):
		return admin.NewProblem("unavailable", http.StatusServiceUnavailable, "Not now", "the feed does not answer")
	}
	return err
}
