package handlers

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/backup/export"
	"holdfast/backup/repo"
	"holdfast/views"
)

// listExports shows the exports of the organization.
func (s *Server) listExports(w http.ResponseWriter, r *http.Request) error {
	v, err := s.exportsView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.ExportsPage(s.frame(w, r, "Exports"), v))
}

// showExportsLive is the part of the page that changes while files are made.
func (s *Server) showExportsLive(w http.ResponseWriter, r *http.Request) error {
	v, err := s.exportsView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.ExportsLive(v))
}

func (s *Server) exportsView(r *http.Request) (views.Exports, error) {
	list, err := s.Store.Exports(r.Context(), actor(r).Org.ID)
	return views.Exports{List: list, Now: time.Now()}, err
}

// exportForm reads what a new export is of: all mailboxes, or a mailbox or a
// folder as it was in a snapshot.
func (s *Server) exportForm(r *http.Request) (views.NewExport, error) {
	v := views.NewExport{Format: cmp.Or(r.FormValue("format"), string(export.Zip)), Encryption: r.FormValue("encryption"),
		Recipient: strings.TrimSpace(r.FormValue("recipient")), Mailbox: r.FormValue("mailbox"), Folder: r.FormValue("folder"), At: r.FormValue("at"), Fields: backup.FieldErrors{}}
	ctx, org := r.Context(), actor(r).Org.ID
	if v.Mailbox == "" {
		v.Name, v.When = "All mailboxes", strings.TrimSpace(r.FormValue("when"))
		if v.When == "" {
			return v, nil
		}
		var ok bool
		if v.Time, ok = parseMoment(v.When); !ok {
			v.Fields["when"] = "Enter a time like 2026-11-23 14:30, or leave it empty for the newest backups."
		}
		return v, nil
	}
	m, err := s.Store.Mailbox(ctx, org, backup.MailboxID(v.Mailbox))
	if err != nil {
		return v, err
	}
	seq, err := strconv.ParseInt(v.At, 10, 64)
	if err != nil {
		return v, backup.ErrNotFound
	}
	snapshots, err := s.Store.Snapshots(ctx, org, m.ID)
	if err != nil {
		return v, fmt.Errorf("read snapshots: %w", err)
	}
	for _, snapshot := range snapshots {
		if snapshot.Seq == seq {
			v.Time, v.Items = snapshot.At, snapshot.Items
		}
	}
	if v.Time.IsZero() {
		return v, backup.ErrNotFound
	}
	v.Name = m.Address
	if v.Folder == "" {
		return v, nil
	}
	folders, err := s.Store.Folders(ctx, org, m.ID, seq)
	if err != nil {
		return v, fmt.Errorf("read folders: %w", err)
	}
	f, err := chosenFolder(folders, v.Folder, "")
	if err != nil {
		return v, err
	}
	if v.Folder = f.ID; f.ID != "" {
		v.Name, v.Items = m.Address+", "+f.Name, f.Items
	}
	return v, nil
}

// newExport asks how to export.
func (s *Server) newExport(w http.ResponseWriter, r *http.Request) error {
	v, err := s.exportForm(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.NewExportPage(s.frame(w, r, "Export"), v))
}

// startExport has a file made in the background.
func (s *Server) startExport(w http.ResponseWriter, r *http.Request) error {
	v, err := s.exportForm(r)
	if err != nil {
		return err
	}
	e := backup.Export{OrgID: actor(r).Org.ID, MailboxID: backup.MailboxID(v.Mailbox), FolderID: v.Folder, Name: v.Name, At: v.Time, Format: v.Format}
	switch v.Encryption {
	case "passphrase":
		if e.Passphrase = backup.Secret(r.PostFormValue("passphrase")); len(e.Passphrase) == 0 {
			v.Fields["passphrase"] = "Enter a passphrase."
		}
	case "recipient":
		e.Recipient = v.Recipient
		if _, err := export.ParseRecipient(v.Recipient); err != nil {
			v.Fields["recipient"] = "This is not a public key of age. It begins with age1; age-keygen prints it beside the secret key."
		}
	}
	if len(v.Fields) == 0 {
		_, err = s.Store.StartExport(r.Context(), e, actor(r))
		if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
			v.Fields = fields
		} else if err != nil {
			return err
		}
	}
	if len(v.Fields) > 0 {
		return s.render(w, r, http.StatusUnprocessableEntity, views.NewExportPage(s.frame(w, r, "Export"), v))
	}
	return s.redirect(w, r, "/exports", "The file is being made. You can leave this page; it goes on by itself.")
}

// exportAt reads the export that the path names.
func (s *Server) exportAt(r *http.Request) (backup.Export, error) {
	return s.Store.Export(r.Context(), actor(r).Org.ID, backup.ExportID(r.PathValue("export")))
}

// downloadExport answers with a finished file, or with the parts of it that the
// browser asks for. The link works for admins of the organization who are
// signed in, until the file expires.
func (s *Server) downloadExport(w http.ResponseWriter, r *http.Request) error {
	e, err := s.exportAt(r)
	if err != nil {
		return err
	}
	if e.State != backup.ExportDone || !e.ExpiresAt.After(time.Now()) {
		return backup.ErrNotFound
	}
	stored, err := s.Files.Open(r.Context(), export.File(e))
	if errors.Is(err, repo.ErrNotExist) {
		return backup.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("open the file of export %s: %w", e.ID, err)
	}
	file, err := export.Open(e, stored, stored.Size())
	if err != nil {
		return err
	}
	if err := s.Store.RecordDownload(r.Context(), e, actor(r)); err != nil {
		return err
	}
	// A large file takes as long as the reader's line needs.
	if err := http.NewResponseController(w).SetWriteDeadline(time.Time{}); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return fmt.Errorf("lift the time limit: %w", err)
	}
	base, extension := e.FileName()
	download(w, export.FileName(base, "export")+extension, exportType(e))
	w.Header().Set("ETag", fmt.Sprintf(`"%s-%d"`, e.ID, e.Attempt))
	http.ServeContent(w, r, "", e.EndedAt, file)
	return nil
}

func exportType(e backup.Export) string {
	switch {
	case e.Encryption != "":
		return "application/octet-stream"
	case e.MailboxID == "":
		return export.Zip.ContentType()
	}
	return export.Format(e.Format).ContentType()
}

// cancelExport ends an export that is under way.
func (s *Server) cancelExport(w http.ResponseWriter, r *http.Request) error {
	err := s.Store.CancelExport(r.Context(), actor(r).Org.ID, backup.ExportID(r.PathValue("export")), actor(r))
	if errors.Is(err, backup.ErrConflict) {
		return s.refuse(w, r, "/exports", "The export had ended already.")
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/exports", "The export was cancelled.")
}

// askDeleteExport names what is deleted.
func (s *Server) askDeleteExport(w http.ResponseWriter, r *http.Request) error {
	e, err := s.exportAt(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.DeleteExportPage(s.frame(w, r, "Delete this export?"), e))
}

// deleteExport deletes a file. What it was made of stays backed up.
func (s *Server) deleteExport(w http.ResponseWriter, r *http.Request) error {
	if err := s.Store.DeleteExport(r.Context(), actor(r).Org.ID, backup.ExportID(r.PathValue("export")), actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, "/exports", "The export was deleted. The backups that it was made of are kept.")
}
