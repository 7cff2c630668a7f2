package main

import (
	"fmt"

	"hayloft/volume/tools"

	"github.com/spf13/cobra"
)

func newECDecode(f *volumeFlags) *cobra.Command {
	var to string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "decode VOLUME -o DIR",
		Short: "Take a volume out of its shards, as an ordinary file on this machine",
		Long: `Puts a coded volume together from any K of its shards, and writes it to
DIR/volumes on this machine, wherever the server is, with its delete log of now. Every
byte is read back and checked before the file has its name. The server goes on with
its shards; nothing there is changed. DIR may hold other volumes, and is what the
volume commands take:

  hayloft ec decode 7 -o /tmp/seven
  hayloft volume verify --data /tmp/seven
  hayloft volume export --data /tmp/seven -o photos

The file holds cookies: whoever has it can fetch its photos.`,
		Args: wantArgs(1, 1, "the number of one volume"),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := parseVolume(args[0])
			if err != nil {
				return err
			}
			if to == "" {
				return usagef("name the directory to write: -o DIR")
			}
			o, err := f.openKeeper(cmd)
			if err != nil {
				return err
			}
			s := &steps{verb: "decoded", total: 1}
			p := startProgress(cmd, s.tell)
			d, name, err := tools.DecodeTo(cmd.Context(), o.keeper, v, to, s.report)
			p.end()
			switch {
			case err != nil:
			case asJSON:
				err = printJSON(cmd.OutOrStdout(), decoded{d, name})
			default:
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "volume %d: epoch %d of generation %d, %s, %d needles, %d deletes, verified: %s\n",
					v, d.Epoch, d.Generation, roughly(d.Bytes), d.Needles, d.DeleteKeys, name)
			}
			return o.close(f, inOneLine(err))
		},
	}
	cmd.Flags().StringVarP(&to, "output", "o", "", "directory to write; volumes go to DIR/volumes")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the result as JSON")
	return cmd
}

// decoded is what became of it, as JSON.
type decoded struct {
	tools.Decoded
	File string `json:"file"`
}
