package bench

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// Report is what a benchmark found, in the form that docs/benchmarks.md gives.
type Report struct {
	Bench    string             `json:"bench"`
	When     time.Time          `json:"when"`
	Machine  Machine            `json:"machine"`
	Settings map[string]string  `json:"settings"`
	Results  []Result           `json:"results"`
	Ratios   map[string]float64 `json:"ratios"`
	Plots    []Plot             `json:"-"` // drawn by WriteDir; their figures are in Results
}

// Result is one measured figure. For a latency, Value is the median and the
// quantiles are set; for a rate or a count only Value is.
type Result struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"` // "s", "B", "1/s", "B/s", "1"
	Value  float64 `json:"value"`
	P50    float64 `json:"p50,omitempty"`
	P99    float64 `json:"p99,omitempty"`
	P999   float64 `json:"p999,omitempty"`
	N      int     `json:"n"`
	Errors int     `json:"errors"`
}

// Errors is the number of failed requests in the whole report.
func (r *Report) Errors() int {
	n := 0
	for _, res := range r.Results {
		n += res.Errors
	}
	return n
}

// WriteJSON writes the report to the file name.
func (r *Report) WriteJSON(name string) error {
	if r.Ratios == nil {
		r.Ratios = map[string]float64{}
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(b, '\n'), 0o644)
}

// WriteMarkdown writes the report as a table for people.
func (r *Report) WriteMarkdown(w io.Writer) error {
	p := &printer{w: w}
	p.printf("### bench %s, %s\n\n%s\n\n", r.Bench, r.When.Format(time.RFC3339), r.Machine)
	for _, k := range slices.Sorted(maps.Keys(r.Settings)) {
		p.printf("* %s: %s\n", k, r.Settings[k])
	}
	p.printf("\n| name | value | p50 | p99 | p99.9 | n | errors |\n|---|---:|---:|---:|---:|---:|---:|\n")
	for _, res := range r.Results {
		p.printf("| %s | %s | %s | %s | %s | %d | %d |\n", res.Name, show(res.Value, res.Unit),
			show(res.P50, res.Unit), show(res.P99, res.Unit), show(res.P999, res.Unit), res.N, res.Errors)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Ratios)) {
		p.printf("| %s | %.3f | | | | | |\n", k, r.Ratios[k])
	}
	return p.err
}

// WriteDir writes report.md, report.csv, latency.svg and, if there are ratios,
// ratios.svg into dir, and the plots.
func (r *Report) WriteDir(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string]func(io.Writer) error{
		"report.md": r.WriteMarkdown, "report.csv": r.writeCSV, "latency.svg": r.writeSVG,
	}
	if len(r.Ratios) > 0 {
		files["ratios.svg"] = r.writeRatios
	}
	for i := range r.Plots {
		files[r.Plots[i].File] = r.Plots[i].write
	}
	for name, write := range files {
		if err := writeFile(filepath.Join(dir, name), write); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) writeCSV(w io.Writer) error {
	c := csv.NewWriter(w)
	rows := [][]string{{"name", "unit", "value", "p50", "p99", "p999", "n", "errors"}}
	for _, res := range r.Results {
		row := []string{res.Name, res.Unit}
		for _, v := range []float64{res.Value, res.P50, res.P99, res.P999} {
			row = append(row, strconv.FormatFloat(v, 'g', -1, 64))
		}
		rows = append(rows, append(row, strconv.Itoa(res.N), strconv.Itoa(res.Errors)))
	}
	return c.WriteAll(rows)
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := write(f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// printer keeps the first error of a run of prints.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// show writes a figure as a person would; the zero value is left blank.
func show(v float64, unit string) string {
	switch {
	case v == 0:
		return ""
	case unit == "s" && v < 1e-4:
		return fmt.Sprintf("%.1f µs", v*1e6)
	case unit == "s" && v < 1e-3:
		return fmt.Sprintf("%.0f µs", v*1e6)
	case unit == "s" && v < 1:
		return fmt.Sprintf("%.1f ms", v*1e3)
	case unit == "s":
		return fmt.Sprintf("%.2f s", v)
	case unit == "1/s":
		return fmt.Sprintf("%.1f/s", v)
	case unit == "B/s":
		return fmt.Sprintf("%.0f MB/s", v/1e6)
	case unit == "B" && v < 1e5:
		return fmt.Sprintf("%.1f B", v)
	case unit == "B":
		return fmt.Sprintf("%.1f MB", v/1e6)
	case v != math.Trunc(v):
		return fmt.Sprintf("%.4f", v)
	default:
		return fmt.Sprintf("%g", v)
	}
}
