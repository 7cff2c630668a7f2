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

func split(folded string, query bool) (words []string) {
	var run []rune // of the same kind
	loose := false // the run is of an unspaced script
	end := func() {
		switch {
		case len(run) == 0:
		case !loose:
			words = append(words, cut(string(run)))
		default:
			for i := range run {
				if !query || len(run) == 1 {
					words = append(words, string(run[i]))
				}
				if i > 0 {
					words = append(words, string(run[i-1:i+1]))
				}
			}
		}
		run = run[:0]
	}
	for _, r := range folded {
		switch {
		case unicode.IsMark(r) && len(run) > 0:
			run = append(run, r)
		case isWordRune(r) && !unicode.IsMark(r):
			if is := unicode.In(r, unspaced...); is != loose {
				end()
				loose = is
			}
			run = append(run, r)
		default:
			end()
		}
	}
	end()
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
