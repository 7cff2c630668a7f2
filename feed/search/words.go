package search

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxWord bounds a word in bytes; what is longer counts by its beginning.
const maxWord = 64

// accented are the scripts whose marks do not count: é is e.
var accented = []*unicode.RangeTable{unicode.Latin, unicode.Greek, unicode.Cyrillic}

// unspaced are the scripts that write words without spaces between them.
var unspaced = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar,
}

// Fold brings a text to the form in which it is compared: compatibility forms are
// replaced, letters are lower case, marks on Latin, Greek and Cyrillic letters left out.
func Fold(s string) string {
	if isPlain(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	bare := false // the last base letter is one of accented
	for _, r := range norm.NFKD.String(s) {
		if unicode.Is(unicode.Mn, r) {
			if bare {
				continue
			}
		} else {
			bare = unicode.In(r, accented...)
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return norm.NFC.String(b.String())
}

func isPlain(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Words are the words of a text, folded, in order: runs of letters and digits. A script
// that does not separate words gives each letter and each pair of neighbours.
func Words(s string) []string { return split(Fold(s), false) }

// queryWords are the words that a photo must have for a query: of a run without
// spaces the pairs alone, which say more than the letters.
func queryWords(s string) []string { return split(Fold(s), true) }

// split returns parts of folded: nothing is copied.
func split(folded string, query bool) (words []string) {
	start := -1    // of a run of the same kind; -1: none
	loose := false // the run is of an unspaced script
	end := func(to int) {
		switch {
		case start < 0:
		case !loose:
			words = append(words, cut(folded[start:to]))
		default:
			words = neighbours(words, folded[start:to], query)
		}
		start = -1
	}
	for i, r := range folded {
		switch {
		case !isWordRune(r):
			end(i)
		case !unicode.IsMark(r): // a mark goes on with what is before it
			if is := r > unicode.MaxLatin1 && unicode.In(r, unspaced...); start < 0 || is != loose {
				end(i)
				start, loose = i, is
			}
		}
	}
	end(len(folded))
	return words
}

// neighbours appends the letters of a run and each two that stand side by side; for a
// query the letters only when there is one.
func neighbours(words []string, run string, query bool) []string {
	before := -1 // where the last letter begins
	for i, r := range run {
		size := utf8.RuneLen(r)
		if !query || size == len(run) {
			words = append(words, run[i:i+size])
		}
		if before >= 0 {
			words = append(words, run[before:i+size])
		}
		before = i
	}
	return words
}

func isWordRune(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.IsMark(r) }

// cut bounds a word.
func cut(w string) string {
	if len(w) <= maxWord {
		return w
	}
	n := maxWord
	for !utf8.RuneStart(w[n]) {
		n--
	}
	return w[:n]
}

// unique sorts a list and leaves each element once.
func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
