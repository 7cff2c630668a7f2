//go:build cgo

package main

import (
	"fmt"
	"os"
	"strconv"

	"hayloft/media"
)

const usage = `usage: hayloft-media [MAX-BYTES]

A decoding child of hayloft server, which starts it by itself: it reads jobs on
its standard input and answers on its standard output (docs/media.md).
MAX-BYTES bounds the file of one job; the default is 32 MiB.
`

func main() { os.Exit(run(os.Args[1:])) }

func run(args []string) int {
	maxBytes := int64(0)
	if len(args) > 0 {
		n, err := strconv.ParseInt(args[0], 10, 64)
		if err != nil || n <= 0 || n > 1<<30 || len(args) > 1 {
			fmt.Fprint(os.Stderr, usage)
			return 2
		}
		maxBytes = n
	}
	e, err := start()
	if err == nil {
		err = media.Serve(os.Stdin, os.Stdout, maxBytes, e)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "hayloft-media:", err)
		return 1
	}
	return 0
}
