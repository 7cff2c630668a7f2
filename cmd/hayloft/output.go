package main

import (
	"encoding/json"
	"io"
)

// printJSON writes v indented, for scripts and people alike.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
