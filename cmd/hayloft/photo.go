package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"hayloft/client"
	"hayloft/media"

	"github.com/spf13/cobra"
)

// remote are the flags of commands that talk to a server as a user.
type remote struct{ server, token string }

func (r *remote) define(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVar(&r.server, "server", "http://127.0.0.1:8080", "URL of the server")
	cmd.PersistentFlags().StringVar(&r.token, "token", "", "login token (default the environment variable HAYLOFT_TOKEN)")
}

// client returns the client of who has the token, or without one of a guest.
func (r *remote) client() (*client.Client, error) {
	token := r.token
	if token == "" {
		token = os.Getenv("HAYLOFT_TOKEN")
	}
	c, err := client.New(r.server, client.Options{Token: token})
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// signedIn is client for what no guest can do.
func (r *remote) signedIn() (*client.Client, error) {
	if r.token == "" && os.Getenv("HAYLOFT_TOKEN") == "" {
		return nil, usagef("whose photos? give a token as --token or in HAYLOFT_TOKEN: POST /api/v1/sessions answers one")
	}
	return r.client()
}

func newPhoto() *cobra.Command {
	var r remote
	cmd := &cobra.Command{Use: "photo", Short: "Put, get, show and remove photos of one account", Args: wantArgs(0, 0, "one of its commands")}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	r.define(cmd)
	cmd.AddCommand(newPhotoPut(&r), newPhotoGet(&r), newPhotoShow(&r), newPhotoRm(&r))
	return cmd
}

func newPhotoPut(r *remote) *cobra.Command {
	var d client.Details
	var wait bool
	cmd := &cobra.Command{
		Use:   "put FILE…",
		Short: "Upload photos; prints one id per line",
		Args:  wantArgs(1, -1, "at least one file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.signedIn()
			if err != nil {
				return err
			}
			for _, name := range args {
				id, err := putFile(cmd, c, name, d, wait)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				fmt.Fprintln(cmd.OutOrStdout(), id)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&d.Caption, "caption", "", "caption of each photo")
	cmd.Flags().StringVar(&d.Title, "title", "", "title of each photo")
	cmd.Flags().StringVar(&d.Visibility, "visibility", "", "public, followers or only_me")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until each photo is ready")
	return cmd
}

// putFile uploads one file, checked here first so that a wrong one costs no
// traffic.
func putFile(cmd *cobra.Command, c *client.Client, name string, d client.Details, wait bool) (string, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return "", err
	}
	info, err := media.Inspect(data, media.Limits{})
	if err != nil {
		return "", err
	}
	posted, err := c.PostPhoto(cmd.Context(), client.File{
		At: strings.NewReader(string(data)), Size: int64(len(data)), ContentType: info.ContentType, Name: filepath.Base(name),
	}, d, 0, "")
	if err != nil || !wait {
		return posted.PhotoID, err
	}
	return posted.PhotoID, untilReady(cmd.Context(), c, posted.PhotoID)
}

// renditions are what get can download.
var renditions = []string{"master", "original", "large", "medium", "small", "thumbnail"}

func newPhotoGet(r *remote) *cobra.Command {
	var variant, out string
	cmd := &cobra.Command{
		Use:   "get ID",
		Short: "Download one variant of a photo, or its verbatim master",
		Args:  wantArgs(1, 1, "one photo id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(renditions, variant) {
				return usagef("--variant: %q is none of %s", variant, strings.Join(renditions, ", "))
			}
			c, err := r.client()
			if err != nil {
				return err
			}
			var o *client.Object
			if variant == "master" {
				o, err = c.Master(cmd.Context(), args[0])
			} else {
				o, err = c.Variant(cmd.Context(), args[0], variant)
			}
			if err != nil {
				return err
			}
			defer o.Body.Close()
			if out == "-" || out == "" {
				_, err = io.Copy(cmd.OutOrStdout(), o.Body)
				return err
			}
			return saveAs(out, o.Body)
		},
	}
	cmd.Flags().StringVar(&variant, "variant", "large", "one of "+strings.Join(renditions, ", "))
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write (default standard output)")
	return cmd
}

// saveAs writes beside the file and renames, so that a broken download leaves
// what was there.
func saveAs(name string, r io.Reader) error {
	tmp, err := os.CreateTemp(filepath.Dir(name), ".hayloft-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if _, err := io.Copy(tmp, r); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Chmod(0o644); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

func newPhotoShow(r *remote) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print what the server knows of a photo",
		Args:  wantArgs(1, 1, "one photo id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.client()
			if err != nil {
				return err
			}
			p, err := c.Photo(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), p)
			}
			return showPhoto(cmd.OutOrStdout(), p)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the photo object as JSON")
	return cmd
}

func showPhoto(w io.Writer, p client.Photo) error {
	lines := [][2]string{
		{"photo", p.ID}, {"author", "@" + p.Author.Handle}, {"status", p.Status}, {"visibility", p.Visibility},
		{"title", p.Title}, {"caption", p.Caption}, {"tags", strings.Join(p.Tags, " ")}, {"created", p.CreatedAt.Format(time.RFC3339)},
		{"likes", fmt.Sprint(p.LikeCount)}, {"comments", fmt.Sprint(p.CommentCount)},
	}
	if p.Failure != nil {
		lines = append(lines, [2]string{"failure", p.Failure.Title})
	}
	lines = append(lines, [][2]string{
		{"thumbnail", p.URLs.Thumbnail}, {"small", p.URLs.Small}, {"medium", p.URLs.Medium},
		{"large", p.URLs.Large}, {"original", p.URLs.Original},
	}...)
	for _, l := range lines {
		if l[1] == "" {
			continue
		}
		if _, err := fmt.Fprintf(w, "%-11s %s\n", l[0], l[1]); err != nil {
			return err
		}
	}
	return nil
}

func newPhotoRm(r *remote) *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "rm ID…",
		Short: "Delete photos; restorable within the grace unless --purge",
		Args:  wantArgs(1, -1, "at least one photo id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := r.signedIn()
			if err != nil {
				return err
			}
			for _, id := range args {
				remove := c.Delete
				if purge {
					remove = c.Purge
				}
				if err := remove(cmd.Context(), id); err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "reclaim the bytes at once: the photo can't be restored")
	return cmd
}
