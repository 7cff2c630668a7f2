package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"hayloft/internal/vfs"
	"hayloft/volume/torture"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// privateMounts marks a process that has a mount namespace of its own.
const privateMounts = "HAYLOFT_TORTURE_PRIVATE"

type tortureFlags struct {
	minutes float64
	rounds  int
	seed    uint64
	power   bool
	faults  string
	asJSON  bool
}

func newTorture() *cobra.Command {
	var f tortureFlags
	cmd := &cobra.Command{
		Use:   "torture DIR",
		Short: "The crash test on your own disk: acknowledged and lost, counted",
		Long: `Starts a writer that puts and deletes images in volumes below DIR, kills it
with kill -9 at random moments, again and again, opens what it left, and
compares every byte with what was acknowledged. With --power, as root, the
volumes lie in an ext4 image with a journal on a loop device (a sparse file of
512 MiB in DIR), which is cut off like a power failure instead: what was not
synced is lost.

DIR keeps nothing of it, unless something was lost: then the volumes stay for
whoever looks into it. Exit code 1 when anything is not as it must be.`,
		Args: wantArgs(1, 1, "one directory"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			if f.power && os.Getenv(privateMounts) == "" {
				if err := unshareMounts(); err != nil {
					return fmt.Errorf("%w: a mount namespace: %w", torture.ErrNoPower, err)
				}
			}
			return f.run(cmd, args[0])
		},
	}
	cmd.Flags().Float64Var(&f.minutes, "minutes", 1, "how long; the last round is finished")
	cmd.Flags().IntVar(&f.rounds, "rounds", 0, "how many kills or power cuts, instead of minutes")
	cmd.Flags().Uint64Var(&f.seed, "seed", 0, "seed of contents and moments (default drawn, and printed)")
	cmd.Flags().BoolVar(&f.power, "power", false, "cut the power of a file system instead of killing (root)")
	cmd.Flags().StringVar(&f.faults, "faults", "", "command that starts the writer and makes its calls fail, for example strace with -e inject")
	cmd.Flags().BoolVar(&f.asJSON, "json", false, "print the result as JSON")
	return cmd
}

func (f *tortureFlags) check(cmd *cobra.Command) error {
	switch {
	case f.rounds < 0 || cmd.Flags().Changed("rounds") && f.rounds == 0:
		return usagef("--rounds %d: at least one", f.rounds)
	case !(f.minutes > 0) || f.minutes > 1e6:
		return usagef("--minutes %v: more than 0", f.minutes)
	case f.rounds > 0 && cmd.Flags().Changed("minutes"):
		return usagef("--minutes and --rounds exclude one another")
	case f.power && f.faults != "":
		return usagef("--power and --faults exclude one another")
	}
	if !cmd.Flags().Changed("seed") {
		f.seed = uint64(time.Now().UnixNano())
	}
	return nil
}

// unshareMounts starts this program again with mounts that nobody else sees
// and that end with it, however it ends. It returns only an error.
func unshareMounts() error {
	if os.Geteuid() != 0 {
		return errors.New("not root")
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// The namespace is the thread's, and exec keeps that of the thread which
	// calls it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Exec(self, os.Args, append(os.Environ(), privateMounts+"=1"))
}

// run makes the place, tortures, tells, and cleans up.
func (f *tortureFlags) run(cmd *cobra.Command, dir string) (err error) {
	work, err := torture.Prepare(dir)
	if err != nil {
		return err
	}
	keep := false
	defer func() {
		if keep {
			fmt.Fprintf(cmd.ErrOrStderr(), "the volumes are kept in %s\n", work)
			return
		}
		err = errors.Join(err, os.RemoveAll(work))
	}()
	o, err := f.options(cmd)
	if err != nil {
		return err
	}
	o.Dir = filepath.Join(work, "volumes")
	if f.power {
		if o.Disk, err = torture.NewDisk(work); err != nil {
			return err
		}
		o.Dir = filepath.Join(o.Disk.Dir(), "volumes")
		defer func() {
			if keep {
				err = errors.Join(err, os.CopyFS(filepath.Join(work, "volumes"), os.DirFS(o.Dir)))
			}
			err = errors.Join(err, o.Disk.Close())
		}()
	}
	// Durable, as the server makes it: the first power cut may come at once.
	if err := (vfs.OS{}).MkdirAll(o.Dir); err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "hayloft torture: seed %d, %s in %s\n", f.seed, f.what(), work)
	r, err := torture.Run(cmd.Context(), o)
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted: the counts are those until then")
	}
	if terr := f.tell(cmd, r); terr != nil {
		err = errors.Join(err, terr)
	}
	if !r.OK() {
		keep = true
		err = errors.Join(err, fmt.Errorf("the engine failed: repeat with --seed %d", f.seed))
	}
	return err
}

func (f *tortureFlags) options(cmd *cobra.Command) (torture.Options, error) {
	self, err := os.Executable()
	if err != nil {
		return torture.Options{}, err
	}
	o := torture.Options{
		Rounds: f.rounds, Seed: f.seed, Faults: f.faults != "",
		Writer: append(strings.Fields(f.faults), self, "torture-writer"),
	}
	if f.rounds == 0 {
		o.For = time.Duration(f.minutes * float64(time.Minute))
	}
	var told time.Time
	o.Progress = func(r *torture.Result) {
		if time.Since(told) >= time.Second {
			told = time.Now()
			fmt.Fprintln(cmd.ErrOrStderr(), r.Line())
		}
	}
	return o, nil
}

func (f *tortureFlags) what() string {
	switch {
	case f.power:
		return "power cuts"
	case f.faults != "":
		return "failing calls"
	}
	return "kill -9"
}

func (f *tortureFlags) tell(cmd *cobra.Command, r *torture.Result) error {
	for _, d := range r.Details {
		fmt.Fprintln(cmd.ErrOrStderr(), d)
	}
	if f.asJSON {
		return printJSON(cmd.OutOrStdout(), r)
	}
	return r.WriteTable(cmd.OutOrStdout())
}

// newTortureWriter is the process that torture kills.
func newTortureWriter() *cobra.Command {
	var o torture.WriterOptions
	cmd := &cobra.Command{
		Use:    "torture-writer",
		Short:  "What hayloft torture kills",
		Hidden: true,
		Args:   wantArgs(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if o.Earlier, err = torture.ReadRefs(cmd.InOrStdin()); err != nil {
				return err
			}
			o.Out = cmd.OutOrStdout()
			return torture.Writer(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "", "directory of the volumes")
	cmd.Flags().Uint64Var(&o.Seed, "seed", 0, "seed of the contents")
	cmd.Flags().IntVar(&o.Round, "round", 1, "which life this is")
	return cmd
}
