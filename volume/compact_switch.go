package volume

import (
	"cmp"
	"path/filepath"
	"slices"

	"hayloft/internal/vfs"
)

// newest returns the generation that supersedes all others of found: each of
// them is named as the source, with its digest, by the next one.
func newest(fsys vfs.FS, dir string, found []Entry) (Entry, bool) {
	found = slices.Clone(found)
	slices.SortFunc(found, func(a, b Entry) int { return cmp.Compare(a.Generation, b.Generation) })
	var before superblock
	for i, e := range found {
		sb, err := superblockOf(fsys, filepath.Join(dir, e.Name))
		if err != nil || sb.Seal == nil || sb.Volume != e.Volume || sb.Generation != e.Generation {
			return Entry{}, false
		}
		if i > 0 && (sb.Seal.Source != before.Generation || sb.Seal.SourceDigest != before.Seal.Digest) {
			return Entry{}, false
		}
		before = sb
	}
	return found[len(found)-1], true
}

func superblockOf(fsys vfs.FS, name string) (superblock, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return superblock{}, err
	}
	sb, _, err := readSuperblock(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return sb, err
}
