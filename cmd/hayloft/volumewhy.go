package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"hayloft/internal/id"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

func newVolumeWhy(f *volumeFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "why VOLUME|BLOB|PHOTO",
		Short: "Say where a volume, blob or photo is, and why it cannot be read",
		Long: `Asks a running server for everything that it knows of a volume, or of a blob or a
photo by its id (13 characters, as in URLs, manifests and log lines): what the
directory says, every copy and shard on this node with its state and the last error,
and whether the blob can be read right now, which is tried. A blob is

readable     every needle of it was read just now, and is whole
unreadable   it is there, and cannot be read: the line says why
deleted      its volume knows that it is, for ever
unknown      no volume has it: never stored, or deleted before its volume was sealed

access says who the API serves it to: gone is what was deleted, or belongs to no
photo, though its bytes may be there yet. Exit codes: 0 what was asked for can be
read or is deleted, 1 it cannot be read, 2 wrong usage.`,
		Args: wantArgs(1, 1, "one volume, blob or photo"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := id.Parse(args[0]); err != nil {
				if _, err := parseVolume(args[0]); err != nil {
					return usagef("%q is neither the number of a volume nor the id of a blob or a photo", args[0])
				}
			}
			o, err := f.running(cmd)
			if err != nil {
				return err
			}
			w, err := o.keeper.Why(cmd.Context(), args[0])
			switch {
			case err != nil:
			case asJSON:
				err = printJSON(cmd.OutOrStdout(), w)
			default:
				err = printWhy(cmd.OutOrStdout(), &w)
			}
			if err == nil && !w.Readable() {
				err = fmt.Errorf("%s cannot be read now", args[0])
			}
			return o.close(f, err)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print it as JSON")
	return cmd
}

const whyTime = "2006-01-02T15:04:05.000Z"

func printWhy(w io.Writer, y *tools.Why) error {
	if p := y.Photo; p != nil {
		fmt.Fprintf(w, "photo %v: %s", p.ID, p.Status)
		if p.Deleted != nil {
			fmt.Fprintf(w, ", deleted by its owner at %s", p.Deleted.UTC().Format(whyTime))
		}
		fmt.Fprintln(w)
		if len(y.Blobs) == 0 {
			fmt.Fprintln(w, "  no bytes of it are stored")
		}
	}
	for i := range y.Blobs {
		printWhyBlob(w, &y.Blobs[i])
	}
	for i := range y.Volumes {
		if err := printWhyVolume(w, &y.Volumes[i]); err != nil {
			return err
		}
	}
	return nil
}

func printWhyBlob(w io.Writer, b *tools.WhyBlob) {
	role := ""
	if b.Role != "" {
		role = " (" + b.Role + ")"
	}
	fmt.Fprintf(w, "blob %v%s: %s", b.Blob, role, strings.ToUpper(b.State))
	if b.Why != "" {
		fmt.Fprintf(w, ": %s", b.Why)
	}
	fmt.Fprintln(w)
	if b.Access != "" {
		fmt.Fprintf(w, "  access  %s\n", b.Access)
	}
	if b.Volume != nil {
		fmt.Fprintf(w, "  volume  %d%s, slot %d\n", *b.Volume, from(b.From), b.Blob.Slot())
	}
	for _, n := range b.Needles {
		state := "whole"
		if n.Error != "" {
			state = n.Error
		}
		fmt.Fprintf(w, "  alt %-3d %d bytes at %d: %s\n", n.Alt, n.Size, n.Offset, state)
	}
}

func from(what string) string {
	if what == "" {
		return ""
	}
	return ", read from its " + what
}

func printWhyVolume(w io.Writer, v *tools.WhyVolume) error {
	state := "in service"
	if v.Error != "" {
		state = "NOT IN SERVICE: " + v.Error
	}
	fmt.Fprintf(w, "volume %d: %s\n", v.ID, state)
	if d := v.Directory; d != nil {
		printDirRow(w, d)
	} else {
		fmt.Fprintln(w, "  directory  does not know it")
	}
	for i := range v.Copies {
		printCopy(w, &v.Copies[i])
	}
	return nil
}

func printDirRow(w io.Writer, d *tools.DirRow) {
	fmt.Fprintf(w, "  directory  %s, coding %s, %s, generation %d\n", d.State, d.Coding, d.Class, d.Generation)
	if d.Note != "" {
		fmt.Fprintf(w, "  directory  %s\n", d.Note)
	}
	end := "open"
	if d.Tile.To != nil {
		end = d.Tile.To.UTC().Format(whyTime)
	}
	fmt.Fprintf(w, "  tile       slot %d, %s to %s\n", d.Tile.Slot, d.Tile.From.UTC().Format(whyTime), end)
	for _, r := range d.Replicas {
		how := "in sync"
		if !slices.Contains(d.InSync, r.Disk) {
			how = "to be filled"
		}
		fmt.Fprintf(w, "  replica    on disk %d, %s, %s\n", r.Disk, r.UUID, how)
	}
	if len(d.InSync) < d.Target && len(d.Replicas) > 0 {
		fmt.Fprintf(w, "  replicas   %d in sync, %d wanted\n", len(d.InSync), d.Target)
	}
	for _, e := range d.Epochs {
		fmt.Fprintf(w, "  epoch      %d %s, %s, of generation %d; shards on disks %s\n", e.Epoch, e.Is, e.Policy, e.Source, strings.Trim(fmt.Sprint(e.Homes), "[]"))
	}
}

// printCopy shows a file, or the shards.
func printCopy(w io.Writer, c *tools.Detail) {
	what, where := "file", c.Data
	if c.ShardsOf != nil {
		what, where = "shards", fmt.Sprintf("%d of %d can be read", *c.Shards, *c.ShardsOf)
	}
	fmt.Fprintf(w, "  %-10s %s: %s, generation %s, %s needles, %s live", what, where, c.State, orUnknown(c.Generation, plain), orUnknown(c.Needles, plain), orUnknown(c.LiveBytes, roughly))
	if c.Work != "" {
		fmt.Fprintf(w, ", %s", c.Work)
	}
	fmt.Fprintln(w)
	if c.Error != "" {
		fmt.Fprintf(w, "             %s\n", c.Error)
	}
	if c.Retry != "" {
		fmt.Fprintf(w, "             to be tried again: %s\n", c.Retry)
	}
	if c.Coding == nil {
		return
	}
	for _, s := range c.Coding.Shards {
		since := ""
		if s.Since != nil {
			since = " since " + s.Since.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "             %v%s\n", &s, since)
	}
}
