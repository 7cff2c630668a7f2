package meta

import "testing"

// BenchmarkHydrate is the 20 values of a page, all of them found.
func BenchmarkHydrate(b *testing.B) {
	keys := names("photo", 20)
	for _, where := range []string{"process", "memcached"} {
		b.Run(where, func(b *testing.B) {
			o := Options{}
			if where == "memcached" {
				o.Servers = []string{startMemcached(b, "").addr}
			}
			c := open(b, o)
			until(b, "all are there", func() bool {
				before := c.Stats().Hits
				hydrate(b, c, keys, loads)
				return c.Stats().Hits == before+20
			})
			for b.Loop() {
				if got, err := c.Hydrate(b.Context(), keys, nil); err != nil || len(got) != 20 {
					b.Fatal(len(got), err)
				}
			}
		})
	}
}
