package handlers

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"holdfast/backup"
	"holdfast/backup/export"
	"holdfast/views"
)

// downloadItem answers with exactly the bytes that the provider served.
func (s *Server) downloadItem(w http.ResponseWriter, r *http.Request) error {
	v, item, err := s.itemView(r)
	if err != nil {
		return err
	}
	if item.Damaged {
		return backup.ErrNotFound
	}
	if err := s.record(r, "item.download", item, v); err != nil {
		return err
	}
	name := export.FileName(item.Subject, "message") + ".eml"
	body := &lateWriter{start: func() io.Writer {
		download(w, name, "message/rfc822")
		if item.SizeBytes > 0 {
			w.Header().Set("Content-Length", strconv.FormatInt(item.SizeBytes, 10))
		}
		return w
	}}
	err = s.Content.WriteItem(r.Context(), v.Mailbox.OrgID, v.Mailbox.ID, item.ID, body)
	if err == nil {
		_, err = body.Write(nil) // an empty message is an answer too
	}
	return s.endDownload(r, body.started, err)
}

// download sets what makes an answer a file.
func download(w http.ResponseWriter, name, contentType string) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set("Content-Disposition", export.Disposition(name))
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	h.Set("Cache-Control", "no-store")
}

// lateWriter decides at the first byte that the answer will be a file, so that
// an error before it can still be an error page.
type lateWriter struct {
	start   func() io.Writer
	started bool
	w       io.Writer
}

// Write implements io.Writer.
func (l *lateWriter) Write(p []byte) (int, error) {
	if !l.started {
		l.started, l.w = true, l.start()
	}
	return l.w.Write(p)
}

// endDownload ends an answer that may have begun. An error after the first byte
// can only be told by breaking the connection, so that nobody takes a part for
// the whole.
func (s *Server) endDownload(r *http.Request, started bool, err error) error {
	if err == nil || !started {
		return err
	}
	if r.Context().Err() == nil {
		s.Log.Error("download broken off", "path", r.URL.Path, "error", err)
	}
	panic(http.ErrAbortHandler)
}

// downloadFolder answers with the messages of one folder as an mbox file or as
// a zip archive.
func (s *Server) downloadFolder(w http.ResponseWriter, r *http.Request) error {
	v, folders, err := s.browseView(r)
	if err != nil {
		return err
	}
	if v.Snapshot.Seq == 0 {
		return backup.ErrNotFound
	}
	if v.Folder, err = chosenFolder(folders, r.PathValue("folder"), ""); err != nil {
		return err
	}
	return s.downloadFolders(w, r, v, folders, []backup.Folder{v.Folder}, v.Folder.Name)
}

// downloadMailbox answers with all messages of a snapshot.
func (s *Server) downloadMailbox(w http.ResponseWriter, r *http.Request) error {
	v, folders, err := s.browseView(r)
	if err != nil {
		return err
	}
	if v.Snapshot.Seq == 0 {
		return backup.ErrNotFound
	}
	return s.downloadFolders(w, r, v, folders, folders, v.Mailbox.Address)
}

func (s *Server) downloadFolders(w http.ResponseWriter, r *http.Request, v views.Browse, all, wanted []backup.Folder, name string) error {
	format := export.Format(r.FormValue("format"))
	late := &lateWriter{start: func() io.Writer {
		file := fmt.Sprintf("%s %s.%s", export.FileName(name, "folder"), v.Snapshot.At.UTC().Format("2006-01-02 1504"), format)
		download(w, file, format.ContentType())
		return w
	}}
	out, ok := export.New(format, late)
	if !ok {
		return backup.ErrNotFound
	}
	// A large folder takes as long as the reader's line needs.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("lift the time limit: %w", err)
	}
	if err := s.recordFolder(r, v, name, format); err != nil {
		return err
	}
	reader := export.Reader{Store: s.Store, Content: s.Content}
	missing, err := reader.Folders(r.Context(), out, v.Mailbox.OrgID, v.Mailbox.ID, v.Snapshot.Seq, all, wanted)
	if err != nil {
		return s.endDownload(r, late.started, err)
	}
	err = out.Close(missing)
	if err == nil {
		_, err = late.Write(nil) // an empty folder is an answer too
	}
	return s.endDownload(r, late.started, err)
}

// record notes that a person looked at a message.
func (s *Server) record(r *http.Request, kind string, item backup.Item, v views.Browse) error {
	detail := fmt.Sprintf("message %s of the backup of %s", item.ID, v.Snapshot.At.UTC().Format(time.DateTime))
	return s.Store.RecordBy(r.Context(), actor(r), v.Mailbox.OrgID, kind, v.Mailbox.Address, detail)
}

// recordFolder notes that a person downloaded a folder.
func (s *Server) recordFolder(r *http.Request, v views.Browse, name string, format export.Format) error {
	detail := fmt.Sprintf("%s as %s, of the backup of %s", name, format, v.Snapshot.At.UTC().Format(time.DateTime))
	return s.Store.RecordBy(r.Context(), actor(r), v.Mailbox.OrgID, "folder.download", v.Mailbox.Address, detail)
}
