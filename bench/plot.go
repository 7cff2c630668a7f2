package bench

import (
	"io"
	"math"
)

// Plot is lines over one logarithmic axis, as WriteDir draws them.
type Plot struct {
	File   string // in the report's directory
	Title  string
	X      []float64 // above 0, rising
	XNames []string  // one for each X
	Lines  []Line
}

// Line has a value for each X.
type Line struct {
	Name string
	Y    []float64
}

const (
	plotWidth  = 520
	plotHeight = 320
	plotLeft   = 60
	plotTop    = 36
)

// lineColors are told apart by people who see few colours, and on paper.
var lineColors = []string{"#a9a9a9", "#e08a1e", "#5aa0d0", "#8a5fa8", "#1f3f66"}

// write draws the plot. The upright axis begins at 0.
func (pl *Plot) write(w io.Writer) error {
	p := &printer{w: w}
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n",
		plotLeft+plotWidth+130, plotTop+plotHeight+50)
	p.printf(`<rect width="100%%" height="100%%" fill="white"/>` + "\n")
	p.printf(`<text x="8" y="20">%s</text>`+"\n", pl.Title)
	most := 0.0
	for _, l := range pl.Lines {
		for _, y := range l.Y {
			most = max(most, y)
		}
	}
	step := tick(most)
	top := math.Ceil(most/step) * step
	first, last := math.Log(pl.X[0]), math.Log(pl.X[len(pl.X)-1])
	atX := func(x float64) float64 {
		return plotLeft + (math.Log(x)-first)/max(1e-9, last-first)*plotWidth
	}
	atY := func(y float64) float64 { return plotTop + plotHeight*(1-y/max(1e-9, top)) }
	for y := 0.0; y <= top+step/2; y += step {
		p.printf(`<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#dddddd"/><text x="8" y="%.1f">%.2f</text>`+"\n",
			plotLeft, atY(y), plotLeft+plotWidth, atY(y), atY(y)+4, y)
	}
	for i, x := range pl.X {
		p.printf(`<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", atX(x), plotTop+plotHeight+20, pl.XNames[i])
	}
	for i, l := range pl.Lines {
		color := lineColors[i%len(lineColors)]
		p.printf(`<polyline fill="none" stroke-width="2" stroke="%s" points="`, color)
		for k, y := range l.Y {
			p.printf("%.1f,%.1f ", atX(pl.X[k]), atY(y))
		}
		p.printf(`"/>` + "\n")
		p.printf(`<rect x="%d" y="%d" width="12" height="12" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n",
			plotLeft+plotWidth+16, plotTop+20*i, color, plotLeft+plotWidth+34, plotTop+20*i+11, l.Name)
	}
	p.printf("</svg>\n")
	return p.err
}

// tick is the distance of lines that makes between four and ten of them below most.
func tick(most float64) float64 {
	if most <= 0 {
		return 1
	}
	t := math.Pow(10, math.Floor(math.Log10(most)))
	switch {
	case most/t < 2:
		return t / 5
	case most/t < 5:
		return t / 2
	}
	return t
}
