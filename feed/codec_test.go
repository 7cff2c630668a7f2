package feed

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"hayloft/internal/id"
)

// rows is every type that has a row or record encoding.
func allRecords() []record {
	list := []record{
		new(accountRow), new(sessionRow), new(photoRow), new(blobRow), new(commentRow), new(eventRow), new(effectRow),
		new(purgeRow), new(choreRow), new(idempotencyRow), new(envelope), new(idempotency), new(Details), new(Master),
		new(Rendition), new(UploadSpec), new(Location), new(apiKeyRow), new(retiredRow), new(subject), new(adjustment),
		new(inboxRow), new(tellingRow),
	}
	for _, k := range commandKinds {
		list = append(list, k.make())
	}
	return list
}

// fill sets every field of a value to something random, deeply.
func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(timeOf(rng.Uint64N(maxTime))))
			return
		}
		for i := range v.NumField() {
			fill(rng, v.Field(i))
		}
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(rng, v.Elem())
		}
	case reflect.Slice:
		if n := rng.IntN(4); n > 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(rng, v.Index(i))
			}
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(rng, v.Index(i))
		}
	case reflect.String:
		b := make([]byte, rng.IntN(20))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		v.SetString(string(b))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Float64:
		v.SetFloat(rng.Float64()*360 - 180)
	case reflect.Int, reflect.Int64:
		v.SetInt(rng.Int64() >> rng.IntN(63))
	default:
		v.SetUint(rng.Uint64() >> rng.IntN(64) & (1<<v.Type().Bits() - 1))
	}
}

// A record of anything decodes to what was encoded.
func TestRecordsRoundTrip(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 1))
	for range 300 {
		for _, r := range allRecords() {
			fill(rng, reflect.ValueOf(r).Elem())
			b := appendRecord(nil, r)
			got := reflect.New(reflect.TypeOf(r).Elem()).Interface().(record)
			if err := decodeRecord(b, got); err != nil {
				t.Fatalf("seed %d: %T: %v", seed, r, err)
			}
			if !bytes.Equal(appendRecord(nil, got), b) {
				t.Fatalf("seed %d: %T %+v came back as %+v", seed, r, r, got)
			}
		}
	}
}

// Every field is encoded: a record with one field changed has another encoding.
func TestNoFieldIsForgotten(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, r := range allRecords() {
		v := reflect.ValueOf(r).Elem()
		forEachLeaf(v, func(path string, leaf reflect.Value) {
			zero := appendRecord(nil, r)
			for range 20 { // a random value may be the zero one
				fill(rng, leaf)
				if !leaf.IsZero() {
					break
				}
			}
			if bytes.Equal(zero, appendRecord(nil, r)) {
				t.Errorf("%T: field %s is not encoded", r, path)
			}
			leaf.SetZero()
		})
	}
}

func forEachLeaf(v reflect.Value, f func(string, reflect.Value)) {
	for i := range v.NumField() {
		name, field := v.Type().Field(i).Name, v.Field(i)
		switch {
		case v.Type() == reflect.TypeFor[Comment]() && (name == "Handle" || name == "Avatar" || name == "Liked"): // set when read
		case field.Kind() == reflect.Struct && field.Type() != reflect.TypeFor[time.Time]():
			forEachLeaf(field, func(path string, leaf reflect.Value) { f(name+"."+path, leaf) })
		default:
			f(name, field)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		in   []byte
		want error
	}{
		"unknown field":     {[]byte{9 << 2, 1}, ErrUnsupported},
		"explicit zero":     {[]byte{2 << 2, 0}, ErrCorrupt},
		"long varint":       {[]byte{2 << 2, 0x81, 0}, ErrCorrupt},
		"repeated field":    {[]byte{2 << 2, 1, 2 << 2, 1}, ErrCorrupt},
		"descending":        {[]byte{3 << 2, 1, 2 << 2, 1}, ErrCorrupt},
		"wire type":         {[]byte{2<<2 | wireBytes, 1, 1}, ErrCorrupt},
		"out of range":      {[]byte{2 << 2, 0x80, 0x02}, ErrCorrupt},
		"short fixed":       {[]byte{1<<2 | wireFixed, 1, 2, 3}, ErrCorrupt},
		"zero fixed":        {[]byte{1<<2 | wireFixed, 0, 0, 0, 0, 0, 0, 0, 0}, ErrCorrupt},
		"time out of range": {append([]byte{3 << 2}, binary.AppendUvarint(nil, maxTime+1)...), ErrCorrupt},
	} {
		if err := decodeRecord(tc.in, new(blobRow)); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
	if err := decodeRow([]byte{2}, new(blobRow)); !errors.Is(err, ErrUnsupported) {
		t.Errorf("row version 2: %v", err)
	}
	if err := decodeRow(nil, new(blobRow)); !errors.Is(err, ErrCorrupt) {
		t.Errorf("empty row: %v", err)
	}
	if _, _, err := decodeCommand([]byte{commandVersion, 99}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("command kind 99: %v", err)
	}
	if _, _, err := decodeCommand([]byte{commandVersion + 1, 1}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("command version: %v", err)
	}
}

// Whatever decodes has exactly that one encoding.
func FuzzRecords(f *testing.F) {
	rng := rand.New(rand.NewPCG(3, 4))
	for i, r := range allRecords() {
		fill(rng, reflect.ValueOf(r).Elem())
		f.Add(byte(i), appendRecord(nil, r))
	}
	f.Fuzz(func(t *testing.T, which byte, in []byte) {
		list := allRecords()
		r := list[int(which)%len(list)]
		keep := bytes.Clone(in)
		err := decodeRecord(in, r)
		switch {
		case err == nil:
			if out := appendRecord(nil, r); !bytes.Equal(out, in) {
				t.Fatalf("%T: %x decodes and encodes to %x", r, in, out)
			}
		case !isDamage(err):
			t.Fatalf("%T: %x: %v is neither corrupt nor unsupported", r, in, err)
		}
		if !bytes.Equal(in, keep) {
			t.Fatal("the input was changed")
		}
	})
}

// A command that nobody made stops the machine or is refused; it never panics
// and never writes half of itself.
func FuzzApply(f *testing.F) {
	rng := rand.New(rand.NewPCG(5, 6))
	for _, k := range commandKinds {
		cmd := k.make()
		fill(rng, reflect.ValueOf(cmd).Elem())
		f.Add(encodeCommand(testStart, nil, cmd))
	}
	h := newHouse(f, nil)
	author := h.user("author")
	h.post(author, Details{})
	f.Fuzz(func(t *testing.T, cmd []byte) {
		b := h.group.db.NewIndexedBatch()
		defer b.Close()
		if _, err := h.group.machine.Apply(b, cmd); err != nil && b.Count() != 0 {
			t.Fatalf("%x: refused with %v after it wrote", cmd, err)
		}
	})
}

// The order of keys is the order of lists.
func TestKeysSortAsTheirPartsDo(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for range 1000 {
		a, b, c := id.ID(rng.Uint64()), id.ID(rng.Uint64()), id.ID(rng.Uint64())
		if (a < b) != (bytes.Compare(key2(tabPhoto, c, a), key2(tabPhoto, c, b)) < 0) {
			t.Fatal("ascending", a, b)
		}
		if (a < b) != (bytes.Compare(keyDesc(tabPosts, c, a), keyDesc(tabPosts, c, b)) > 0) {
			t.Fatal("descending", a, b)
		}
		k := key2(tabPosts, a, b)
		if bytes.Compare(after(key1(tabPosts, a)), k) <= 0 || bytes.HasPrefix(after(key1(tabPosts, a)), key1(tabPosts, a)) {
			t.Fatal("after", a, b)
		}
		if a != 0 && bytes.Compare(listFrom(tabPosts, c, a), keyDesc(tabPosts, c, a)) <= 0 {
			t.Fatal("a page begins with the row it comes after", a)
		}
	}
}
