package api

import (
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"hayloft/internal/id"
)

// object writes JSON, without looking at types again for each row of a page. What it
// writes is what encoding/json does, byte for byte. The caller opens and closes in pairs;
// commas come by themselves.
type object struct{ b []byte }

// comma separates what follows from what is before it in the same object or list.
func (o *object) comma() {
	if n := len(o.b); n > 0 && o.b[n-1] != '{' && o.b[n-1] != '[' {
		o.b = append(o.b, ',')
	}
}

// name begins a member, whose value is to follow. name needs no escapes.
func (o *object) name(name string) *object {
	o.comma()
	o.b = append(append(append(o.b, '"'), name...), '"', ':')
	return o
}

// item begins an item of a list, which is to follow.
func (o *object) item() *object {
	o.comma()
	return o
}

func (o *object) open(bracket byte)  { o.b = append(o.b, bracket) }
func (o *object) close(bracket byte) { o.b = append(o.b, bracket) }
func (o *object) null()              { o.b = append(o.b, "null"...) }

func (o *object) text(name, v string)          { o.name(name).quote(v) }
func (o *object) id(name string, v id.ID)      { o.name(name).quoteID(v) }
func (o *object) number(name string, v uint64) { o.b = strconv.AppendUint(o.name(name).b, v, 10) }
func (o *object) integer(name string, v int)   { o.b = strconv.AppendInt(o.name(name).b, int64(v), 10) }
func (o *object) bool(name string, v bool)     { o.b = strconv.AppendBool(o.name(name).b, v) }
func (o *object) textOrNull(name string, v *string) {
	if v == nil {
		o.name(name).null()
		return
	}
	o.text(name, *v)
}

// time writes a time as the API shows all times.
func (o *object) time(name string, v time.Time) {
	b := append(o.name(name).b, '"')
	o.b = append(utc(v).AppendFormat(b, time.RFC3339Nano), '"')
}

// float writes a finite number.
func (o *object) float(name string, v float64) {
	format := byte('f')
	if a := math.Abs(v); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	b := strconv.AppendFloat(o.name(name).b, v, format, -1, 64)
	if n := len(b); format == 'e' && n >= 4 && b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' {
		b = append(b[:n-2], b[n-1]) // e-09 is e-9
	}
	o.b = b
}

// quoteID writes an id; none is the empty text.
func (o *object) quoteID(v id.ID) {
	o.b = append(o.b, '"')
	if v != 0 {
		o.b = v.Append(o.b)
	}
	o.b = append(o.b, '"')
}

// quote writes a text. What is not UTF-8 becomes U+FFFD, and what HTML or JavaScript
// would take for theirs is escaped too.
func (o *object) quote(s string) {
	b := append(o.b, '"')
	from := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if plain[c] {
				i++
				continue
			}
			b = escape(append(b, s[from:i]...), c)
			i++
			from = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r != utf8.RuneError && r != '\u2028' && r != '\u2029' || r == utf8.RuneError && n > 1 {
			i += n
			continue
		}
		b = append(b, s[from:i]...)
		b = append(b, `\u`...)
		for shift := 12; shift >= 0; shift -= 4 {
			b = append(b, hexDigits[r>>shift&15])
		}
		i += n
		from = i
	}
	o.b = append(append(b, s[from:]...), '"')
}

const hexDigits = "0123456789abcdef"

// plain are the ASCII characters that stand for themselves.
var plain = func() (t [utf8.RuneSelf]bool) {
	for c := range t {
		switch {
		case c < ' ', c == '"', c == '\\', c == '<', c == '>', c == '&':
		default:
			t[c] = true
		}
	}
	return t
}()

// escape appends an ASCII character that is not plain.
func escape(b []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(b, '\\', c)
	case '\b':
		return append(b, '\\', 'b')
	case '\f':
		return append(b, '\\', 'f')
	case '\n':
		return append(b, '\\', 'n')
	case '\r':
		return append(b, '\\', 'r')
	case '\t':
		return append(b, '\\', 't')
	}
	return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
