package api

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"gopkg.in/yaml.v3"
)

// openAPI is openapi.yaml, read for holding answers against it. Beyond the
// document's own meaning it is strict: a member that the document does not know
// is a fault, so that nothing goes out undescribed.
type openAPI struct {
	doc    m
	routes *routeTable
}

// everyRoute is what a process with everything answers.
func everyRoute() []route { return slices.Concat(commonRoutes(), accountRoutes(), blobRoutes()) }

var loadContract = sync.OnceValues(func() (*openAPI, error) {
	var doc m
	err := yaml.Unmarshal(openAPIDocument, &doc)
	return &openAPI{doc: doc, routes: newRouteTable(everyRoute())}, err
})

func contract(t *testing.T) *openAPI {
	t.Helper()
	c, err := loadContract()
	must(t, err)
	return c
}

// resolve follows a $ref.
func (c *openAPI) resolve(v any) m {
	node, _ := v.(m)
	for {
		ref, ok := node["$ref"].(string)
		if !ok {
			return node
		}
		var at any = c.doc
		for part := range strings.SplitSeq(strings.TrimPrefix(ref, "#/"), "/") {
			at = at.(m)[part]
		}
		if node, ok = at.(m); !ok {
			panic("dangling " + ref)
		}
	}
}

// operation returns what the document says of a route, or nil.
func (c *openAPI) operation(rt *route) m {
	item, _ := c.doc["paths"].(m)[rt.pattern].(m)
	op, _ := item[strings.ToLower(rt.method)].(m)
	return op
}

// check holds an answer against the document.
func (c *openAPI) check(a *answer, method, path string) {
	a.t.Helper()
	segments, ok := splitPath(path)
	rt, _, _ := c.routes.match(method, segments)
	if !ok || rt == nil {
		if a.status < 400 {
			a.t.Errorf("%s: %d from a path that is no call", a.call, a.status)
		}
		return
	}
	responses, _ := c.operation(rt)["responses"].(m)
	resp, listed := responses[fmt.Sprint(a.status)]
	if !listed {
		if a.status != 500 {
			a.t.Errorf("%s: %d is not in openapi.yaml: %s", a.call, a.status, a.body)
		}
		resp = responses["default"]
	}
	content, _ := c.resolve(resp)["content"].(m)
	if len(content) == 0 || method == "HEAD" {
		if len(a.body) != 0 {
			a.t.Errorf("%s: %d has a body: %q", a.call, a.status, a.body)
		}
		return
	}
	ct, _, _ := strings.Cut(a.header.Get("Content-Type"), ";")
	entry, ok := content[ct]
	if wild, w := content["image/*"]; !ok && w && strings.HasPrefix(ct, "image/") {
		entry, ok = wild, true
	}
	if wild, w := content["*/*"]; !ok && w {
		entry, ok = wild, true
	}
	if !ok {
		a.t.Errorf("%s: %d has Content-Type %q", a.call, a.status, ct)
		return
	}
	schema, ok := entry.(m)["schema"]
	if !ok {
		return
	}
	var v any
	if err := json.Unmarshal(a.body, &v); err != nil {
		a.t.Errorf("%s: %v", a.call, err)
		return
	}
	for _, fault := range c.faults(schema, v, "") {
		a.t.Errorf("%s: %d: %s in %s", a.call, a.status, fault, a.body[:min(len(a.body), 400)])
	}
}

// faults lists what is wrong with v under a schema.
func (c *openAPI) faults(schema any, v any, at string) (out []string) {
	s := c.resolve(schema)
	bad := func(format string, args ...any) { out = append(out, at+" "+fmt.Sprintf(format, args...)) }
	if one, ok := s["oneOf"].([]any); ok {
		matches := 0
		for _, alt := range one {
			if len(c.faults(alt, v, at)) == 0 {
				matches++
			}
		}
		if matches != 1 {
			bad("matches %d of oneOf", matches)
		}
		return out
	}
	if enum, ok := s["enum"].([]any); ok && !slices.Contains(enum, v) {
		bad("is %v, none of %v", v, enum)
	}
	if k, ok := s["const"]; ok && k != v {
		bad("is %v, not %v", v, k)
	}
	if types, ok := s["type"]; ok && !typeMatches(types, v) {
		bad("is %T, not %v", v, types)
		return out
	}
	switch v := v.(type) {
	case string:
		out = append(out, stringFaults(s, v, at)...)
	case float64:
		if lo, ok := number(s["minimum"]); ok && v < lo {
			bad("is %v, under %v", v, lo)
		}
		if hi, ok := number(s["maximum"]); ok && v > hi {
			bad("is %v, over %v", v, hi)
		}
	case []any:
		for i, e := range v {
			out = append(out, c.faults(s["items"], e, fmt.Sprintf("%s/%d", at, i))...)
		}
	case m:
		out = append(out, c.objectFaults(s, v, at)...)
	}
	return out
}

func (c *openAPI) objectFaults(s m, v m, at string) (out []string) {
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := v[name.(string)]; !ok {
			out = append(out, fmt.Sprintf("%s lacks %v", at, name))
		}
	}
	props, _ := s["properties"].(m)
	for name, e := range v {
		if names, ok := s["propertyNames"]; ok {
			out = append(out, c.faults(names, name, at+"/"+name)...)
		}
		p, known := props[name]
		if !known {
			p, known = s["additionalProperties"]
		}
		if !known {
			out = append(out, fmt.Sprintf("%s/%s is not described", at, name))
			continue
		}
		out = append(out, c.faults(p, e, at+"/"+name)...)
	}
	return out
}

func stringFaults(s m, v, at string) (out []string) {
	bad := func(format string, args ...any) { out = append(out, at+" "+fmt.Sprintf(format, args...)) }
	if p, ok := s["pattern"].(string); ok && !regexp.MustCompile(p).MatchString(v) {
		bad("%q does not match %s", v, p)
	}
	if n, ok := number(s["maxLength"]); ok && utf8.RuneCountInString(v) > int(n) {
		bad("has more than %v characters", n)
	}
	switch s["format"] {
	case "date-time":
		if _, err := time.Parse(time.RFC3339Nano, v); err != nil || !strings.HasSuffix(v, "Z") {
			bad("%q is not RFC 3339 in UTC", v)
		}
	case "uri":
		if u, err := url.Parse(v); err != nil || !u.IsAbs() {
			bad("%q is not an absolute URL", v)
		}
	}
	return out
}

func number(v any) (float64, bool) {
	switch n := v.(type) {
	case int:
		return float64(n), true
	case float64:
		return n, true
	}
	return 0, false
}

func typeMatches(types, v any) bool {
	list, ok := types.([]any)
	if !ok {
		list = []any{types}
	}
	for _, t := range list {
		f, isNumber := v.(float64)
		_, isString := v.(string)
		_, isBool := v.(bool)
		_, isArray := v.([]any)
		_, isObject := v.(m)
		switch t {
		case "string":
			ok = isString
		case "integer":
			ok = isNumber && f == math.Trunc(f)
		case "number":
			ok = isNumber
		case "boolean":
			ok = isBool
		case "array":
			ok = isArray
		case "object":
			ok = isObject
		case "null":
			ok = v == nil
		default:
			panic(fmt.Sprintf("unknown type %v", t))
		}
		if ok {
			return true
		}
	}
	return false
}

// The document is valid OpenAPI by a reader that is not ours.
func TestDocumentIsValid(t *testing.T) {
	doc, err := openapi3.NewLoader().LoadFromData(openAPIDocument)
	must(t, err)
	must(t, doc.Validate(context.Background()))
}

// The document and the routes list the same calls with the same access.
func TestDocumentListsEveryRoute(t *testing.T) {
	c := contract(t)
	want := map[string]bool{}
	accesses := map[access][]string{anyone: {"anyone", "signature"}, optional: {"optional"}, signedIn: {"user", "owner"}, withKey: {"key"}}
	for _, rt := range everyRoute() {
		want[rt.method+" "+rt.pattern] = true
		op := c.operation(&rt)
		if op == nil {
			t.Errorf("%s %s is not in openapi.yaml", rt.method, rt.pattern)
			continue
		}
		if got, _ := op["x-access"].(string); !slices.Contains(accesses[rt.access], got) {
			t.Errorf("%s %s: x-access is %q", rt.method, rt.pattern, got)
		}
	}
	for pattern, item := range c.doc["paths"].(m) {
		for method := range item.(m) {
			if !want[strings.ToUpper(method)+" "+pattern] {
				t.Errorf("%s %s is in openapi.yaml but is no route", method, pattern)
			}
		}
	}
}
