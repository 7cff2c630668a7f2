package compare

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"hayloft/bench"
)

// servers are the rows: how names of results begin, and what the row is called.
var servers = []struct{ prefix, name string }{
	{"", "Hayloft"},
	{"fasthttp_", "bare fasthttp, from memory"},
	{"nginx_", "nginx, sendfile"},
	{"nginx_nopush_", "nginx, sendfile and tcp_nopush"},
	{"nginx_proxy_cache_", "nginx, proxy_cache"},
	{"varnish_", "Varnish, malloc"},
	{"memcached_", "memcached"},
	{"redis_", "Redis"},
}

// weights are the sizes of hits: how names of results end.
var weights = []struct{ suffix, name string }{{"10k", "hit 10 KiB"}, {"64k", "hit 64 KiB"}, {"200k", "hit 200 KiB"}}

const none = "–"

// figures are results by name.
type figures map[string]float64

// hit is a cell for hits.
func (f figures) hit(prefix, suffix string) string {
	rate, ok := f[prefix+"hits_per_s_"+suffix]
	if !ok {
		return none
	}
	return fmt.Sprintf("%s, %.1f µs", perSecond(rate), f[prefix+"hit_cpu_s_"+suffix]*1e6)
}

// deliveries is the cell for the feed's.
func (f figures) deliveries(prefix string) string {
	rate, ok := f[prefix+"deliveries_per_s"]
	if !ok {
		return none
	}
	if prefix == "" {
		return fmt.Sprintf("%s, %.0f B on disk", perSecond(rate), f["bytes_per_delivery"])
	}
	return fmt.Sprintf("%s, %.0f B of memory", perSecond(rate), f[prefix+"memory_bytes_per_delivery"])
}

func perSecond(rate float64) string {
	if rate < 10_000 {
		return fmt.Sprintf("%.1f K/s", rate/1e3)
	}
	return fmt.Sprintf("%.0f K/s", rate/1e3)
}

// Write writes the table of what reports of bench cache and bench feed have; a
// server of which they have nothing has no row.
func Write(w io.Writer, reports ...*bench.Report) error {
	f := figures{}
	for _, r := range reports {
		for _, res := range r.Results {
			f[res.Name] = res.Value
		}
	}
	head := []string{"server"}
	for _, weight := range weights {
		head = append(head, weight.name)
	}
	rows := [][]string{append(head, "delivery to a timeline")}
	for _, s := range servers {
		row, known := []string{s.name}, false
		for _, weight := range weights {
			row = append(row, f.hit(s.prefix, weight.suffix))
		}
		row = append(row, f.deliveries(s.prefix))
		for _, cell := range row[1:] {
			known = known || cell != none
		}
		if known {
			rows = append(rows, row)
		}
	}
	return writeRows(w, rows)
}

// writeRows writes a Markdown table whose columns stand under each other.
func writeRows(w io.Writer, rows [][]string) error {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		for i, cell := range row {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				cell += pad
			} else {
				cell = pad + cell
			}
			b.WriteString("| " + cell + " ")
		}
		b.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i, width := range widths {
			b.WriteString("|" + strings.Repeat("-", width+1) + []string{"-", ":"}[min(i, 1)])
		}
		b.WriteString("|\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
