// Package ui holds the pieces that several pages share: fields, statuses,
// meters, charts, icons. They take values ready to show.
package ui

import (
	"fmt"
	"strconv"
	"strings"
)

// Share is one stretch of a meter or one bar of a legend.
type Share struct {
	Class string // of the tone, like protected
	Name  string // in words
	Count int
}

// stretch is a share with its place in the meter, in thousandths.
type stretch struct {
	Class    string
	X, Width string
}

// stretches divides a meter of 1000 by the shares; every share that is not
// empty can be seen.
func stretches(shares []Share) []stretch {
	const width, gap, least = 1000.0, 5.0, 10.0
	total, shown := 0, 0
	for _, s := range shares {
		if s.Count > 0 {
			total += s.Count
			shown++
		}
	}
	room := width - gap*float64(shown-1) - least*float64(shown)
	var list []stretch
	x := 0.0
	for _, s := range shares {
		if s.Count <= 0 {
			continue
		}
		w := least + room*float64(s.Count)/float64(total)
		list = append(list, stretch{s.Class, number(x), number(w)})
		x += w + gap
	}
	return list
}

// Day is one bar of a chart.
type Day struct {
	Name  string // like 23 Nov
	Value int64  // what the height says
	Texts []string
}

// bar is a day's place in a chart of 280 by 64.
type bar struct {
	X, Y, Width, Height, Class, Title string
}

// bars lays the days out; a day without anything is a line on the ground, and
// the last one is today, which is not over.
func bars(days []Day) []bar {
	most := int64(1)
	for _, d := range days {
		most = max(most, d.Value)
	}
	step := 280 / float64(max(len(days), 1))
	list := make([]bar, len(days))
	for i, d := range days {
		class := "day"
		switch {
		case d.Value == 0:
			class = "none"
		case i == len(days)-1:
			class = "today"
		}
		h := max(62*float64(d.Value)/float64(most), 2)
		title := d.Name + ": " + strings.Join(d.Texts, ", ")
		list[i] = bar{X: number(float64(i) * step), Y: number(64 - h), Width: number(step * .8), Height: number(h), Class: class, Title: title}
	}
	return list
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

// Thousands writes a number with commas.
func Thousands[T int | int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	first := 0
	if n < 0 {
		first = 1
	}
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// Bytes writes a size in the decimal unit that fits.
func Bytes(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB", "PB"}
	v, i := float64(n), 0
	for v >= 999.5 && i < len(units)-1 {
		v /= 1000
		i++
	}
	if i == 0 || v >= 99.95 {
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// Plural is a number with its noun.
func Plural[T int | int64](n T, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return Thousands(n) + " " + many
}
