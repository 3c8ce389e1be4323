package imap

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestGuardStopsBeforeCapabilitiesWithAParenthesis(t *testing.T) {
	for _, c := range []struct{ said, read string }{
		{"* CAPABILITY IMAP4rev1 (x)\r\n", "* CAPABILITY IMAP4rev1 "},
		{"* capability A(x\r\n", "* capability A"},
		{"* OK [CAPABILITY A  (b)] hello\r\n", "* OK [CAPABILITY A  "},
		{"T1 OK [CAPABILITY(", "T1 OK [CAPABILITY"},
		{"* 5 CAPABILITY A (", "* 5 CAPABILITY A "},
		{"* OK {9}\r\n* CAPABILITY (", "* OK {9}\r\n* CAPABILITY "},
		{"* 1 FETCH (BODY[] {3}\r\nabc)\r\n* CAPABILITY A (", "* 1 FETCH (BODY[] {3}\r\nabc)\r\n* CAPABILITY A "},
		{"* LIST () \"{5}\r\n\" x\r\n* CAPABILITY A (", "* LIST () \"{5}\r\n\" x\r\n* CAPABILITY A "},
		{"* OK [FOO {20}\r\n] x\r\n* CAPABILITY A (", "* OK [FOO {20}\r"},
	} {
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(c.said), "byte by byte": iotest.OneByteReader(strings.NewReader(c.said))} {
			got, err := io.ReadAll(&guard{r: r})
			if !errors.Is(err, errCapabilities) || string(got) != c.read {
				t.Errorf("%s, %s: %q, %v; want %q", c.said, name, got, err, c.read)
			}
		}
	}
}

func TestGuardLetsThroughWhatIsNotMeant(t *testing.T) {
	for _, said := range []string{
		"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready (hello)\r\n* CAPABILITY IMAP4rev1\r\nT1 OK (done)\r\n",
		"* 1 FETCH (UID 1 BODY[HEADER.FIELDS (\"A\\\"B\")] {30}\r\n* CAPABILITY IMAP4rev1 (x)\r\nabcd FLAGS (\\Seen))\r\n",
		"* 1 FETCH (BODY[] ~{26+} \r\n* CAPABILITY IMAP4rev1 (x)\n)\r\n+ go (on)\r\n",
		"* LIST (\\HasNoChildren) \"/\" \"CAPABILITY (x) {5}\"\r\n* OK [PERMANENTFLAGS (\\Seen \\*)] x\r\n* OK [CAPABILITYX (a)] x\r\n",
		"* STATUS {2}\r\na( (MESSAGES 1)\r\n* SEARCH 1 2 3\r\n* ESEARCH (TAG \"T1\") UID ALL 1:3\r\n",
	} {
		for name, r := range map[string]io.Reader{"at once": strings.NewReader(said), "byte by byte": iotest.OneByteReader(strings.NewReader(said))} {
			if got, err := io.ReadAll(&guard{r: r}); err != nil || string(got) != said {
				t.Errorf("%s: %q, %v; want %q", name, got, err, said)
			}
		}
	}
}
