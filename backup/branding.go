package backup

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Branding is how a partner's portal presents itself to its clients.
type Branding struct {
	Name    string // instead of Holdfast; "" for Holdfast
	Color   string // of buttons and links, like #0b6e6e; "" for Holdfast's own
	Logo    []byte // a PNG, nil for Holdfast's mark
	Version int64  // another one after each change, 0 if there is none
}

// MinContrast is what text needs against its ground (WCAG 2.2, 1.4.3).
const MinContrast = 4.5

// The grounds of pages in static/holdfast.css: what a colour is held against.
const (
	lightGround, darkGround, darkInk = "#ffffff", "#172129", "#06211f"
	washLight, washDark              = .12, .22 // of the colour in the ground of what is marked
)

// Validate returns FieldErrors naming name and color if they break a rule, or nil.
func (b Branding) Validate() error {
	fields := FieldErrors{}
	if utf8.RuneCountInString(b.Name) > 40 || strings.ContainsAny(b.Name, "\r\n") {
		fields["name"] = "Enter a name of at most 40 characters."
	}
	if b.Color == "" {
		return fields.OrNil()
	}
	c, ok := parseColor(b.Color)
	if !ok {
		fields["color"] = "Enter a colour like #0b6e6e."
		return fields.OrNil()
	}
	ground, _ := parseColor(lightGround)
	if ratio := min(c.contrast(ground), c.contrast(ground.mix(c, washLight))); ratio < MinContrast {
		fields["color"] = fmt.Sprintf("This colour has a contrast of %.1f : 1 against its ground, and text needs 4.5 : 1. Choose a darker one.", math.Floor(ratio*10)/10)
	}
	return fields.OrNil()
}

// Palette are the colours that follow from a brand's colour.
type Palette struct {
	Light, LightInk, LightWash string // of the light scheme
	Dark, DarkInk, DarkWash    string
}

// Palette returns the colours for both schemes. The dark scheme gets the colour
// lightened until it can be read there. ok is false without a colour.
func (b Branding) Palette() (p Palette, ok bool) {
	c, ok := parseColor(b.Color)
	if !ok {
		return p, false
	}
	white, _ := parseColor(lightGround)
	ground, _ := parseColor(darkGround)
	ink, _ := parseColor(darkInk)
	dark := c
	for range 40 {
		if min(dark.contrast(ground), dark.contrast(ground.mix(dark, washDark)), dark.contrast(ink)) >= MinContrast {
			break
		}
		dark = dark.mix(white, .08)
	}
	return Palette{Light: c.hex(), LightInk: lightGround, LightWash: white.mix(c, washLight).hex(),
		Dark: dark.hex(), DarkInk: darkInk, DarkWash: ground.mix(dark, washDark).hex()}, true
}

// color is a colour of sRGB, each part from 0 to 1.
type color [3]float64

func parseColor(s string) (c color, ok bool) {
	if len(s) != 7 || s[0] != '#' {
		return c, false
	}
	for i := range c {
		n, err := strconv.ParseUint(s[1+2*i:3+2*i], 16, 8)
		if err != nil {
			return c, false
		}
		c[i] = float64(n) / 255
	}
	return c, true
}

func (c color) hex() string {
	part := func(v float64) int { return int(math.Round(v * 255)) }
	return fmt.Sprintf("#%02x%02x%02x", part(c[0]), part(c[1]), part(c[2]))
}

// mix is c with a share of other.
func (c color) mix(other color, share float64) color {
	for i := range c {
		c[i] += (other[i] - c[i]) * share
	}
	return c
}

// luminance is the relative luminance of WCAG 2.2.
func (c color) luminance() float64 {
	for i, v := range c {
		if v <= .04045 {
			c[i] = v / 12.92
		} else {
			c[i] = math.Pow((v+.055)/1.055, 2.4)
		}
	}
	return .2126*c[0] + .7152*c[1] + .0722*c[2]
}

// contrast is the contrast ratio of two colours, from 1 to 21.
func (c color) contrast(other color) float64 {
	a, b := c.luminance(), other.luminance()
	return (max(a, b) + .05) / (min(a, b) + .05)
}

// Contrast is the contrast ratio of two colours like #0b6e6e, from 1 to 21; 0 if
// one is none.
func Contrast(a, b string) float64 {
	x, ok1 := parseColor(a)
	y, ok2 := parseColor(b)
	if !ok1 || !ok2 {
		return 0
	}
	return x.contrast(y)
}
