package ssd

import (
	"bytes"
	"testing"

	"hayloft/cache"
)

// FuzzRecord reads any bytes as a record, a header and a table: nothing panics, and only
// what was written for the key answers for it.
func FuzzRecord(f *testing.F) {
	k := keyOf(7, "small")
	at := place{salt: 1, seq: 2, region: 3, unit: 4}
	rec := objectRecord(k, object(k))
	good := make([]byte, unitsOf(rec.size())*unit)
	rec.encode(good, at)
	purge := purgeRecord(nil)
	other := make([]byte, unit)
	purge.encode(other, at)
	table := make([]byte, blockBytes)
	encodeTable(table, rec.rowsOf(uint16(at.unit), rec.size()), at)
	for _, seed := range [][]byte{good, other, table, header{regionBytes, 1}.encode(), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if o, err := answer(b, at, k); err == nil && (!bytes.Equal(o.Data, content(k)) || o.ContentType != "image/jpeg") {
			// Possible only with the right checksum over other bytes.
			t.Errorf("%d bytes answer that were not written", len(o.Data))
		}
		if h, err := decodeHead(b, place{salt: at.salt, region: at.region, unit: at.unit}); err == nil && h.withData(b) == nil {
			h.rowsOf(uint16(at.unit), h.to)
		}
		if _, err := decodeHeader(b); err == nil && len(b) != headerBytes {
			t.Error("a header of another length")
		}
		if len(b) < trailerSize {
			return
		}
		if tr, ok := decodeTrailer(b, at.salt, at.region); ok && tableBlocks(tr.rows) <= len(b) {
			decodeRows(b[:len(b)-trailerSize], tr)
		}
	})
}

// Two keys never share a record, whatever their texts are.
func TestKeysWithTheSameBytes(t *testing.T) {
	at := place{1, 2, 3, 4}
	keys := []cache.Key{
		{Variant: "small", Blob: 1, Cookie: 2, Ext: "jpg"}, {Variant: "smallj", Blob: 1, Cookie: 2, Ext: "pg"}, {Variant: "", Blob: 1, Cookie: 2, Ext: "smalljpg"},
	}
	for i, k := range keys {
		rec := objectRecord(k, object(k))
		b := make([]byte, rec.size())
		rec.encode(b, at)
		for j, other := range keys {
			if _, err := answer(b, at, other); (err == nil) != (i == j) {
				t.Errorf("the record of %v, asked for %v: %v", k, other, err)
			}
		}
	}
}
