package feed

import (
	"reflect"
	"testing"
	"time"
)

// Every field of a view, however deep, is either in its brief or changes its version: a
// field that is added and forgotten here would be served stale.
func TestVersionTellsAllThatIsNotBrief(t *testing.T) {
	full := PhotoView{Photo: Photo{
		ID: 1, Author: 2, Status: Ready, Pos: 3, Pull: true, Likes: 4, Comments: 5,
		Details:   Details{Title: "t", Caption: "c", Alt: "a", Tags: []string{"x"}, People: nil, Location: &Location{1, 2, "l"}, Visibility: Followers},
		Rendition: Rendition{Blob: 6, Cookie: 7, Variants: []Variant{{1, 2, 3, 4}}},
		Failure:   &Failure{"f", "g"}, CreatedAt: time.UnixMilli(1000), PublishedAt: time.UnixMilli(2000), DeletedAt: time.UnixMilli(3000),
	}, AuthorHandle: "h", AuthorName: "n", AuthorEpoch: 8, Liked: true}
	brief, rest := full.Split()
	if !reflect.DeepEqual(brief.Join(rest), full) || rest.version() != brief.Version {
		t.Error("join does not undo split")
	}
	checked := 0
	v := reflect.ValueOf(&full).Elem()
	leaves(v, "", func(path string, field reflect.Value) {
		checked++
		before := reflect.New(field.Type()).Elem()
		before.Set(field)
		if !alter(field) {
			t.Errorf("%s: this test does not know how to change a %v", path, field.Type())
		}
		b, r := full.Split()
		if b.Version == brief.Version && reflect.DeepEqual(b.Join(PhotoView{}), brief.Join(PhotoView{})) {
			t.Errorf("%s is neither in the version nor in the brief", path)
		}
		if !reflect.DeepEqual(b.Join(r), full) {
			t.Errorf("%s is lost", path)
		}
		field.Set(before)
	})
	if checked < 35 {
		t.Errorf("%d fields: the test proved little", checked)
	}
}

// leaves calls f for each field that has no fields of its own.
func leaves(v reflect.Value, path string, f func(string, reflect.Value)) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time](), v.Kind() != reflect.Struct && v.Kind() != reflect.Pointer && v.Kind() != reflect.Slice:
		f(path, v)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			leaves(v.Field(i), path+"."+v.Type().Field(i).Name, f)
		}
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			f(path, v)
			return
		}
		leaves(v.Elem(), path, f)
	default:
		f(path, v)
		for i := range v.Len() {
			leaves(v.Index(i), path, f)
		}
	}
}

// alter gives v another value.
func alter(v reflect.Value) bool {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(v.Interface().(time.Time).Add(time.Second)))
	case v.CanUint():
		v.SetUint(v.Uint() ^ 1)
	case v.CanInt():
		v.SetInt(v.Int() ^ 1)
	case v.CanFloat():
		v.SetFloat(v.Float() + 1)
	case v.Kind() == reflect.Bool:
		v.SetBool(!v.Bool())
	case v.Kind() == reflect.String:
		v.SetString(v.String() + "!")
	case v.Kind() == reflect.Slice:
		v.Set(reflect.Append(v, reflect.New(v.Type().Elem()).Elem()))
	case v.Kind() == reflect.Array:
		return alter(v.Index(0))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
	default:
		return false
	}
	return true
}
