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
			login, err := loadDemo(cmd.Context(), server, cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "sign in as %s with password %s\n", login.handle, login.password)
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

type demoLogin struct{ handle, password string }

// demoUser is one account of the demo. The photographs are dealt out in turn.
type demoUser struct {
	handle, name string
	c            *client.Client
	photos       []string
}

// loadDemo makes the demo's accounts, photos, follows, likes and comments.
func loadDemo(ctx context.Context, server string, progress io.Writer) (demoLogin, error) {
	anyone, err := client.New(server, client.Options{})
	if err != nil {
		return demoLogin{}, err
	}
	users := []*demoUser{
		{handle: "demo", name: "You"}, {handle: "mara", name: "Mara"},
		{handle: "jonas", name: "Jonas"}, {handle: "lin", name: "Lin"},
	}
	login := demoLogin{users[0].handle, rand.Text()[:12]}
	for i, u := range users {
		password := rand.Text()
		if i == 0 {
			password = login.password
		}
		l, err := anyone.CreateAccount(ctx, client.NewAccount{Handle: u.handle, Name: u.name, Password: password})
		if client.IsStatus(err, http.StatusConflict) {
			return login, fmt.Errorf("the handle %q is taken: this server has the demo already, or accounts of its own", u.handle)
		}
		if err != nil {
			return login, fmt.Errorf("make account %q: %w", u.handle, err)
		}
		u.c = anyone.WithToken(l.Token)
	}
	if err := befriend(ctx, users); err != nil {
		return login, err
	}
	if err := postAll(ctx, users, progress); err != nil {
		return login, err
	}
	return login, converse(ctx, users)
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

// postAll posts each photograph, named with its author and licence, and waits
// until it is ready.
func postAll(ctx context.Context, users []*demoUser, progress io.Writer) error {
	all := photos.All()
	for i, ph := range all {
		u := users[i%len(users)]
		posted, err := u.c.PostPhoto(ctx,
			client.File{At: bytes.NewReader(ph.Data), Size: int64(len(ph.Data)), ContentType: "image/jpeg", Name: ph.Name},
			client.Details{
				Title: ph.Title, Alt: ph.Title,
				Caption: fmt.Sprintf("%s\nPhoto: %s, %s", ph.Caption, ph.Author, ph.Licence),
			}, 0, "")
		if err != nil {
			return fmt.Errorf("post %s: %w", ph.Name, err)
		}
		if err := untilReady(ctx, u.c, posted.PhotoID); err != nil {
			return fmt.Errorf("post %s: %w", ph.Name, err)
		}
		u.photos = append(u.photos, posted.PhotoID)
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
			for k := range users {
				if k == i || (j+k)%2 != 0 {
					continue
				}
				if err := users[k].c.Like(ctx, photo); err != nil {
					return fmt.Errorf("like: %w", err)
				}
				if _, err := users[k].c.Comment(ctx, photo, client.NewComment{Text: says[n%len(says)]}); err != nil {
					return fmt.Errorf("comment: %w", err)
				}
				n++
			}
		}
	}
	return nil
}
