package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"hayloft/internal/admin"
	"hayloft/volume"
	"hayloft/volume/tools"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func newVolume() *cobra.Command {
	var f volumeFlags
	cmd := &cobra.Command{
		Use:   "volume",
		Short: "Look into volumes, ask why a photo cannot be read, seal and compact",
		Long: `These commands ask a running server at its admin listener, or work offline on
the files of a stopped one:

  hayloft volume ls                        asks the server at http://127.0.0.1:9090
  hayloft volume ls --admin http://H:9090  asks that server
  hayloft volume ls --data DIR[,DIR...]    reads the files in these data directories

With both, --admin decides, and --data only says where the admin token is:
DIR/admin.token. --admin-token-file names the file itself.
With neither, the token is looked for in the data directory of --config, of
HAYLOFT_DATA, or in ./data. dump, verify, export, seal and compact need it.

Offline, ls, show, dump, verify and export never change a file. ls, show and
dump take no lock: beside a running server they show a snapshot. The others want
the directories for themselves. seal and compact change nothing without --apply.
why asks a running server alone.`,
		Args: wantArgs(0, 0, "one of its commands"),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.define(cmd.PersistentFlags())
	for _, c := range []*cobra.Command{newVolumeShow(&f), newVolumeDump(&f), newVolumeVerify(&f), newVolumeExport(&f),
		newVolumeSeal(&f), newVolumeCompact(&f), newVolumeWhy(&f)} {
		c.ValidArgsFunction = f.complete
		cmd.AddCommand(c)
	}
	cmd.AddCommand(newVolumeLs(&f))
	return cmd
}

// define adds the flags to a command and those below it.
func (f *volumeFlags) define(flags *pflag.FlagSet) {
	flags.StringSliceVar(&f.data, "data", nil, "data directories, one for each disk: work on their files, or, with --admin, find the token there")
	flags.StringVar(&f.admin, "admin", "http://127.0.0.1:9090", "admin listener of a running server")
	flags.StringVar(&f.tokenFile, "admin-token-file", "", "file with the admin token of the running server")
	flags.StringVar(&f.config, "config", "", "TOML file of the server, which names its data directory")
}

// complete offers the numbers of volumes to a shell.
func (f *volumeFlags) complete(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	cmd.SetErr(io.Discard)
	var once []string // flags are parsed twice on this way
	for _, d := range f.data {
		if !slices.Contains(once, d) {
			once = append(once, d)
		}
	}
	f.data = once
	o, err := f.open(cmd, false)
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	rows, err := o.List(ctx)
	if o.close(f, err) != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var out []string
	for _, r := range rows {
		out = append(out, fmt.Sprintf("%d\t%s, %s", r.ID, orUnknown(r.Class, plain), r.State))
	}
	return out, cobra.ShellCompDirectiveNoFileComp
}

// volumeFlags say which volumes are meant.
type volumeFlags struct {
	data             []string
	admin, tokenFile string
	config           string
}

// online reports whether a running server is meant.
func (f *volumeFlags) online(cmd *cobra.Command) bool {
	given := func(name string) bool { return cmd.Flags().Changed(name) }
	return given("admin") || given("admin-token-file") || !given("data")
}

// opened are the volumes that a command works on.
type opened struct {
	tools.Source
	keeper tools.Keeper  // nil: the volumes cannot be changed
	stop   func() error  // gives back what is held
	remote *remoteServer // nil offline
}

// open finds the volumes. alone says that offline no server may have them
// meanwhile.
func (f *volumeFlags) open(cmd *cobra.Command, alone bool) (*opened, error) {
	if f.online(cmd) {
		r, err := f.connect()
		if err != nil {
			return nil, err
		}
		stop := func() error { r.client.Close(); return nil }
		return &opened{Source: r.volumes, keeper: r.volumes, remote: r, stop: stop}, nil
	}
	dirs, err := f.dirs()
	if err != nil {
		return nil, err
	}
	files, err := tools.OpenFiles(dirs)
	if err != nil {
		return nil, err
	}
	if !alone {
		for _, d := range files.Used() {
			fmt.Fprintf(cmd.ErrOrStderr(), "hayloft: note: %s is in use by a running server; this is a snapshot taken without a lock\n", d)
		}
	} else if err := files.Claim(); err != nil {
		return nil, errors.Join(f.explain(err, nil), files.Close())
	}
	return &opened{Source: files, stop: files.Close}, nil
}

// openKeeper finds volumes that can be changed: of a running server, or of one that is
// stopped and opened here.
func (f *volumeFlags) openKeeper(cmd *cobra.Command) (*opened, error) {
	if f.online(cmd) {
		return f.open(cmd, false)
	}
	return f.openStopped(cmd)
}

// running finds a running server, for what nobody else can tell.
func (f *volumeFlags) running(cmd *cobra.Command) (*opened, error) {
	if !f.online(cmd) {
		return nil, usagef("%s asks a running server: name it with --admin URL; --data alone is for files", cmd.Name())
	}
	return f.open(cmd, false)
}

// close gives back what is held, and explains err.
func (o *opened) close(f *volumeFlags, err error) error {
	return errors.Join(f.explain(err, o.remote), o.stop())
}

// explain says what can be done about an error.
func (f *volumeFlags) explain(err error, r *remoteServer) error {
	var p *admin.Problem
	switch {
	case errors.Is(err, tools.ErrInUse):
		return fmt.Errorf("%w: stop it first, or ask it with --admin URL", err)
	case errors.As(err, &p) && p.Named(admin.Unauthorized) && r != nil && r.token == "":
		return fmt.Errorf("%s wants its admin token: name the data directory with --data or the file with --admin-token-file (%s)", f.admin, r.why)
	case errors.As(err, &p) && p.Named(admin.Unauthorized) && r != nil:
		return fmt.Errorf("%s refuses the admin token in %s", f.admin, r.tokenFile)
	}
	return err
}

// dirs are the data directories that --data names.
func (f *volumeFlags) dirs() ([]string, error) {
	var out []string
	for _, d := range f.data {
		if d == "" {
			return nil, usagef("--data names no directory")
		}
		if d = filepath.Clean(d); slices.Contains(out, d) {
			return nil, usagef("--data names %s twice", d)
		}
		out = append(out, d)
	}
	if len(out) == 0 {
		return nil, usagef("--data names no directory")
	}
	return out, nil
}

// remoteServer is a running server.
type remoteServer struct {
	client    *admin.Client
	volumes   *tools.Remote
	token     string
	tokenFile string
	why       string // there is no token
}

func (f *volumeFlags) connect() (*remoteServer, error) {
	r := &remoteServer{tokenFile: f.tokenFile}
	var err error
	if r.tokenFile == "" {
		var dirs []string
		if dirs, err = f.tokenDirs(); err == nil {
			files := in(dirs, adminTokenFile)
			r.tokenFile = files[max(0, slices.IndexFunc(files, exists))] // any copy will do
		}
	}
	if wrong := (usageError{}); f.config != "" && errors.As(err, &wrong) {
		return nil, err // a file that was named
	}
	if err == nil {
		r.token, err = readAdminToken(r.tokenFile)
	}
	switch {
	case err != nil && f.tokenFile != "":
		return nil, err
	case errors.Is(err, fs.ErrNotExist):
		r.why = "there is no " + r.tokenFile
	case err != nil:
		r.why = tools.OneLine(err)
	}
	if r.client, err = admin.NewClient(f.admin, r.token); err != nil {
		return nil, usagef("--admin: %v", err)
	}
	r.volumes = tools.NewRemote(r.client)
	return r, nil
}

// tokenDirs are the data directories where the token is looked for: what --data
// says, or what the server itself would use.
func (f *volumeFlags) tokenDirs() ([]string, error) {
	if len(f.data) > 0 {
		return f.data, nil
	}
	if u, err := url.Parse(f.admin); err != nil || !loopbackHost(u.Hostname()) {
		return nil, errors.New("the token of this machine is sent to no other by itself")
	}
	s, err := f.settings()
	if err != nil {
		return nil, err
	}
	return s.data, nil
}

func loopbackHost(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// settings are those of the server, from --config and the environment.
func (f *volumeFlags) settings() (*settings, error) {
	s := &settings{}
	flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
	s.define(flags)
	err := flags.Set("config", f.config)
	if err == nil && len(f.data) > 0 {
		err = flags.Set("data", f.data[0])
		s.data = f.data
	}
	if err == nil {
		_, err = resolve(flags, os.LookupEnv)
	}
	if err == nil {
		err = s.validate()
	}
	if err != nil {
		return nil, usageError{err}
	}
	return s, nil
}

func parseVolume(s string) (volume.ID, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 {
		return 0, usagef("%q is not the number of a volume", s)
	}
	return volume.ID(n), nil
}

// wanted are the volumes that args name, each once, or all there are.
func (o *opened) wanted(ctx context.Context, args []string) ([]volume.ID, error) {
	var out []volume.ID
	for _, a := range args {
		v, err := parseVolume(a)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	if len(args) > 0 {
		for _, v := range out { // all are there, before anything is done with one
			if _, err := o.Show(ctx, v); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	rows, err := o.List(ctx)
	for _, r := range rows {
		if !slices.Contains(out, r.ID) {
			out = append(out, r.ID)
		}
	}
	return out, err
}
