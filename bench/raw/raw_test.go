package raw

import (
	"testing"
)

func TestCover(t *testing.T) {
	for _, c := range []struct{ off, n, align, from, len int64 }{
		{8192, 65600, 512, 8192, 66048}, {8200, 65600, 512, 8192, 66048}, {73792, 65600, 4096, 73728, 69632}, {5, 10, 1, 5, 10},
	} {
		if e := Cover(c.off, c.n, c.align); e.Off != c.from || int64(e.Len) != c.len {
			t.Errorf("cover(%d, %d, %d) = %v", c.off, c.n, c.align, e)
		}
	}
}
