package raftgroup

import (
	"bytes"
	"errors"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

// What Raft keeps in the stable store, and this member beside it.
var stableKeys = [][]byte{[]byte("CurrentTerm"), []byte("LastVoteTerm"), []byte("LastVoteCand"), admittedKey}

// getTerm reads Raft's term, zero when there is none.
func getTerm(s store) (term uint64, err error) {
	err = guarded(func() error { term, err = s.GetUint64(stableKeys[0]); return err })
	if errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return 0, nil
	}
	return term, err
}

// Bounds of one write of a copy.
const (
	fillEntries = 1024
	fillBytes   = 4 << 20
)

// fill makes dst hold what src holds: entries and stable store, each entry
// checked on its way. What both have alike is left alone. dst may begin later than
// src, if what it lacks is in a snapshot. An error of src is a *sourceError.
func fill(dst, src store, stop <-chan struct{}) error {
	from, to, err := bounds(src)
	if err != nil {
		return &sourceError{err}
	}
	have, last, err := bounds(dst)
	if err != nil {
		return err
	}
	next := from
	if last > 0 {
		keep, err := common(dst, src, max(from, have), min(to, last))
		if err != nil {
			return err
		}
		cut := have
		if keep > 0 {
			cut, next = keep+1, keep+1
		}
		if cut <= last {
			if err := dst.DeleteRange(cut, last); err != nil {
				return err
			}
		}
		if keep > 0 && have < from {
			if err := dst.DeleteRange(have, from-1); err != nil {
				return err
			}
		}
	}
	if to > 0 {
		if err := copyEntries(dst, src, next, to, stop); err != nil {
			return err
		}
	}
	return copyStable(dst, src)
}

func bounds(s store) (first, last uint64, err error) {
	err = guarded(func() error {
		if first, err = s.FirstIndex(); err == nil {
			last, err = s.LastIndex()
		}
		return err
	})
	return first, last, err
}

// common returns the last entry between lo and hi that is the same in both, zero
// for none. By Raft's rules those before it are the same too.
func common(dst, src store, lo, hi uint64) (uint64, error) {
	for i := hi; i >= lo && i > 0; i-- {
		a, err := readEntry(dst, i)
		if err != nil {
			return 0, err
		}
		b, err := readEntry(src, i)
		if err != nil {
			return 0, &sourceError{err}
		}
		if a.Term == b.Term && bytes.Equal(a.Extensions, b.Extensions) {
			return i, nil
		}
	}
	return 0, nil
}

func copyEntries(dst, src store, next, to uint64, stop <-chan struct{}) error {
	for next <= to {
		select {
		case <-stop:
			return ErrStopped
		default:
		}
		var part []*raft.Log
		for size := 0; next <= to && len(part) < fillEntries && size < fillBytes; next++ {
			l, err := readEntry(src, next)
			if err != nil {
				return &sourceError{err}
			}
			part = append(part, l)
			size += len(l.Data)
		}
		if err := guarded(func() error { return dst.StoreLogs(part) }); err != nil {
			return err
		}
	}
	return nil
}

func copyStable(dst, src store) error {
	for _, key := range stableKeys {
		want, err := src.Get(key)
		if errors.Is(err, raftboltdb.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return &sourceError{err}
		}
		have, err := dst.Get(key)
		if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
			return err
		}
		if err == nil && bytes.Equal(have, want) {
			continue
		}
		if err := dst.Set(key, want); err != nil {
			return err
		}
	}
	return nil
}
