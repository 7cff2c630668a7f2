package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"hayloft/internal/id"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

func newVolumeDump(f *volumeFlags) *cobra.Command {
	var q tools.Query
	var key string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "dump VOLUME|FILE",
		Short: "Print the records of a volume as they lie on the disk",
		Long: `Prints every record of a volume file in the order of the file, with its offset
and what is wrong with it. The file is read as it is: nothing is recovered, no
lock is taken, and a needle that is printed may have been deleted by a
tombstone elsewhere. A name with a slash or ending in .vol is a file here, with
no need of a server or of --data.`,
		Args: wantArgs(1, 1, "one volume or file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key != "" {
				var err error
				if q.Key, err = id.Parse(key); err != nil {
					return usagef("--key %q is not a blob id", key)
				}
			}
			if err := q.Validate(); err != nil {
				return usagef("--%v", err)
			}
			return f.dump(cmd, args[0], q, dumpPrinter{out: cmd.OutOrStdout(), cookies: q.Cookies, asJSON: asJSON})
		},
	}
	cmd.Flags().StringSliceVar(&q.Kinds, "kind", nil, "only records of these kinds: "+tools.KindNames())
	cmd.Flags().StringVar(&key, "key", "", "only records of this blob id")
	cmd.Flags().IntVar(&q.Alt, "alt", tools.AllAlts, "only needles with this alternate key")
	cmd.Flags().Int64Var(&q.From, "from", 0, "only records that end after this offset, in bytes")
	cmd.Flags().Int64Var(&q.To, "to", 0, "only records that start before this offset, in bytes; 0 is the end")
	cmd.Flags().BoolVar(&q.Damaged, "damaged", false, "only gaps and damaged records")
	cmd.Flags().BoolVar(&q.Cookies, "cookies", false, "print cookies: with one, anybody can fetch the photo")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per line")
	return cmd
}

func (f *volumeFlags) dump(cmd *cobra.Command, arg string, q tools.Query, p dumpPrinter) error {
	sink := tools.DumpSink{File: p.file, Record: p.record}
	if strings.Contains(arg, "/") || strings.HasSuffix(arg, ".vol") {
		st, err := os.Stat(arg)
		if err == nil && st.IsDir() {
			err = fmt.Errorf("%s is a directory", arg)
		}
		if err == nil {
			err = tools.DumpPath(cmd.Context(), nil, arg, q, sink)
		}
		return inOneLine(err)
	}
	v, err := parseVolume(arg)
	if err != nil {
		return err
	}
	o, err := f.open(cmd, false)
	if err != nil {
		return err
	}
	return o.close(f, inOneLine(o.Dump(cmd.Context(), v, q, sink)))
}

// inOneLine is err as one line, which says what it says.
func inOneLine(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "\n") {
		return err
	}
	return errors.New(tools.OneLine(err))
}

// dumpPrinter writes records as a table or as JSON lines.
type dumpPrinter struct {
	out     io.Writer
	cookies bool
	asJSON  bool
}

func (p dumpPrinter) file(f tools.DumpFile) error {
	if p.asJSON {
		return nil
	}
	_, err := fmt.Fprintf(p.out, "# volume %d generation %d class %s: %s\n%12s %11s %-9s %-13s %3s %10s %-8s %12s\n",
		f.ID, f.Generation, f.Class, f.File, "offset", "size", "kind", "key", "alt", "length", "etag", "synced_to")
	return err
}

func (p dumpPrinter) record(r tools.DumpRecord) error {
	if p.asJSON {
		return json.NewEncoder(p.out).Encode(r)
	}
	etag := r.ETag
	if etag == "" {
		etag = "-"
	}
	line := fmt.Sprintf("%12d %11d %-9s %-13s %3s %10s %-8s %12s", r.Offset, r.Size, r.Kind, orUnknown(r.Key, plain),
		orUnknown(r.Alt, plain), orUnknown(r.Length, plain), etag, orUnknown(r.SyncedTo, plain))
	if r.Cookie != "" {
		line += "  cookie=" + r.Cookie
	}
	if m := r.Master; m != nil {
		line += fmt.Sprintf("  photo=%v owner=%v type=%q time=%s", m.Photo, m.Owner, m.ContentType, m.Time)
	}
	if r.Damage != "" {
		line += "  DAMAGED: " + r.Damage
	}
	_, err := fmt.Fprintln(p.out, line)
	return err
}
