package main

import (
	"fmt"
	"strings"

	"kvstore/bench/generator"
)

// Sizes of the chart in pixels.
const (
	panelWidth = 360
	nameWidth  = 70
	rateWidth  = 70
	barHeight  = 16
	barStep    = 21
	panelTop   = 34 // room for the title of a panel
	panelGap   = 24
)

// colours: those of this repository are blue.
var colours = map[string]string{
	"backend": "#1f5fa8", "gateway": "#3f83cc", "traefik": "#7fb0e6",
	"nginx": "#4d9b5f", "etcd": "#c77d2e", "redis": "#b8433d", "sqlite": "#777777",
}

// chart returns an SVG: a panel for each load (downwards) and number of
// connections (across), each with its own scale from 0.
func (r *results) chart() string {
	columns, lines := len(r.plan.connections), len(r.plan.loads)
	panelHeight := panelTop + barStep*len(r.plan.sides) + panelGap
	width, height := columns*panelWidth+panelGap, lines*panelHeight+panelGap
	var svg strings.Builder
	fmt.Fprintf(&svg, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12" role="img">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&svg, "<title>Requests per second, medians of %d rounds; each panel has its own scale</title>\n", r.plan.rounds)
	fmt.Fprintf(&svg, `<rect width="%d" height="%d" fill="#ffffff"/>`+"\n", width, height)
	for line, load := range r.plan.loads {
		for column, connections := range r.plan.connections {
			r.panel(&svg, load, connections, panelGap+column*panelWidth, panelGap/2+line*panelHeight)
		}
	}
	svg.WriteString("</svg>\n")
	return svg.String()
}

func (r *results) panel(svg *strings.Builder, load generator.Load, connections, x, y int) {
	var most float64
	for _, s := range r.plan.sides {
		if row := r.row(load.Name, connections, s.name()); row != nil {
			most = max(most, median(row.rates))
		}
	}
	if most == 0 {
		return
	}
	unit := "connections"
	if connections == 1 {
		unit = "connection"
	}
	fmt.Fprintf(svg, `<text x="%d" y="%d" font-weight="bold">%s, %d %s: requests/s</text>`+"\n", x, y+20, load.Name, connections, unit)
	for i, s := range r.plan.sides {
		row := r.row(load.Name, connections, s.name())
		if row == nil {
			continue
		}
		rate := median(row.rates)
		top, left := y+panelTop+i*barStep, x+nameWidth
		length := rate / most * (panelWidth - nameWidth - rateWidth - panelGap)
		fmt.Fprintf(svg, `<text x="%d" y="%d" text-anchor="end">%s</text>`, left-6, top+barHeight-4, s.name())
		fmt.Fprintf(svg, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="%s"/>`, left, top, length, barHeight, colours[s.name()])
		fmt.Fprintf(svg, `<text x="%.1f" y="%d">%.0f</text>`+"\n", float64(left)+length+6, top+barHeight-4, rate)
	}
}
