package capacity

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// Sizes of the picture in pixels.
const (
	plotWidth, plotHeight = 400, 300
	leftOf, topOf         = 70, 60
	panelWidth            = leftOf + plotWidth + 110
	pictureHeight         = topOf + plotHeight + 60
)

// PictureCores is the number of cores of each machine in the picture.
const PictureCores = 2

// An axis maps values to a length, by their logarithm.
type axis struct {
	from, to float64
	ticks    []float64
	length   float64
}

func (a axis) at(value float64) float64 {
	return a.length * math.Log(value/a.from) / math.Log(a.to/a.from)
}

// A curve is a line of a plot with its name at the end.
type curve struct {
	name   string
	colour string
	dashed bool
	y      func(x float64) float64
}

// A plot is a panel of the picture.
type plot struct {
	title, xName string
	x, y         axis
	xs           []float64
	curves       []curve
}

var colours = []string{"#1f5fa8", "#c77d2e", "#4d9b5f", "#b8433d"}

// Draw returns the picture: writes by the time of a commit, and reads by the number of backends, each with machines
// of their own with that many cores. The same constants give the same text.
func Draw(c Constants, cores float64) string {
	const roundTrip = 0.0002
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" `+
		`font-family="sans-serif" font-size="12" role="img">`+"\n", 2*panelWidth, pictureHeight)
	svg.WriteString("<title>What one store on PostgreSQL can do, by the model</title>\n" +
		`<rect width="100%" height="100%" fill="#ffffff"/>` + "\n")
	writes(c, cores, roundTrip).draw(&svg, leftOf)
	reads(c, cores, roundTrip).draw(&svg, panelWidth+leftOf)
	svg.WriteString("</svg>\n")
	return svg.String()
}

func writes(c Constants, cores, roundTrip float64) plot {
	p := plot{
		title: fmt.Sprintf("Writes/s; round trip %g ms, dashed: 20 backends", roundTrip*1000),
		xName: "commit of one row, ms",
		x:     axis{0.2, 20, []float64{0.2, 0.5, 1, 2, 5, 10, 20}, plotWidth},
		y:     axis{10, 100_000, []float64{10, 100, 1000, 10_000, 100_000}, plotHeight},
	}
	for i := range 101 {
		p.xs = append(p.xs, 0.2*math.Pow(100, float64(i)/100))
	}
	for i, callers := range []int{1, 16, 64, 256} {
		for _, backends := range []int{1, 20} {
			p.curves = append(p.curves, curve{
				name: fmt.Sprintf("%d callers", callers), colour: colours[i], dashed: backends > 1,
				y: func(ms float64) float64 {
					return c.Writes(Setup{Backends: backends, Callers: callers, RoundTrip: roundTrip, Commit: ms / 1000, Cores: cores})
				},
			})
		}
	}
	return p
}

func reads(c Constants, cores, roundTrip float64) plot {
	p := plot{
		title: fmt.Sprintf("Fresh reads/s; round trip %g ms, dashed: 2 ms", roundTrip*1000),
		xName: "backends",
		x:     axis{1, 20, []float64{1, 2, 3, 5, 10, 20}, plotWidth},
		y:     axis{1000, 1_000_000, []float64{1000, 10_000, 100_000, 1_000_000}, plotHeight},
	}
	for n := 1.0; n <= 20; n++ {
		p.xs = append(p.xs, n)
	}
	for i, callers := range []int{16, 64, 256, 1024} {
		for _, trip := range []float64{roundTrip, 10 * roundTrip} {
			p.curves = append(p.curves, curve{
				name: fmt.Sprintf("%d callers", callers), colour: colours[i], dashed: trip > roundTrip,
				y: func(n float64) float64 {
					return c.Reads(Setup{Backends: int(n), Callers: callers, RoundTrip: trip, Cores: cores})
				},
			})
		}
	}
	return p
}

// draw draws the plot with its left edge at x.
func (p plot) draw(svg *strings.Builder, left float64) {
	top, bottom, right := float64(topOf), float64(topOf+plotHeight), left+plotWidth
	text := func(x, y float64, anchor, more string) {
		fmt.Fprintf(svg, `<text x="%.1f" y="%.1f" text-anchor="%s"%s</text>`+"\n", x, y, anchor, more)
	}
	line := func(x1, y1, x2, y2 float64) {
		fmt.Fprintf(svg, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#e0e0e0"/>`+"\n", x1, y1, x2, y2)
	}
	text(left, 30, "start", ` font-weight="bold">`+html.EscapeString(p.title))
	for _, tick := range p.x.ticks {
		x := left + p.x.at(tick)
		line(x, top, x, bottom)
		text(x, bottom+18, "middle", fmt.Sprintf(">%g", tick))
	}
	for _, tick := range p.y.ticks {
		y := bottom - p.y.at(tick)
		line(left, y, right, y)
		text(left-6, y+4, "end", fmt.Sprintf(">%.0f", tick))
	}
	text(left+plotWidth/2, bottom+40, "middle", ">"+p.xName)
	for _, c := range p.curves {
		dash := ""
		if c.dashed {
			dash = ` stroke-dasharray="5 4"`
		}
		points := make([]string, 0, len(p.xs))
		var y float64
		for _, x := range p.xs {
			y = bottom - p.y.at(min(max(c.y(x), p.y.from), p.y.to))
			points = append(points, fmt.Sprintf("%.1f,%.1f", left+p.x.at(x), y))
		}
		fmt.Fprintf(svg, `<polyline fill="none" stroke="%s" stroke-width="1.5"%s points="%s"/>`+"\n",
			c.colour, dash, strings.Join(points, " "))
		if !c.dashed {
			text(right+6, y+4, "start", fmt.Sprintf(` fill="%s">%s`, c.colour, c.name))
		}
	}
}
