package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"hayloft/internal/vfs"
)

// kept is a small file of which every data directory has the same copy, so that
// it outlives all but the last of them.
type kept struct {
	name  string
	valid func(file string, text []byte) error     // says why a copy is damaged
	write func(dir string, text []byte) error      // durable; nil: as vfs.WriteFile does
	merge func(a, b []byte) (text []byte, ok bool) // of two that differ, when that may be; nil: it may not
}

// read returns what the intact copies hold, nil when no directory has one, and
// the directories that lack it.
func (k kept) read(dirs []string) (text []byte, lack []string, err error) {
	var away, damaged []error
	var from string
	for _, dir := range dirs {
		file := filepath.Join(dir, k.name)
		copied, err := vfs.ReadFile(vfs.OS{}, file, 4096)
		if err == nil {
			if err = k.valid(file, copied); err != nil {
				damaged = append(damaged, err)
				lack = append(lack, dir)
				continue
			}
		}
		switch {
		case errors.Is(err, fs.ErrNotExist):
			lack = append(lack, dir)
		case err != nil:
			away = append(away, err)
		case text == nil:
			text, from = copied, file
		case !bytes.Equal(text, copied):
			merged, ok := text, false
			if k.merge != nil {
				merged, ok = k.merge(text, copied)
			}
			if !ok {
				return nil, nil, fmt.Errorf("%s and %s differ: take away the directory that does not belong to this server, or the file that is out of date", from, file)
			}
			text = merged
		}
	}
	if text == nil {
		if len(damaged) > 0 {
			return nil, nil, damaged[0]
		}
		if len(away) > 0 {
			return nil, nil, fmt.Errorf("no data directory has %s, and this one may: %w", k.name, errors.Join(away...))
		}
	}
	return text, lack, nil
}

// spread makes the copies that are lacking. It fails when none of dirs could take
// one; some says which did not.
func (k kept) spread(dirs []string, text []byte) (some error, err error) {
	var errs []error
	for _, dir := range dirs {
		write := k.write
		if write == nil {
			write = func(dir string, text []byte) error {
				return vfs.WriteFile(vfs.OS{}, filepath.Join(dir, k.name), text)
			}
		}
		if err := write(dir, text); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 && len(errs) == len(dirs) {
		return nil, errors.Join(errs...)
	}
	return errors.Join(errs...), nil
}

// in are the paths of the same name in every data directory.
func in(dirs []string, parts ...string) []string {
	out := make([]string, len(dirs))
	for i, d := range dirs {
		out[i] = filepath.Join(append([]string{d}, parts...)...)
	}
	return out
}
