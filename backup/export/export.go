// Package export writes messages as files that other programs read: one mbox
// file, or a zip archive with one .eml file per message. Both are written as
// they are read, whatever their size.
package export

import (
	"archive/zip"
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/mail"
	"path"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"holdfast/backup"
)

// Format is the kind of file that a folder is downloaded as.
type Format string

// The formats.
const (
	Mbox Format = "mbox" // one file, "From " lines quoted the mboxrd way
	Zip  Format = "zip"  // an archive of .eml files with exactly the stored bytes
)

// Writer takes the messages of a download one after the other.
type Writer interface {
	// Add adds a message; content writes its bytes. After an error the whole
	// download is worthless.
	Add(folder string, item backup.Item, content func(io.Writer) error) error
	// Close ends the file, with a notice that lists the messages that are
	// missing in it.
	Close(missing []Missing) error
}

// Missing is a message that is known, but not in the file.
type Missing struct {
	backup.Item
	// Damaged says that its content was backed up, and can't be read now; else
	// the provider could not deliver it yet.
	Damaged bool
}

// New returns a Writer of the format that writes to w, or false if there is no
// such format.
func New(format Format, w io.Writer) (Writer, bool) {
	switch format {
	case Mbox:
		return &mboxWriter{w: bufio.NewWriterSize(w, 64<<10)}, true
	case Zip:
		return &zipWriter{zip: zip.NewWriter(w), names: map[string]int{}}, true
	}
	return nil, false
}

// ContentType is the media type of a file of the format.
func (f Format) ContentType() string {
	if f == Mbox {
		return "application/mbox"
	}
	return "application/zip"
}

// mboxWriter writes the mbox format of RFC 4155 with the quoting called
// mboxrd: lines that begin with "From ", or with any number of > and then
// "From ", get one > more, so that taking one away gives back what was there.
// Line ends stay as they are stored.
type mboxWriter struct{ w *bufio.Writer }

func (m *mboxWriter) Add(_ string, item backup.Item, content func(io.Writer) error) error {
	at := item.ReceivedAt
	if at.IsZero() {
		at = item.SentAt
	}
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	if _, err := fmt.Fprintf(m.w, "From %s %s\n", sender(item.From), at.UTC().Format(time.ANSIC)); err != nil {
		return err
	}
	quote := &quoter{w: m.w, lineStart: true}
	if err := content(quote); err != nil {
		return err
	}
	return quote.end()
}

func (m *mboxWriter) Close(missing []Missing) error {
	if len(missing) > 0 {
		now := time.Now().UTC()
		notice := backup.Item{From: "MAILER-DAEMON", ReceivedAt: now}
		err := m.Add("", notice, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "From: Holdfast <holdfast@localhost>\nDate: %s\nSubject: %d messages are not in this file\nMIME-Version: 1.0\n"+
				"Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n%s",
				now.Format(time.RFC1123Z), len(missing), missingText(missing))
			return err
		})
		if err != nil {
			return err
		}
	}
	return m.w.Flush()
}

// sender returns the bare address for a "From " line.
func sender(from string) string {
	a, err := mail.ParseAddress(from)
	if err != nil || strings.ContainsFunc(a.Address, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
		return "MAILER-DAEMON"
	}
	return a.Address
}

// quoter adds a > before lines that look like the start of a message.
type quoter struct {
	w         *bufio.Writer
	lineStart bool   // the next byte begins a line
	held      []byte // a beginning of a line that may still become >…From
	last      byte
}

var fromWord = []byte("From ")

// Write implements io.Writer.
func (q *quoter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if !q.lineStart {
			i := bytes.IndexByte(p, '\n')
			if i < 0 {
				i = len(p) - 1
			}
			if err := q.put(p[:i+1]); err != nil {
				return 0, err
			}
			q.lineStart = p[i] == '\n'
			p = p[i+1:]
			continue
		}
		q.held = append(q.held, p[0])
		p = p[1:]
		if err := q.decide(); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// decide writes what is held as soon as it is clear whether it needs quoting.
// A run of > is written as it comes, but for the one that may be needed: which
// of them is added does not matter.
func (q *quoter) decide() error {
	rest := bytes.TrimLeft(q.held, ">")
	switch {
	case len(rest) == 0:
		if len(q.held) > 1 {
			q.held = q.held[:1]
			return q.put([]byte(">"))
		}
		return nil
	case bytes.Equal(rest, fromWord):
		if err := q.put([]byte(">")); err != nil {
			return err
		}
	case bytes.HasPrefix(fromWord, rest):
		return nil
	}
	return q.release()
}

func (q *quoter) release() error {
	if len(q.held) == 0 {
		return nil
	}
	err := q.put(q.held)
	q.lineStart = q.held[len(q.held)-1] == '\n'
	q.held = q.held[:0]
	return err
}

func (q *quoter) put(p []byte) error {
	_, err := q.w.Write(p)
	q.last = p[len(p)-1]
	return err
}

// end ends the last line and adds the empty one that separates messages.
func (q *quoter) end() error {
	if err := q.release(); err != nil {
		return err
	}
	end := "\n"
	if q.last != '\n' {
		end = "\n\n"
	}
	_, err := q.w.WriteString(end)
	return err
}

// zipWriter writes one .eml file per message, in folders.
type zipWriter struct {
	zip   *zip.Writer
	names map[string]int // how often a name was wanted, without regard to case
}

func (z *zipWriter) Add(folder string, item backup.Item, content func(io.Writer) error) error {
	at := item.ReceivedAt
	if at.IsZero() {
		at = item.SentAt
	}
	name := item.Subject
	if strings.TrimSpace(name) == "" {
		name = "No subject"
	}
	if !at.IsZero() {
		name = at.UTC().Format("2006-01-02 1504 ") + name
	}
	f, err := z.zip.CreateHeader(&zip.FileHeader{Name: z.unique(folder, FileName(name, "message"), ".eml"), Method: zip.Deflate, Modified: at})
	if err != nil {
		return err
	}
	return content(f)
}

// unique returns a name in the archive that no other file has, also on
// systems that do not tell case.
func (z *zipWriter) unique(folder, base, ext string) string {
	for {
		name := path.Join(folder, base+ext)
		key := strings.ToLower(name)
		z.names[key]++
		n := z.names[key]
		if n == 1 {
			return name
		}
		base = fmt.Sprintf("%s (%d)", base, n)
	}
}

func (z *zipWriter) Close(missing []Missing) error {
	if err := z.notice("", missing); err != nil {
		return err
	}
	return z.zip.Close()
}

// notice lists the messages that are missing in a folder.
func (z *zipWriter) notice(folder string, missing []Missing) error {
	if len(missing) == 0 {
		return nil
	}
	f, err := z.zip.Create(z.unique(folder, "Messages that are missing here", ".txt"))
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, missingText(missing))
	return err
}

// missingText lists messages that are not in the file, and why.
func missingText(missing []Missing) string {
	var b strings.Builder
	for _, part := range []struct {
		damaged bool
		why     string
	}{
		{false, "These messages are known, but the provider could not deliver their content yet.\nHoldfast tries again with each backup of the mailbox.\n\n"},
		{true, "These messages were backed up, but their content could not be read from the backup storage.\nAsk whoever runs Holdfast to check it (holdfast verify).\n\n"},
	} {
		why := part.why
		for _, m := range missing {
			if m.Damaged != part.damaged {
				continue
			}
			if why != "" && b.Len() > 0 {
				b.WriteString("\n")
			}
			b.WriteString(why)
			why = ""
			fmt.Fprintf(&b, "%s  %s  %s\n", m.ReceivedAt.UTC().Format(time.DateTime), oneLine(m.From), oneLine(m.Subject))
		}
	}
	return b.String()
}

// oneLine keeps what a sender wrote from adding lines to a notice.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			return ' '
		}
		return r
	}, s)
}

// FolderPath joins the names of a folder and those above it to a path that
// stays where it is unpacked.
func FolderPath(names []string) string {
	safe := make([]string, len(names))
	for i, n := range names {
		safe[i] = FileName(n, "folder")
	}
	return path.Join(safe...)
}

// maxName is the most bytes of a file name, so that with an extension and a
// number it fits every file system (255).
const maxName = 120

// FileName makes one safe path element of any text: no separators, control or
// direction-changing characters, none of the names and endings that Windows
// refuses. It returns fallback if nothing is left.
func FileName(name, fallback string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case strings.ContainsRune(`/\:*?"<>|`, r), r == utf8.RuneError:
			return '_'
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(name, "_"))
	name = strings.Join(strings.Fields(name), " ")
	if len(name) > maxName {
		name = strings.ToValidUTF8(name[:maxName], "")
	}
	name = strings.Trim(name, ". ")
	stem, _, _ := strings.Cut(name, ".")
	if reservedNames[strings.ToUpper(strings.TrimSpace(stem))] {
		name = "_" + name
	}
	if name == "" {
		return fallback
	}
	return name
}

// reservedNames are devices on Windows, with any extension.
var reservedNames = map[string]bool{
	"CON": true, "PRN": true, "AUX": true, "NUL": true,
	"COM1": true, "COM2": true, "COM3": true, "COM4": true, "COM5": true, "COM6": true, "COM7": true, "COM8": true, "COM9": true,
	"LPT1": true, "LPT2": true, "LPT3": true, "LPT4": true, "LPT5": true, "LPT6": true, "LPT7": true, "LPT8": true, "LPT9": true,
}
