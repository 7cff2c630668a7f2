package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"hayloft/internal/id"
)

const (
	maxDepth = 16          // of nested JSON values
	slowBody = time.Second // after which the token is looked at once more
)

// fields are the members of a request body, JSON or form, on their way to
// being checked. Reading a member of the wrong type fails the whole body as
// malformed (400); a value that is not allowed becomes a fault, and all faults
// are reported together (422). Members nobody reads are ignored, so that old
// servers take bodies of newer clients and fields such as owner_id or status
// change nothing.
type fields struct {
	members   map[string]any
	malformed *problem
	faults    []fault
}

// jsonBody reads the body as one JSON object.
func (r *request) jsonBody() (*fields, error) {
	ct := string(r.rc.Request.Header.ContentType())
	b, err := r.body(r.a.opt.Limits.BodyBytes)
	if err != nil {
		return nil, err
	}
	if r.viewer != 0 && r.alive != nil && r.a.opt.Clock.Elapsed()-r.letIn > slowBody {
		if err := r.stillIn(); err != nil {
			return nil, err
		}
	}
	if len(b) == 0 {
		return nil, pMalformed.because("the body is empty; a JSON object is needed")
	}
	if t, _, err := mime.ParseMediaType(ct); err != nil || t != typeJSON {
		return nil, pMediaType.because("this call takes Content-Type: application/json")
	}
	m, err := decodeObject(b)
	if err != nil {
		return nil, pMalformed.because("%v", err)
	}
	return &fields{members: m}, nil
}

// decodeObject reads exactly one JSON object. Beyond what JSON itself demands
// it refuses a name given twice, text that is not UTF-8, and deep nesting.
func decodeObject(b []byte) (map[string]any, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("the body is not UTF-8")
	}
	var whole json.RawMessage
	if err := json.Unmarshal(b, &whole); err != nil {
		var se *json.SyntaxError
		if errors.As(err, &se) {
			return nil, fmt.Errorf("not JSON at byte %d: %v", se.Offset, se)
		}
		return nil, errors.New("not JSON")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	v, err := decodeValue(d, 0)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("the body is not a JSON object")
	}
	return m, nil
}

// decodeValue reads one value; the text is known to be valid JSON.
func decodeValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested deeper than %d, at byte %d", maxDepth, d.InputOffset())
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		m := make(map[string]any)
		for d.More() {
			name, err := d.Token()
			if err != nil {
				return nil, err
			}
			k := name.(string) // the grammar was checked
			if _, twice := m[k]; twice {
				return nil, fmt.Errorf("a member is given twice, at byte %d", d.InputOffset())
			}
			if m[k], err = decodeValue(d, depth+1); err != nil {
				return nil, err
			}
		}
		_, err := d.Token()
		return m, err
	case json.Delim('['):
		list := []any{}
		for d.More() {
			v, err := decodeValue(d, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		_, err := d.Token()
		return list, err
	}
	return t, nil
}

func (f *fields) wrong(name, want string) {
	if f.malformed == nil {
		f.malformed = pMalformed.because("/%s is not %s", name, want)
	}
}

func (f *fields) fault(name, format string, args ...any) {
	f.faults = append(f.faults, fault{Pointer: "/" + name, Detail: fmt.Sprintf(format, args...)})
}

// done returns what is wrong with the body, if anything.
func (f *fields) done() error {
	if f.malformed != nil {
		return f.malformed
	}
	if len(f.faults) > 0 {
		return &problem{kind: pInvalid, faults: f.faults}
	}
	return nil
}

// has reports whether a member is there, be it null.
func (f *fields) has(name string) bool { _, ok := f.members[name]; return ok }

// raw returns a member as text, and nil when it is absent. null is the empty text.
func (f *fields) raw(name string) *string {
	v, ok := f.members[name]
	if !ok {
		return nil
	}
	s, isText := v.(string)
	if !isText && v != nil {
		f.wrong(name, "a text")
	}
	return &s
}

// text returns a member that people read: trimmed, at most limit characters,
// without control characters; line ends only where lines is true.
func (f *fields) text(name string, limit int, lines bool) *string {
	p := f.raw(name)
	if p == nil {
		return nil
	}
	s := strings.TrimSpace(strings.ReplaceAll(*p, "\r\n", "\n"))
	if n := utf8.RuneCountInString(s); n > limit {
		f.fault(name, "has %d characters, at most %d are allowed", n, limit)
	}
	if strings.ContainsFunc(s, func(c rune) bool { return unicode.IsControl(c) && !(lines && (c == '\n' || c == '\t')) }) {
		f.fault(name, "contains a control character")
	}
	return &s
}

func (f *fields) boolean(name string) bool {
	v, ok := f.members[name]
	b, isBool := v.(bool)
	if ok && !isBool {
		f.wrong(name, "true or false")
	}
	return b
}

// integer returns a whole number; absent is a malformed body.
func (f *fields) integer(name string) int64 {
	n, ok := f.members[name].(json.Number)
	v, err := strconv.ParseInt(n.String(), 10, 64)
	if !ok || err != nil {
		f.wrong(name, "a whole number")
	}
	return v
}

// ident returns an id; absent or null is 0.
func (f *fields) ident(name string) id.ID {
	p := f.raw(name)
	if p == nil || f.members[name] == nil {
		return 0
	}
	return f.parseID(name, *p)
}

func (f *fields) parseID(name, text string) id.ID {
	v, err := id.Parse(text)
	if err != nil && f.malformed == nil {
		f.malformed = pMalformedID.because("/%s is not an id", name)
	}
	return v
}

// texts returns a list of texts, nil when absent and empty when null.
func (f *fields) texts(name string, limit int) []string {
	v, ok := f.members[name]
	if !ok {
		return nil
	}
	list, isList := v.([]any)
	if !isList && v != nil {
		f.wrong(name, "a list of texts")
	}
	if len(list) > limit {
		f.fault(name, "has %d entries, at most %d are allowed", len(list), limit)
		return []string{}
	}
	out := []string{}
	for _, e := range list {
		s, isText := e.(string)
		if !isText {
			f.wrong(name, "a list of texts")
		}
		out = append(out, s)
	}
	return out
}
