package handlers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"holdfast/backup"
	"holdfast/handlers/preview"
	"holdfast/views"
)

// ContentReader reads the content of messages back from the repository;
// *engine.Engine implements it.
type ContentReader interface {
	// WriteItem writes the exact bytes of an item to w.
	WriteItem(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID, item backup.ItemID, w io.Writer) error
}

// showItem shows one message: headers, attachments, and the frame with its
// preview.
func (s *Server) showItem(w http.ResponseWriter, r *http.Request) error {
	v, item, err := s.itemView(r)
	if err != nil {
		return err
	}
	view := views.ItemView{Browse: v, Item: item, Problem: s.damaged(r.Context(), v.Mailbox, item)}
	if view.Problem == "" {
		m, err := s.readMessage(r, v, item)
		if err != nil {
			s.Log.Error("message not read", "mailbox", v.Mailbox.ID, "item", item.ID, "error", err)
			if view.Problem, err = s.whyUnreadable(r.Context(), v.Mailbox, item); err != nil {
				return err
			}
		} else {
			showMessage(&view, m)
		}
	}
	return s.render(w, r, http.StatusOK, views.ItemPage(s.frame(w, r, "Message"), view))
}

func showMessage(view *views.ItemView, m *preview.Message) {
	for _, h := range m.Headers {
		view.Headers = append(view.Headers, views.MessageHeader{Name: h.Name, Value: h.Value})
	}
	for _, a := range m.Attachments {
		view.Attachments = append(view.Attachments, views.MessageFile{Name: a.Name, Type: a.Type, SizeBytes: a.Size})
	}
	m.Document() // notes what is left out of it
	view.More, view.Notes = m.More, m.Notes
}

const unreadable = "This message could not be read from the repository. Try again; if it stays, whoever runs this Holdfast should run holdfast verify."

// whyUnreadable says why a message can't be read that the provider delivered.
func (s *Server) whyUnreadable(ctx context.Context, m backup.Mailbox, item backup.Item) (string, error) {
	d, err := s.Store.ItemDamage(ctx, m.OrgID, m.ID, item.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return unreadable, nil
	}
	if err != nil {
		return "", err
	}
	return "The content of this message is damaged in the backup since " + d.FoundAt.Format("2 January 2006, 15:04 UTC") + ". Other messages are fine. " + views.DamageOutlook(d.Fate), nil
}

// damaged says why there is no content, "" if there is.
func (s *Server) damaged(ctx context.Context, m backup.Mailbox, item backup.Item) string {
	if item.Damaged {
		if why, err := s.whyUnreadable(ctx, m, item); err == nil && why != unreadable {
			return why // it was there, and is lost
		}
		return "Microsoft could not deliver the content of this message yet. Holdfast tries again with each backup of the mailbox."
	}
	return ""
}

// itemView reads the snapshot and the item that the address names.
func (s *Server) itemView(r *http.Request) (views.Browse, backup.Item, error) {
	v, folders, err := s.browseView(r)
	if err != nil {
		return v, backup.Item{}, err
	}
	if v.Snapshot.Seq == 0 {
		return v, backup.Item{}, backup.ErrNotFound
	}
	item, err := s.Store.Item(r.Context(), v.Mailbox.OrgID, v.Mailbox.ID, v.Snapshot.Seq, backup.ItemID(r.PathValue("item")))
	if err != nil {
		return v, backup.Item{}, err
	}
	v.Folder, err = chosenFolder(folders, item.FolderID, "")
	if errors.Is(err, backup.ErrNotFound) {
		v.Folder, err = backup.Folder{}, nil
	}
	return v, item, err
}

// readMessage reads a message as it is shown. The reader takes it piece by
// piece, so a huge one needs no more memory than a small one.
func (s *Server) readMessage(r *http.Request, v views.Browse, item backup.Item) (*preview.Message, error) {
	out, in := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := s.Content.WriteItem(r.Context(), v.Mailbox.OrgID, v.Mailbox.ID, item.ID, in)
		in.CloseWithError(err)
		written <- err
	}()
	m, err := preview.Read(out)
	if err == nil {
		// A parser may stop before the end; the rest is read for its checksum.
		_, err = io.Copy(io.Discard, out)
	}
	out.CloseWithError(io.ErrClosedPipe)
	if writeErr := <-written; writeErr != nil {
		return nil, fmt.Errorf("read item %s: %w", item.ID, writeErr)
	}
	return m, err
}

// previewItem answers with the message as one harmless document, for the
// sandboxed frame of the item's page.
func (s *Server) previewItem(w http.ResponseWriter, r *http.Request) error {
	v, item, err := s.itemView(r)
	if err != nil {
		return err
	}
	if item.Damaged {
		return backup.ErrNotFound
	}
	m, err := s.readMessage(r, v, item)
	if err != nil {
		return err
	}
	if err := s.record(r, "item.preview", item, v); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", preview.Policy)
	h.Set("X-Frame-Options", "SAMEORIGIN")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(http.StatusOK)
	// The browser may have gone; then there is nobody to tell.
	_, _ = io.WriteString(w, m.Document())
	return nil
}
