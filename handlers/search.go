package handlers

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// A search goes through one mailbox after the other and answers with what it found
// when it took searchSpan, or when a page is full; the reader's browser asks for
// the rest.
const (
	searchSpan   = 2 * time.Second
	searchRows   = 50  // of a page
	searchPerBox = 5   // of a mailbox among others
	searchOneBox = 200 // of a mailbox alone
	searchBoxes  = 100 // that are listed at once
	searchesMost = 2   // at a time in a process, so that pages find a connection to the database
)

// showSearch looks for messages in all mailboxes of an organization.
func (s *Server) showSearch(w http.ResponseWriter, r *http.Request) error {
	v, err := s.search(r)
	if err != nil {
		return err
	}
	status := http.StatusOK
	if len(v.Fields) > 0 {
		status = http.StatusUnprocessableEntity
	}
	return s.render(w, r, status, views.SearchPage(s.frame(w, r, "Search all mailboxes"), v))
}

// showSearchLive answers with what the next mailboxes have.
func (s *Server) showSearchLive(w http.ResponseWriter, r *http.Request) error {
	v, err := s.search(r)
	if err != nil {
		return err
	}
	if !v.Asked() || len(v.Fields) > 0 {
		return backup.ErrNotFound
	}
	return s.render(w, r, http.StatusOK, views.SearchResults(v))
}

// search reads what to look for and looks for it, from the mailbox on that the
// request names by how many were searched before.
func (s *Server) search(r *http.Request) (views.Search, error) {
	q, v := searchQuery(r)
	if !v.Asked() || len(v.Fields) > 0 {
		return v, nil
	}
	if v.Done == 0 && v.Mailbox == "" {
		if err := s.Store.RecordBy(r.Context(), actor(r), actor(r).Org.ID, "mail.search", v.Words, v.Filter()); err != nil {
			return v, err
		}
	}
	select {
	case s.searches <- struct{}{}:
		defer func() { <-s.searches }()
	case <-r.Context().Done():
		return v, r.Context().Err()
	}
	if v.Mailbox != "" {
		return v, s.searchOne(r.Context(), actor(r).Org.ID, q, &v)
	}
	return v, s.searchAll(r.Context(), actor(r).Org.ID, q, &v)
}

func searchQuery(r *http.Request) (store.MailSearch, views.Search) {
	form := r.URL.Query()
	v := views.Search{
		Words: strings.Join(strings.Fields(form.Get("q")), " "), From: form.Get("from"), To: form.Get("to"), Attachments: form.Get("attachments") != "", Gone: form.Get("gone") != "",
		Mailbox: backup.MailboxID(form.Get("mailbox")), Found: form.Get("found") != "", Fields: backup.FieldErrors{},
	}
	if n, err := strconv.Atoi(form.Get("done")); err == nil && n > 0 {
		v.Done = n
	}
	q := store.MailSearch{Words: v.Words, Attachments: v.Attachments, Gone: v.Gone}
	q.From, q.Before = daysOf(form, v.Fields)
	return q, v
}

// searchOne looks into one mailbox.
func (s *Server) searchOne(ctx context.Context, org backup.OrgID, q store.MailSearch, v *views.Search) error {
	m, err := s.Store.Mailbox(ctx, org, v.Mailbox)
	if err != nil {
		return err
	}
	v.Done, v.Total = 1, 1
	_, err = s.searchMailbox(ctx, m, q, v, searchOneBox)
	return err
}

// searchAll goes through the mailboxes from the one after v.Done.
func (s *Server) searchAll(ctx context.Context, org backup.OrgID, q store.MailSearch, v *views.Search) error {
	end, rows := time.Now().Add(cmp.Or(s.SearchSpan, searchSpan)), 0
	for {
		list, total, err := s.Store.StoredMailboxes(ctx, org, v.Done, searchBoxes)
		if err != nil {
			return err
		}
		v.Total = total
		for _, m := range list {
			n, err := s.searchMailbox(ctx, m, q, v, searchPerBox)
			if err != nil {
				return err
			}
			v.Done++
			rows += n
			if v.Full = rows >= searchRows; v.Full || !time.Now().Before(end) {
				return nil
			}
		}
		if len(list) < searchBoxes {
			v.Done = total // mailboxes that went meanwhile are done too
			return nil
		}
	}
}

// searchMailbox adds what a mailbox has to v, at most n messages, and returns how
// many these are.
func (s *Server) searchMailbox(ctx context.Context, m backup.Mailbox, q store.MailSearch, v *views.Search, n int) (int, error) {
	found, err := s.Store.FindItems(ctx, m.OrgID, m.ID, q, n+1)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	in := views.SearchedMailbox{Mailbox: m, Items: found[:min(n, len(found))], More: len(found) > n}
	lost, err := s.lostItems(ctx, m)
	if err != nil {
		return 0, err
	}
	for i := range in.Items {
		in.Items[i].Lost = lost[in.Items[i].ID]
	}
	v.Mailboxes, v.Found = append(v.Mailboxes, in), true
	return len(in.Items), nil
}
