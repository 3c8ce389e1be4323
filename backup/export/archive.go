package export

import (
	"archive/zip"
	"bufio"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"holdfast/backup"
)

// Archive takes several mailboxes: one zip file, in which each is a folder of
// .eml files or one .mbox file.
type Archive struct {
	format  Format
	zip     *zipWriter
	folders map[string]int // how often the name of a mailbox was wanted
}

// NewArchive returns an Archive that writes to w, or false if there is no such
// format.
func NewArchive(format Format, w io.Writer) (*Archive, bool) {
	if format != Mbox && format != Zip {
		return nil, false
	}
	return &Archive{format: format, zip: &zipWriter{zip: zip.NewWriter(w), names: map[string]int{}}, folders: map[string]int{}}, true
}

// Mailbox begins the next mailbox. The one before it must be closed.
func (a *Archive) Mailbox(name string) (Writer, error) {
	base := FileName(name, "mailbox")
	folder := base
	for n := 2; ; n++ {
		key := strings.ToLower(folder)
		if a.folders[key]++; a.folders[key] == 1 {
			break
		}
		folder = fmt.Sprintf("%s (%d)", base, n)
	}
	if a.format == Zip {
		return &part{zipWriter: a.zip, folder: folder}, nil
	}
	f, err := a.zip.zip.CreateHeader(&zip.FileHeader{Name: a.zip.unique("", folder, ".mbox"), Method: zip.Deflate, Modified: time.Now()})
	if err != nil {
		return nil, err
	}
	return &mboxWriter{w: bufio.NewWriterSize(f, 64<<10)}, nil
}

// Close ends the archive.
func (a *Archive) Close() error { return a.zip.zip.Close() }

// part is a mailbox as a folder of an archive.
type part struct {
	*zipWriter
	folder string
}

// Add implements Writer.
func (p *part) Add(folder string, item backup.Item, content func(io.Writer) error) error {
	return p.zipWriter.Add(path.Join(p.folder, folder), item, content)
}

// Close implements Writer. The archive stays open.
func (p *part) Close(missing []Missing) error { return p.notice(p.folder, missing) }
