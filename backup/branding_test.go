package backup_test

import (
	"testing"

	"holdfast/backup"
)

func TestBrandColoursCanBeRead(t *testing.T) {
	for c, valid := range map[string]bool{"": true, "#0b6e6e": true, "#1a3fa0": true, "#000000": true, "#ffcc00": false, "#ffffff": false, "#888888": false, "red": false, "#12345": false, "#gggggg": false, "#0b6e6e;}": false} {
		b := backup.Branding{Color: c}
		if err := b.Validate(); (err == nil) != valid {
			t.Errorf("%q: %v, want valid %t", c, err, valid)
		}
		p, ok := b.Palette()
		if ok != (len(c) == 7 && c != "#gggggg") {
			t.Errorf("%q has a palette: %t", c, ok)
		}
		if !valid || !ok {
			continue
		}
		for name, pair := range map[string][2]string{"light": {p.Light, "#ffffff"}, "light wash": {p.Light, p.LightWash}, "light ink": {p.LightInk, p.Light},
			"dark": {p.Dark, "#172129"}, "dark wash": {p.Dark, p.DarkWash}, "dark ink": {p.DarkInk, p.Dark}} {
			if ratio := backup.Contrast(pair[0], pair[1]); ratio < backup.MinContrast {
				t.Errorf("%s, %s: %s on %s has %.2f", c, name, pair[0], pair[1], ratio)
			}
		}
	}
	if r := backup.Contrast("#000000", "#ffffff"); r < 20.99 || r > 21.01 {
		t.Errorf("black on white has %.2f, want 21", r)
	}
}
