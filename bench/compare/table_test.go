package compare

import (
	"strings"
	"testing"

	"hayloft/bench"
)

func TestTable(t *testing.T) {
	report := func(values ...any) *bench.Report {
		r := &bench.Report{}
		for i := 0; i < len(values); i += 2 {
			r.Results = append(r.Results, bench.Result{Name: values[i].(string), Value: values[i+1].(float64)})
		}
		return r
	}
	for _, c := range []struct {
		reports []*bench.Report
		want    string
	}{
		{[]*bench.Report{report("hits_per_s_10k", 50_800.0, "hit_cpu_s_10k", 17.84e-6, "redis_hits_per_s_10k", 9_940.0, "redis_hit_cpu_s_10k", 40e-6),
			report("deliveries_per_s", 162_000.0, "bytes_per_delivery", 20.4, "redis_deliveries_per_s", 142_400.0, "redis_memory_bytes_per_delivery", 127.0)},
			`| server  |        hit 10 KiB | hit 64 KiB | hit 200 KiB |  delivery to a timeline |
|---------|------------------:|-----------:|------------:|------------------------:|
| Hayloft | 51 K/s, 17.8 µs |          – |           – |    162 K/s, 20 B on disk |
| Redis   | 9.9 K/s, 40.0 µs |          – |           – | 142 K/s, 127 B of memory |
`},
		{[]*bench.Report{report("nginx_nopush_hits_per_s_200k", 16_500.0, "nginx_nopush_hit_cpu_s_200k", 32e-6)}, ""},
		{[]*bench.Report{report("deliveries_per_s", 1_000.0)}, ""},
	} {
		var out strings.Builder
		if err := Write(&out, c.reports...); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		for _, l := range lines {
			if len([]rune(l)) != len([]rune(lines[0])) {
				t.Errorf("columns do not stand under each other:\n%s", out.String())
			}
		}
		if c.want != "" && squeeze(out.String()) != squeeze(c.want) {
			t.Errorf("got\n%swant\n%s", out.String(), c.want)
		}
		if c.want == "" && len(lines) != 3 {
			t.Errorf("rows of nothing:\n%s", out.String())
		}
	}
}

// squeeze leaves out what makes columns wide.
func squeeze(s string) string { return strings.NewReplacer(" ", "", "-", "").Replace(s) }
