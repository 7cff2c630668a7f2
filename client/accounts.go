package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
)

var errEmptyName = errors.New("client: empty id or handle")

// CreateAccount signs up. The Client itself stays as it was: use WithToken with
// the answer's token. Not repeated on failure.
func (c *Client) CreateAccount(ctx context.Context, a NewAccount) (Login, error) {
	k, err := jsonCall(http.MethodPost, "/accounts", a)
	if err != nil {
		return Login{}, err
	}
	var l Login
	err = c.do(ctx, k, &l)
	return l, err
}

// Login signs in. The Client itself stays as it was: use WithToken with the
// answer's token. Not repeated on failure.
func (c *Client) Login(ctx context.Context, handle, password string) (Login, error) {
	k, err := jsonCall(http.MethodPost, "/sessions", map[string]string{"handle": handle, "password": password})
	if err != nil {
		return Login{}, err
	}
	var l Login
	err = c.do(ctx, k, &l)
	return l, err
}

// Me returns the caller's own account.
func (c *Client) Me(ctx context.Context) (User, error) { return c.user(ctx, "me") }

// User returns an account by id, "@handle" or bare handle.
func (c *Client) User(ctx context.Context, user string) (User, error) { return c.user(ctx, user) }

func (c *Client) user(ctx context.Context, user string) (User, error) {
	if user == "" {
		return User{}, errEmptyName
	}
	var u User
	err := c.do(ctx, get("/users/"+url.PathEscape(user)), &u)
	return u, err
}

// Follow follows a user (id, "@handle" or handle). Following twice is following
// once. requested is true when the user has to accept first.
func (c *Client) Follow(ctx context.Context, user string) (requested bool, err error) {
	if user == "" {
		return false, errEmptyName
	}
	k := call{method: http.MethodPost, path: "/follow/" + url.PathEscape(user), repeatable: true}
	res, err := c.send(ctx, k)
	if err != nil {
		return false, err
	}
	defer discard(res.Body)
	return res.StatusCode == http.StatusAccepted, nil
}

// Unfollow ends a follow; it is no error when there was none.
func (c *Client) Unfollow(ctx context.Context, user string) error {
	if user == "" {
		return errEmptyName
	}
	return c.do(ctx, call{method: http.MethodDelete, path: "/follow/" + url.PathEscape(user), repeatable: true}, nil)
}

func get(path string) call { return call{method: http.MethodGet, path: path, repeatable: true} }
