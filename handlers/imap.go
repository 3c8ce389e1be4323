package handlers

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// newIMAP shows the form of an IMAP server.
func (s *Server) newIMAP(w http.ResponseWriter, r *http.Request) error {
	v := views.IMAPServer{Server: backup.IMAPServer{Security: backup.IMAPTLS, SignIn: backup.IMAPPassword}, Port: "993"}
	connections, err := s.Store.Connections(r.Context(), actor(r).Org.ID)
	if err != nil {
		return fmt.Errorf("read connections: %w", err)
	}
	for _, c := range connections {
		if c.Provider == backup.ProviderIMAP && c.ReadyAt.IsZero() {
			v.Drafts = append(v.Drafts, c)
		}
	}
	return s.render(w, r, http.StatusOK, views.IMAPServerPage(s.frame(w, r, "IMAP server"), v))
}

// createIMAP keeps a server with its accounts, which are then tested.
func (s *Server) createIMAP(w http.ResponseWriter, r *http.Request) error {
	v, err := imapForm(r)
	if err != nil {
		return err
	}
	accounts, err := s.imapAccounts(r, &v, v.Server.SignIn)
	if err != nil {
		return err
	}
	if v.Fields, err = fieldsOf(v.Server.Validate(), v.Fields); err != nil {
		return err
	}
	if len(v.Fields) > 0 {
		return s.render(w, r, http.StatusUnprocessableEntity, views.IMAPServerPage(s.frame(w, r, "IMAP server"), v))
	}
	conn, err := s.Store.CreateIMAPConnection(r.Context(), v.Server, accounts, actor(r))
	if err != nil {
		return fmt.Errorf("keep the IMAP server: %w", err)
	}
	return s.redirect(w, r, "/imap/"+string(conn.ID), "")
}

// fieldsOf adds the fields of an error of Validate to others.
func fieldsOf(err error, fields backup.FieldErrors) (backup.FieldErrors, error) {
	more, ok := errors.AsType[backup.FieldErrors](err)
	if err != nil && !ok {
		return fields, err
	}
	if fields == nil {
		fields = backup.FieldErrors{}
	}
	for name, text := range more {
		fields[name] = text
	}
	return fields, nil
}

// imapForm is the form of a server as it was filled in.
func imapForm(r *http.Request) (views.IMAPServer, error) {
	v := views.IMAPServer{Port: strings.TrimSpace(r.PostFormValue("port")), List: r.PostFormValue("accounts")}
	v.Server = backup.IMAPServer{
		Host: strings.ToLower(strings.TrimSpace(r.PostFormValue("host"))), Security: backup.IMAPSecurity(r.PostFormValue("security")),
		Certificates: strings.TrimSpace(r.PostFormValue("certificates")), SignIn: backup.IMAPSignIn(r.PostFormValue("sign_in")),
	}
	v.Server.Port, _ = strconv.Atoi(v.Port) // 0 is refused like any other wrong port
	switch v.Server.SignIn {
	case backup.IMAPMaster:
		v.Server.MasterUser, v.Server.MasterPassword = strings.TrimSpace(r.PostFormValue("master_user")), backup.Secret(r.PostFormValue("master_password"))
	case backup.IMAPOAuth:
		v.Server.TokenURL, v.Server.ClientID = strings.TrimSpace(r.PostFormValue("token_url")), strings.TrimSpace(r.PostFormValue("client_id"))
		v.Server.ClientSecret, v.Server.Scope = backup.Secret(r.PostFormValue("client_secret")), strings.TrimSpace(r.PostFormValue("scope"))
	}
	return v, nil
}

// imapAccounts reads the list of accounts that was typed or uploaded.
func (s *Server) imapAccounts(r *http.Request, v *views.IMAPServer, by backup.IMAPSignIn) ([]backup.IMAPAccount, error) {
	file, _, err := r.FormFile("file")
	switch {
	case err == nil:
		defer file.Close()
		text, err := io.ReadAll(io.LimitReader(file, maxForm))
		if err != nil {
			return nil, err
		}
		if len(text) > 0 {
			v.List = strings.TrimRight(v.List, "\r\n ") + "\n" + string(text)
		}
	case !errors.Is(err, http.ErrMissingFile) && !errors.Is(err, http.ErrNotMultipart):
		return nil, err
	}
	v.List = strings.TrimLeft(v.List, "\r\n ")
	accounts, wrong := backup.ParseIMAPAccounts(v.List, by)
	v.Wrong = wrong
	switch {
	case len(wrong) > 0:
		v.Fields = backup.FieldErrors{"accounts": "Some lines can't be used. Correct them and continue; nothing is kept yet."}
	case len(accounts) == 0:
		v.Fields = backup.FieldErrors{"accounts": "Enter at least one account, or choose a file."}
	}
	return accounts, nil
}

// imapConnection is the connection to an IMAP server that a path names.
func (s *Server) imapConnection(r *http.Request) (backup.Connection, error) {
	c, err := s.Store.Connection(r.Context(), actor(r).Org.ID, backup.ConnectionID(r.PathValue("connection")))
	if err == nil && c.Provider != backup.ProviderIMAP {
		return c, backup.ErrNotFound
	}
	return c, err
}

// showIMAP shows the accounts of a server, with how their tests went.
func (s *Server) showIMAP(w http.ResponseWriter, r *http.Request) error {
	v, err := s.imapView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.IMAPAccountsPage(s.frame(w, r, "IMAP accounts"), v))
}

// showIMAPLive is the part of the page that changes while accounts are tested.
func (s *Server) showIMAPLive(w http.ResponseWriter, r *http.Request) error {
	v, err := s.imapView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.IMAPTests(v))
}

func (s *Server) imapView(r *http.Request) (views.IMAPAccounts, error) {
	c, err := s.imapConnection(r)
	if err != nil {
		return views.IMAPAccounts{}, err
	}
	v := views.IMAPAccounts{Connection: c, Now: time.Now(), Selected: map[backup.MailboxID]bool{}}
	if v.Server, err = s.Store.IMAPServer(r.Context(), c.OrgID, c.ID); err != nil {
		return v, fmt.Errorf("read IMAP server: %w", err)
	}
	if v.Accounts, err = s.Store.IMAPAccounts(r.Context(), c.OrgID, c.ID); err != nil {
		return v, fmt.Errorf("read IMAP accounts: %w", err)
	}
	return v, nil
}

// startIMAP backs up the selected accounts.
func (s *Server) startIMAP(w http.ResponseWriter, r *http.Request) error {
	v, err := s.imapView(r)
	if err != nil {
		return err
	}
	var others []backup.Mailbox
	for _, a := range v.Accounts {
		if !a.Selected {
			others = append(others, backup.Mailbox{ID: a.MailboxID})
		}
	}
	ids, selected, err := chosen(r, others)
	if err == nil {
		err = s.Store.StartIMAPBackup(r.Context(), v.Connection, ids, actor(r))
	}
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		v.Fields, v.Selected = fields, selected
		return s.render(w, r, http.StatusUnprocessableEntity, views.IMAPAccountsPage(s.frame(w, r, "IMAP accounts"), v))
	}
	if err != nil {
		return fmt.Errorf("select accounts: %w", err)
	}
	text := fmt.Sprintf("%s: the first backup of %d mailboxes has started.", v.Connection.TenantName, len(ids))
	if len(ids) == 1 {
		text = v.Connection.TenantName + ": the first backup of one mailbox has started."
	}
	return s.redirect(w, r, "/dashboard", text)
}

// testIMAP has the accounts tested again.
func (s *Server) testIMAP(w http.ResponseWriter, r *http.Request) error {
	c, err := s.imapConnection(r)
	if err != nil {
		return err
	}
	if err := s.Store.TestIMAPAccounts(r.Context(), c); err != nil {
		return err
	}
	return s.redirect(w, r, "/imap/"+string(c.ID), "")
}

// askDiscardIMAP asks before a server that is not in use is forgotten.
func (s *Server) askDiscardIMAP(w http.ResponseWriter, r *http.Request) error {
	v, err := s.imapView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.DiscardIMAPPage(s.frame(w, r, "Discard"), v))
}

func (s *Server) discardIMAP(w http.ResponseWriter, r *http.Request) error {
	c, err := s.imapConnection(r)
	if err != nil {
		return err
	}
	if err := s.Store.DeleteConnection(r.Context(), c.OrgID, c.ID); err != nil {
		return err
	}
	return s.redirect(w, r, "/add-backup", "Discarded. Holdfast has forgotten "+c.TenantName+" and its passwords.")
}
