package bench

import "io"

// writeSVG draws the median and the 99th percentile of each latency as bars on
// one linear axis: enough to see which step is slow, without a plotting library.
func (r *Report) writeSVG(w io.Writer) error {
	const width, row = 560, 34
	left := 170
	var rows []Result
	longest := 0.0
	for _, res := range r.Results {
		if res.Unit == "s" && res.P99 > 0 {
			rows = append(rows, res)
			longest = max(longest, res.P99)
			left = max(left, 16+7*len(res.Name)) // about 7 pixels a letter
		}
	}
	p := &printer{w: w}
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		left+width+90, row*len(rows)+40)
	p.printf(`<text x="8" y="20">bench %s: p50 (dark) and p99 (light)</text>`+"\n", r.Bench)
	for i, res := range rows {
		y := 32 + i*row
		scale := func(v float64) float64 { return v / longest * width }
		p.printf(`<text x="8" y="%d">%s</text>`+"\n", y+16, res.Name)
		p.printf(`<rect x="%d" y="%d" width="%.1f" height="20" fill="#a9c1d9"/>`+"\n", left, y, scale(res.P99))
		p.printf(`<rect x="%d" y="%d" width="%.1f" height="20" fill="#30587f"/>`+"\n", left, y, scale(res.P50))
		p.printf(`<text x="%.1f" y="%d">%s</text>`+"\n", float64(left)+scale(res.P99)+6, y+15, show(res.P99, "s"))
	}
	p.printf("</svg>\n")
	return p.err
}
