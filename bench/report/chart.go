package report

import (
	"fmt"
	"html"
	"strings"
)

// Sizes of the chart in pixels.
const (
	panelWidth  = 430
	nameWidth   = 140
	valueWidth  = 70
	barHeight   = 16
	barStep     = 21
	panelTop    = 34 // for the title of a panel
	panelGap    = 24
	chartColour = "#777777" // of a bar without one
)

// A Panel is a part of a chart: bars with their own scale, which begins at 0.
type Panel struct {
	Title string
	Bars  []Bar
}

// A Bar is a value, not negative, with its name and the colour of its bar.
type Bar struct {
	Name   string
	Value  float64
	Colour string
}

// Chart returns an SVG of the panels in that many columns.
func Chart(title string, columns int, panels []Panel) string {
	longest := 0
	for _, panel := range panels {
		longest = max(longest, len(panel.Bars))
	}
	lines := (len(panels) + columns - 1) / columns
	panelHeight := panelTop + barStep*longest + panelGap
	width, height := columns*panelWidth+panelGap, lines*panelHeight+panelGap
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" role="img">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&svg, "<title>%s</title>\n", html.EscapeString(title))
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	for i, panel := range panels {
		panel.draw(&svg, panelGap+i%columns*panelWidth, panelGap/2+i/columns*panelHeight)
	}
	svg.WriteString("</svg>\n")
	return svg.String()
}

func (p Panel) draw(svg *strings.Builder, x, y int) {
	var most float64
	for _, bar := range p.Bars {
		most = max(most, bar.Value)
	}
	fmt.Fprintf(svg, `<text x="%d" y="%d" font-weight="bold">%s</text>`+"\n", x, y+20, html.EscapeString(p.Title))
	for i, bar := range p.Bars {
		top, left := y+panelTop+i*barStep, x+nameWidth
		var length float64
		if most > 0 {
			length = bar.Value / most * (panelWidth - nameWidth - valueWidth - panelGap)
		}
		colour := bar.Colour
		if colour == "" {
			colour = chartColour
		}
		fmt.Fprintf(svg, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-6, top+barHeight-4,
			html.EscapeString(bar.Name))
		fmt.Fprintf(svg, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, left, top, length, barHeight, colour)
		fmt.Fprintf(svg, `<text x="%.1f" y="%d">%s</text>`+"\n", float64(left)+length+6, top+barHeight-4, number(bar.Value))
	}
}

// number formats large numbers without a fraction and small ones with three digits.
func number(value float64) string {
	if value >= 100 {
		return fmt.Sprintf("%.0f", value)
	}
	return fmt.Sprintf("%.3g", value)
}
