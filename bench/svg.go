package bench

import (
	"io"
	"maps"
	"math"
	"slices"
)

const (
	svgWidth = 560 // of the longest bar
	svgRow   = 34
)

// writeSVG draws the median and the 99th percentile of each latency as bars on
// one logarithmic axis, so that microseconds are seen beside milliseconds: enough
// to see which step is slow, without a plotting library.
func (r *Report) writeSVG(w io.Writer) error {
	var rows []Result
	left, least, most := 170, math.Inf(1), 0.0
	for _, res := range r.Results {
		if res.Unit == "s" && res.P99 > 0 && res.P50 > 0 {
			rows = append(rows, res)
			least, most = min(least, res.P50), max(most, res.P99)
			left = max(left, labelWidth(res.Name))
		}
	}
	least /= 2 // the shortest bar is seen
	scale := func(v float64) float64 { return math.Log(v/least) / math.Log(most/least) * svgWidth }
	p := &printer{w: w}
	p.svgHead(left, len(rows), "bench "+r.Bench+": p50 (dark) and p99 (light), logarithmic")
	for i, res := range rows {
		y := 32 + i*svgRow
		p.printf(`<text x="8" y="%d">%s</text>`+"\n", y+16, res.Name)
		p.printf(`<rect x="%d" y="%d" width="%.1f" height="20" fill="#a9c1d9"/>`+"\n", left, y, scale(res.P99))
		p.printf(`<rect x="%d" y="%d" width="%.1f" height="20" fill="#30587f"/>`+"\n", left, y, scale(res.P50))
		p.printf(`<text x="%.1f" y="%d">%s / %s</text>`+"\n", float64(left)+scale(res.P99)+6, y+15, show(res.P50, "s"), show(res.P99, "s"))
	}
	p.printf("</svg>\n")
	return p.err
}

// writeRatios draws the ratios as bars, with a line at 1.
func (r *Report) writeRatios(w io.Writer) error {
	left, most := 170, 1.0
	names := slices.Sorted(maps.Keys(r.Ratios))
	for _, k := range names {
		left, most = max(left, labelWidth(k)), max(most, r.Ratios[k])
	}
	scale := func(v float64) float64 { return v / most * svgWidth }
	p := &printer{w: w}
	p.svgHead(left, len(names), "bench "+r.Bench+": ratios; the line is 1")
	for i, k := range names {
		y, v := 32+i*svgRow, r.Ratios[k]
		p.printf(`<text x="8" y="%d">%s</text>`+"\n", y+16, k)
		p.printf(`<rect x="%d" y="%d" width="%.1f" height="20" fill="#a9c1d9"/>`+"\n", left, y, scale(v))
		p.printf(`<text x="%.1f" y="%d">%.3f</text>`+"\n", float64(left)+scale(max(v, 1))+6, y+15, v)
	}
	one := float64(left) + scale(1)
	p.printf(`<line x1="%.1f" y1="28" x2="%.1f" y2="%d" stroke="#30587f"/>`+"\n", one, one, 28+svgRow*len(names))
	p.printf("</svg>\n")
	return p.err
}

// labelWidth is the room that a label takes: about 7 pixels a letter.
func labelWidth(s string) int { return 16 + 7*len(s) }

func (p *printer) svgHead(left, rows int, title string) {
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		left+svgWidth+150, svgRow*rows+40)
	p.printf(`<rect width="100%%" height="100%%" fill="white"/>` + "\n")
	p.printf(`<text x="8" y="20">%s</text>`+"\n", title)
}
