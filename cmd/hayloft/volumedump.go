package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"hayloft/internal/id"
	"hayloft/volume"

	"github.com/spf13/cobra"
)

type dumpFlags struct {
	kinds    []string
	key      string
	alt      int
	from, to int64
	damaged  bool
	cookies  bool
	asJSON   bool

	wantKey id.ID
}

// dumpKinds are the names of records; a gap is where no record was found.
var dumpKinds = map[volume.Kind]string{
	0: "gap", volume.KindNeedle: "needle", volume.KindTombstone: "tombstone", volume.KindVoid: "void", volume.KindMark: "mark",
}

func kindName(k volume.Kind) string {
	if name, ok := dumpKinds[k]; ok {
		return name
	}
	return fmt.Sprintf("kind-%d", k)
}

// dumpRecord is one record as JSON.
type dumpRecord struct {
	Offset   int64       `json:"offset"`
	Size     int64       `json:"size"`
	Kind     string      `json:"kind"`
	Key      *id.ID      `json:"key,omitempty"`
	Alt      *uint8      `json:"alt,omitempty"`
	Cookie   string      `json:"cookie,omitempty"`
	Length   *int        `json:"length,omitempty"`
	SyncedTo *int64      `json:"synced_to,omitempty"`
	ETag     string      `json:"etag,omitempty"`
	Master   *masterJSON `json:"master,omitempty"`
	Damage   string      `json:"damage,omitempty"`
}

type masterJSON struct {
	Photo       id.ID  `json:"photo"`
	Owner       id.ID  `json:"owner"`
	ContentType string `json:"content_type"`
	Time        string `json:"time"`
}

func masterOf(m *volume.MasterInfo) *masterJSON {
	if m == nil {
		return nil
	}
	return &masterJSON{m.Photo, m.Owner, m.ContentType, m.Time.UTC().Format("2006-01-02T15:04:05.000Z07:00")}
}

func newVolumeDump(f *volumeFlags) *cobra.Command {
	var d dumpFlags
	cmd := &cobra.Command{
		Use:   "dump VOLUME|FILE",
		Short: "Print the records of a volume as they lie on the disk",
		Long: `Prints every record of a volume file in the order of the file, with its offset
and what is wrong with it. The file is read as it is: nothing is recovered, no
lock is taken, and a needle that is printed may have been deleted by a
tombstone elsewhere. A name with a slash or ending in .vol is a file, with no
need of --data.`,
		Args: wantArgs(1, 1, "one volume or file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := d.check(); err != nil {
				return err
			}
			names, err := f.dumpFiles(cmd, args[0])
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := d.dump(cmd, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringSliceVar(&d.kinds, "kind", nil, "only records of these kinds: needle, tombstone, void, mark, gap")
	cmd.Flags().StringVar(&d.key, "key", "", "only records of this blob id")
	cmd.Flags().IntVar(&d.alt, "alt", -1, "only needles with this alternate key")
	cmd.Flags().Int64Var(&d.from, "from", 0, "only records that end after this offset, in bytes")
	cmd.Flags().Int64Var(&d.to, "to", 0, "only records that start before this offset, in bytes; 0 is the end")
	cmd.Flags().BoolVar(&d.damaged, "damaged", false, "only gaps and damaged records")
	cmd.Flags().BoolVar(&d.cookies, "cookies", false, "print cookies: with one, anybody can fetch the photo")
	cmd.Flags().BoolVar(&d.asJSON, "json", false, "print one JSON object per line")
	return cmd
}

func (d *dumpFlags) check() error {
	for _, k := range d.kinds {
		known := false
		for _, name := range dumpKinds {
			known = known || name == k
		}
		if !known {
			return usagef("--kind %q: there are needle, tombstone, void, mark and gap", k)
		}
	}
	if d.alt < -1 || d.alt > volume.MaxAlt {
		return usagef("--alt %d: 0 to %d", d.alt, volume.MaxAlt)
	}
	if d.from < 0 || d.to < 0 || d.to != 0 && d.to <= d.from {
		return usagef("--from %d --to %d: no such range", d.from, d.to)
	}
	if d.key != "" {
		key, err := id.Parse(d.key)
		if err != nil {
			return usagef("--key %q is not a blob id", d.key)
		}
		d.wantKey = key
	}
	return nil
}

// dumpFiles returns the files that the argument names.
func (f *volumeFlags) dumpFiles(cmd *cobra.Command, arg string) ([]string, error) {
	if strings.Contains(arg, "/") || strings.HasSuffix(arg, ".vol") {
		st, err := os.Stat(arg)
		if err == nil && st.IsDir() {
			err = fmt.Errorf("%s is a directory", arg)
		}
		return []string{arg}, err
	}
	all, err := f.volumes([]string{arg})
	if err != nil {
		return nil, err
	}
	f.warnUsed(cmd)
	var names []string
	for _, o := range all {
		for _, e := range o.entries {
			names = append(names, o.path(e.Generation))
		}
	}
	return names, nil
}

var errEnough = errors.New("enough")

func (d *dumpFlags) dump(cmd *cobra.Command, name string) error {
	out := cmd.OutOrStdout()
	head := false
	ident, err := volume.Scan(nil, name, func(volume.Record) error { return errEnough })
	if err != nil && !errors.Is(err, errEnough) {
		return errors.New(oneLine(err))
	}
	if !d.asJSON {
		fmt.Fprintf(out, "# volume %d generation %d class %s: %s\n", ident.Volume, ident.Generation, ident.Class, name)
	}
	_, err = volume.Scan(nil, name, func(r volume.Record) error {
		if d.to != 0 && r.Offset >= d.to {
			return errEnough
		}
		if err := cmd.Context().Err(); err != nil || !d.wants(r) {
			return err
		}
		if d.asJSON {
			return d.printJSON(out, r)
		}
		if !head {
			head = true
			if _, err := fmt.Fprintf(out, "%12s %11s %-9s %-13s %3s %10s %-8s %12s\n", "offset", "size", "kind", "key", "alt", "length", "etag", "synced_to"); err != nil {
				return err
			}
		}
		return d.print(out, r)
	})
	if err == nil || errors.Is(err, errEnough) {
		return nil
	}
	return errors.New(oneLine(err))
}

func (d *dumpFlags) wants(r volume.Record) bool {
	switch {
	case len(d.kinds) > 0 && !slices.Contains(d.kinds, kindName(r.Kind)),
		d.wantKey != 0 && r.Key != d.wantKey,
		d.alt >= 0 && (r.Kind != volume.KindNeedle || int(r.Alt) != d.alt),
		r.Offset+r.Size <= d.from,
		d.damaged && r.Kind != 0 && r.Err == nil:
		return false
	}
	return true
}

func (d *dumpFlags) print(out io.Writer, r volume.Record) error {
	key, alt, length, etag, synced := "-", "-", "-", "-", "-"
	if r.Key != 0 {
		key = r.Key.String()
	}
	if r.Kind == volume.KindNeedle {
		alt, length, etag = plain(r.Alt), plain(len(r.Data)), fmt.Sprintf("%08x", r.ETag)
	}
	if r.Kind != 0 {
		synced = plain(r.SyncedTo)
	}
	line := fmt.Sprintf("%12d %11d %-9s %-13s %3s %10s %-8s %12s", r.Offset, r.Size, kindName(r.Kind), key, alt, length, etag, synced)
	if d.cookies && r.Cookie != 0 {
		line += "  cookie=" + r.Cookie.String()
	}
	if m := masterOf(r.Master); m != nil {
		line += fmt.Sprintf("  photo=%v owner=%v type=%q time=%s", m.Photo, m.Owner, m.ContentType, m.Time)
	}
	if r.Err != nil {
		line += "  DAMAGED: " + oneLine(r.Err)
	}
	_, err := fmt.Fprintln(out, line)
	return err
}

func (d *dumpFlags) printJSON(out io.Writer, r volume.Record) error {
	j := dumpRecord{Offset: r.Offset, Size: r.Size, Kind: kindName(r.Kind), Master: masterOf(r.Master)}
	if r.Key != 0 {
		j.Key = &r.Key
	}
	if r.Kind == volume.KindNeedle {
		n := len(r.Data)
		j.Alt, j.Length, j.ETag = &r.Alt, &n, fmt.Sprintf("%08x", r.ETag)
		if d.cookies {
			j.Cookie = r.Cookie.String()
		}
	}
	if r.Kind != 0 {
		j.SyncedTo = &r.SyncedTo
	}
	if r.Err != nil {
		j.Damage = oneLine(r.Err)
	}
	return json.NewEncoder(out).Encode(j)
}

// oneLine joins the lines of an error.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }
