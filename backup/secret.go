package backup

import "log/slog"

// Secret is a value that must not reach a log, a page or a job's arguments:
// tokens, private keys, passwords. Stores seal it before writing.
type Secret []byte

// String hides the value.
func (s Secret) String() string {
	if len(s) == 0 {
		return ""
	}
	return "(secret)"
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue hides the value from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalJSON hides the value, so that a struct with a Secret can't leak it.
func (s Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + s.String() + `"`), nil }

// Reveal returns the value itself.
func (s Secret) Reveal() string { return string(s) }
