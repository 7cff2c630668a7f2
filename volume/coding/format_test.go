package coding

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"testing"

	"hayloft/volume"
)

// The code of docs/shard-format.md, slowly and by another way than the library's.

func gfMul(a, b byte) (p byte) {
	for ; b != 0; b >>= 1 {
		if b&1 != 0 {
			p ^= a
		}
		carry := a & 0x80
		a <<= 1
		if carry != 0 {
			a ^= 0x1d
		}
	}
	return p
}

func gfPow(a byte, n int) byte {
	p := byte(1)
	for range n {
		p = gfMul(p, a)
	}
	return p
}

func gfInverse(a byte) byte { return gfPow(a, 254) }

// parityOf solves T·x = data, which gives x with V's first rows, and returns V·x:
// that is V·T of the document, without a matrix product.
func parityOf(p Policy, data []byte) []byte {
	k := p.Data
	rows := make([][]byte, k)
	for r := range rows {
		rows[r] = make([]byte, k+1)
		for c := range k {
			rows[r][c] = gfPow(byte(r), c)
		}
		rows[r][k] = data[r]
	}
	for c := range k {
		pivot := c
		for rows[pivot][c] == 0 {
			pivot++
		}
		rows[c], rows[pivot] = rows[pivot], rows[c]
		inv := gfInverse(rows[c][c])
		for j := range rows[c] {
			rows[c][j] = gfMul(rows[c][j], inv)
		}
		for r := range rows {
			f := rows[r][c]
			for j := range rows[r] {
				if r != c {
					rows[r][j] ^= gfMul(f, rows[c][j])
				}
			}
		}
	}
	out := make([]byte, p.Parity)
	for i := range out {
		for c := range k {
			out[i] ^= gfMul(gfPow(byte(k+i), c), rows[c][k])
		}
	}
	return out
}

// TestBytesOfTheDocument reads shard files with nothing but the document.
func TestBytesOfTheDocument(t *testing.T) {
	seeded(t, 6, func(t *testing.T, rng *rand.Rand, round int) {
		p := Policy{Data: 1 + rng.IntN(6), Parity: 1 + rng.IntN(4)}
		if round == 0 {
			p = Policy{Data: MaxData, Parity: MaxParity}
		}
		r := newRig(t, rng, p, minSourceBytes+rng.IntN(400_000), 1+rng.IntN(100_000))
		c := r.encode()
		le := binary.LittleEndian
		s := int64(65536) * ((c.SourceBytes + 65536*int64(p.Data) - 1) / (65536 * int64(p.Data)))
		padded := make([]byte, s*int64(p.Data))
		copy(padded, r.source)
		sourceSum := sha256.New()
		sourceSum.Write([]byte("HAYSRC01"))
		for at := 0; at < len(padded); at += 65536 {
			sourceSum.Write(le.AppendUint32(nil, crc32.Checksum(padded[at:at+65536], castagnoli)))
		}
		files := make([][]byte, p.Shards())
		for i := range files {
			b := r.file(i)
			files[i] = b
			if string(b[:8]) != "HAYSHARD" || b[12] != byte(i) || int64(le.Uint64(b[48:])) != s || !bytes.Equal(b[:8192], b[len(b)-8192:]) ||
				!bytes.Equal(b[4096:8192], r.source[:4096]) || !bytes.Equal(b[96:128], sourceSum.Sum(nil)) || le.Uint16(b[8:]) != 1 {
				t.Fatalf("head of shard %d:\n%s", i, hex.Dump(b[:160]))
			}
			if i < p.Data && !bytes.Equal(b[8192:8192+s], padded[int64(i)*s:int64(i+1)*s]) {
				t.Fatalf("payload of shard %d", i)
			}
			r.checkTable(i, b, s, c.Digests[i])
		}
		for range 200 {
			at := 8192 + rng.Int64N(s)
			column := make([]byte, p.Shards())
			for i := range column {
				column[i] = files[i][at]
			}
			if want := parityOf(p, column[:p.Data]); !bytes.Equal(column[p.Data:], want) {
				t.Fatalf("parity at %d is %x, want %x", at, column[p.Data:], want)
			}
		}
	})
}

func (r *rig) checkTable(i int, b []byte, s int64, digest Digest) {
	r.t.Helper()
	le := binary.LittleEndian
	x := (int64(len(r.index)) + 4095) / 4096 * 4096
	body := b[8192 : 8192+s+x]
	if !bytes.Equal(body[s:s+int64(len(r.index))], r.index) {
		r.t.Fatalf("index copy of shard %d", i)
	}
	binding := append(bytes.Clone(b[:96]), b[4096:8192]...)
	h := sha256.New()
	h.Write([]byte("HAYSHD01"))
	h.Write(b[:128])
	h.Write(b[4096:8192])
	table := b[8192+s+x : int64(len(b))-8192]
	for n := 0; n*65536 < len(body); n++ {
		bound := crc32.Checksum(le.AppendUint64(bytes.Clone(binding), uint64(n)), castagnoli)
		want := crc32.Checksum(body[n*65536:min(len(body), (n+1)*65536)], castagnoli) ^ bound
		sum := table[n/1023*4096+n%1023*4:][:4]
		if le.Uint32(sum) != want {
			r.t.Fatalf("sum of block %d of shard %d", n, i)
		}
		h.Write(sum)
	}
	for q := 0; q*4096 < len(table); q++ {
		page := table[q*4096:][:4096]
		if le.Uint32(page[4092:]) != crc32.Checksum(append(le.AppendUint64(bytes.Clone(binding), uint64(q)), page[:4092]...), castagnoli) {
			r.t.Fatalf("page %d of shard %d", q, i)
		}
	}
	if Digest(h.Sum(nil)) != digest || !bytes.Equal(b[128:160], digest[:]) {
		r.t.Fatalf("digest of shard %d", i)
	}
}

func validHead() *head {
	return &head{Plan: Plan{Policy: Policy{4, 2}, Volume: 7, Generation: 2, Epoch: 3, Encoder: 9, SourceBytes: 1 << 20, IndexBytes: 5000}, Shard: 5}
}

func TestHeadIsRefused(t *testing.T) {
	good := validHead().encode()
	h, err := decodeHead(good)
	if err != nil || *h != *validHead() {
		t.Fatalf("%+v, %v", h, err)
	}
	for name, tt := range map[string]struct {
		change func(b []byte)
		want   error
	}{
		"version":       {func(b []byte) { b[8] = 2 }, volume.ErrUnsupported},
		"feature":       {func(b []byte) { b[30] = 1 }, volume.ErrUnsupported},
		"magic":         {func(b []byte) { b[0] = 'h' }, volume.ErrCorrupt},
		"no data":       {func(b []byte) { b[10] = 0 }, volume.ErrCorrupt},
		"much data":     {func(b []byte) { b[10] = 33 }, volume.ErrCorrupt},
		"no parity":     {func(b []byte) { b[11] = 0 }, volume.ErrCorrupt},
		"much parity":   {func(b []byte) { b[11] = 9 }, volume.ErrCorrupt},
		"shard":         {func(b []byte) { b[12] = 6 }, volume.ErrCorrupt},
		"zero":          {func(b []byte) { b[14] = 1 }, volume.ErrCorrupt},
		"volume":        {func(b []byte) { b[16] = 0 }, volume.ErrCorrupt},
		"generation":    {func(b []byte) { b[20] = 0 }, volume.ErrCorrupt},
		"epoch":         {func(b []byte) { b[24] = 0 }, volume.ErrCorrupt},
		"encoder":       {func(b []byte) { b[32] = 0 }, volume.ErrCorrupt},
		"source bytes":  {func(b []byte) { b[46] = 2 }, volume.ErrCorrupt},
		"shard bytes":   {func(b []byte) { b[48]++ }, volume.ErrCorrupt},
		"index bytes":   {func(b []byte) { b[61] = 1 }, volume.ErrCorrupt},
		"index below 0": {func(b []byte) { b[63] = 0x80 }, volume.ErrCorrupt},
	} {
		b := bytes.Clone(good)
		tt.change(b)
		binary.LittleEndian.PutUint32(b[4092:], headCRC(b))
		if _, err := decodeHead(b); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	for at := range good {
		b := bytes.Clone(good)
		b[at] ^= 0x10
		if _, err := decodeHead(b); !errors.Is(err, volume.ErrCorrupt) {
			t.Fatalf("flip at %d: %v", at, err)
		}
	}
	if _, err := decodeHead(good[:headSize-1]); !errors.Is(err, volume.ErrCorrupt) {
		t.Errorf("a head that is cut off: %v", err)
	}
	b := bytes.Clone(good)
	b[3000] = 1 // reserved
	binary.LittleEndian.PutUint32(b[4092:], headCRC(b))
	if h, err := decodeHead(b); err != nil || *h != *validHead() {
		t.Errorf("reserved bytes: %v", err)
	}
}

// TestPlansOfEverySize compares layouts with the document's formulas.
func TestPlansOfEverySize(t *testing.T) {
	for _, n := range []int64{minSourceBytes, 65535, 65536, 65537, 4 * 65536, 4*65536 + 1, 1 << 30, maxSourceBytes} {
		for _, x := range []int64{0, 1, 4096, 4097, 65536, maxIndexBytes} {
			p := Plan{Policy: Policy{4, 2}, Volume: 1, Generation: 1, Epoch: 1, Encoder: 1, SourceBytes: n, IndexBytes: x}
			if err := p.Validate(); err != nil {
				t.Fatal(err)
			}
			s, l := p.ShardBytes(), p.layout()
			if s%65536 != 0 || s*4 < n || (s-65536)*4 >= n {
				t.Errorf("shards of %d bytes for %d", s, n)
			}
			blocks := (s + (x+4095)/4096*4096 + 65535) / 65536
			if want := 8192 + s + (x+4095)/4096*4096 + (blocks+1022)/1023*4096 + 8192; p.FileBytes() != want || l.blocks() != blocks {
				t.Errorf("file of %d bytes, want %d", p.FileBytes(), want)
			}
		}
	}
	if err := (Plan{Policy: Policy{4, 2}, Volume: 1, Generation: 1, Epoch: 1, Encoder: 1, SourceBytes: minSourceBytes - 1}).Validate(); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("a source of too few bytes: %v", err)
	}
}

func FuzzDecodeHead(f *testing.F) {
	good := validHead().encode()
	f.Add(good, false)
	f.Add(good[:100], true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if fix && len(b) == headSize {
			binary.LittleEndian.PutUint32(b[4092:], headCRC(b))
		}
		h, err := decodeHead(b)
		if err != nil {
			if !errors.Is(err, volume.ErrCorrupt) && !errors.Is(err, volume.ErrUnsupported) {
				t.Fatal(err)
			}
			return
		}
		if h.Validate() != nil || h.FileBytes() < 3*headSize || h.Shard >= h.Shards() {
			t.Fatalf("%+v was decoded", h)
		}
		again, err := decodeHead(h.encode())
		if err != nil || *again != *h {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
	})
}

func FuzzReadPage(f *testing.F) {
	bind := validHead().binding()
	page := make([]byte, pageSize)
	bind.putPage(page, 3, []uint32{1, 2, 3})
	f.Add(page, int64(3), 3, false)
	f.Add(page, int64(4), 1023, true)
	f.Fuzz(func(t *testing.T, b []byte, q int64, n int, fix bool) {
		if n < 0 || n > 2*sumsPerPage {
			return
		}
		if fix && len(b) == pageSize {
			binary.LittleEndian.PutUint32(b[4092:], crc32.Update(bind.with(q), castagnoli, b[:4092]))
		}
		sums := make([]uint32, n)
		if err := bind.readPage(b, q, sums); err != nil {
			return
		}
		again := make([]byte, pageSize)
		bind.putPage(again, q, sums)
		if !bytes.Equal(again[:4*n], b[:4*n]) {
			t.Fatal("sums have changed")
		}
	})
}

func FuzzParseName(f *testing.F) {
	f.Add("00000007-00000002-00000003-05.shard")
	f.Add("00000007-00000002-00000003-05.shard.tmp")
	f.Add("00000007-00000002.vol.tmp")
	f.Fuzz(func(t *testing.T, name string) {
		e, ok := parseName(name)
		if !ok {
			return
		}
		want := FileName(e.Volume, e.Generation, e.Epoch, e.Shard)
		if e.Unfinished {
			want += tmpExt
		}
		if name != want || e.Name != name {
			t.Fatalf("%q was read as %+v", name, e)
		}
	})
}
