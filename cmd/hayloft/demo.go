package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"hayloft/client"
	"hayloft/testdata/photos"

	"github.com/spf13/cobra"
)

func newDemo() *cobra.Command {
	var server string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Load a few users and a dozen photographs into an empty server on this machine",
		Args:  wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			u, err := url.Parse(server)
			if err != nil || u.Host == "" {
				return usagef("--server %q is not an absolute URL", server)
			}
			if !loopback(u.Hostname()) {
				return usagef("the demo's accounts are for trying things out: it is only loaded into a server on loopback, not %s", u.Host)
			}
			secret := rand.Text()[:12]
			if err := loadDemo(cmd.Context(), server, secret, cmd.ErrOrStderr()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "sign in as %s with password %s\n", demoHandle, demoPassword(demoHandle, secret))
			return err
		},
	}
	cmd.Flags().StringVar(&server, "server", "http://127.0.0.1:8080", "URL of the server")
	return cmd
}

// loopback reports whether host is an address, or the name, of this machine only.
func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// demoHandle is the account that people sign in with.
const demoHandle = "demo"

// demoPassword is the password of one of the demo's accounts.
func demoPassword(handle, secret string) string { return handle + "-" + secret }

// demoUser is one account of the demo. The photographs are dealt out in turn.
type demoUser struct {
	handle, name string
	c            *client.Client
	photos       []string
}

// loadDemo makes the demo's accounts, photos, follows, likes and comments. What
// an earlier call with the same secret has made is left as it is.
func loadDemo(ctx context.Context, server, secret string, progress io.Writer) error {
	anyone, err := client.New(server, client.Options{})
	if err != nil {
		return err
	}
	defer anyone.CloseIdle()
	users := []*demoUser{
		{handle: demoHandle, name: "Demo"}, {handle: "mara", name: "Mara"},
		{handle: "jonas", name: "Jonas"}, {handle: "lin", name: "Lin"},
	}
	for _, u := range users {
		token, err := demoAccount(ctx, anyone, u, demoPassword(u.handle, secret))
		if err != nil {
			return err
		}
		u.c = anyone.WithToken(token)
	}
	if err := befriend(ctx, users); err != nil {
		return err
	}
	if err := postAll(ctx, users, progress); err != nil {
		return err
	}
	return converse(ctx, users)
}

// demoAccount makes an account, or signs in to the one made earlier.
func demoAccount(ctx context.Context, c *client.Client, u *demoUser, password string) (token string, err error) {
	l, err := c.CreateAccount(ctx, client.NewAccount{Handle: u.handle, Name: u.name, Password: password})
	if client.IsStatus(err, http.StatusConflict) {
		l, err = c.Login(ctx, u.handle, password)
		if client.IsStatus(err, http.StatusUnauthorized) {
			return "", fmt.Errorf("the handle %q is taken: this server has the demo already, or accounts of its own", u.handle)
		}
	}
	if err != nil {
		return "", fmt.Errorf("account %q: %w", u.handle, err)
	}
	return l.Token, nil
}

// befriend has everybody follow everybody else.
func befriend(ctx context.Context, users []*demoUser) error {
	for _, u := range users {
		for _, other := range users {
			if u == other {
				continue
			}
			if _, err := u.c.Follow(ctx, "@"+other.handle); err != nil {
				return fmt.Errorf("%s follows %s: %w", u.handle, other.handle, err)
			}
		}
	}
	return nil
}

// postAll posts each photograph that is not there yet, named with its author and
// licence, and waits until it is ready.
func postAll(ctx context.Context, users []*demoUser, progress io.Writer) error {
	posted := map[string]string{} // by title
	for _, u := range users {
		page, err := u.c.UserPhotos(ctx, "@"+u.handle, client.PageOptions{Limit: 100})
		if err != nil {
			return fmt.Errorf("photos of %s: %w", u.handle, err)
		}
		for _, p := range page.Items {
			posted[p.Title] = p.ID
		}
	}
	all := photos.All()
	for i, ph := range all {
		u := users[i%len(users)]
		id, ok := posted[ph.Title]
		if !ok {
			p, err := u.c.PostPhoto(ctx,
				client.File{At: bytes.NewReader(ph.Data), Size: int64(len(ph.Data)), ContentType: "image/jpeg", Name: ph.Name},
				client.Details{
					Title: ph.Title, Alt: ph.Title,
					Caption: fmt.Sprintf("%s\nPhoto: %s, %s", ph.Caption, ph.Author, ph.Licence),
				}, 0, "")
			if err != nil {
				return fmt.Errorf("post %s: %w", ph.Name, err)
			}
			id = p.PhotoID
		}
		if err := untilReady(ctx, u.c, id); err != nil {
			return fmt.Errorf("post %s: %w", ph.Name, err)
		}
		u.photos = append(u.photos, id)
		fmt.Fprintf(progress, "demo: %2d of %d photographs ready\n", i+1, len(all))
	}
	return nil
}

// untilReady waits at most a minute for a photo's variants.
func untilReady(ctx context.Context, c *client.Client, photo string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	p, err := c.WaitReady(ctx, photo)
	switch {
	case err != nil:
		return err
	case p.Status == client.StatusReady:
		return nil
	case p.Failure != nil:
		return errors.New(p.Failure.Title)
	default:
		return fmt.Errorf("the photo is %s", p.Status)
	}
}

// converse adds likes and comments, so that the page has something to show.
func converse(ctx context.Context, users []*demoUser) error {
	says := []string{"Wonderful light!", "I want to be there.", "How did you find this?", "One for the wall."}
	n := 0
	for i, author := range users {
		for j, photo := range author.photos {
			p, err := author.c.Photo(ctx, photo)
			if err != nil {
				return fmt.Errorf("photo: %w", err)
			}
			for k := range users {
				if k == i || (j+k)%2 != 0 {
					continue
				}
				if err := users[k].c.Like(ctx, photo); err != nil {
					return fmt.Errorf("like: %w", err)
				}
				n++
				if p.CommentCount > 0 {
					continue // from an earlier call
				}
				if _, err := users[k].c.Comment(ctx, photo, client.NewComment{Text: says[n%len(says)]}); err != nil {
					return fmt.Errorf("comment: %w", err)
				}
			}
		}
	}
	return nil
}
