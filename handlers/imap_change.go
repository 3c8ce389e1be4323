package handlers

import (
	"fmt"
	"net/http"
	"strings"

	"holdfast/backup"
	"holdfast/views"
)

// showIMAPServer shows the settings of a server.
func (s *Server) showIMAPServer(w http.ResponseWriter, r *http.Request) error {
	c, err := s.imapConnection(r)
	if err != nil {
		return err
	}
	v := views.IMAPServer{Connection: c}
	if v.Server, err = s.Store.IMAPServer(r.Context(), c.OrgID, c.ID); err != nil {
		return fmt.Errorf("read IMAP server: %w", err)
	}
	v.Port = fmt.Sprint(v.Server.Port)
	return s.render(w, r, http.StatusOK, views.IMAPServerPage(s.frame(w, r, "IMAP server"), v))
}

// saveIMAPServer saves the settings of a server. A secret that was left empty is
// the one kept, as long as it is for the same server and user.
func (s *Server) saveIMAPServer(w http.ResponseWriter, r *http.Request) error {
	c, err := s.imapConnection(r)
	if err != nil {
		return err
	}
	kept, err := s.Store.IMAPServer(r.Context(), c.OrgID, c.ID)
	if err != nil {
		return fmt.Errorf("read IMAP server: %w", err)
	}
	v, err := imapForm(r)
	if err != nil {
		return err
	}
	v.Connection, v.Server.OrgID, v.Server.ConnectionID = c, c.OrgID, c.ID
	if len(v.Server.MasterPassword) == 0 && kept.Host == v.Server.Host && kept.MasterUser == v.Server.MasterUser {
		v.Server.MasterPassword = kept.MasterPassword
	}
	if len(v.Server.ClientSecret) == 0 && kept.TokenURL == v.Server.TokenURL && kept.ClientID == v.Server.ClientID {
		v.Server.ClientSecret = kept.ClientSecret
	}
	if v.Fields, err = fieldsOf(v.Server.Validate(), nil); err != nil {
		return err
	}
	if v.Server.SignIn == backup.IMAPPassword && kept.Host != v.Server.Host && r.PostFormValue("same_server") != "on" && len(v.Fields) == 0 {
		v.Fields["same_server"] = "The passwords of the accounts would be sent to another server. Confirm that it is the same provider's."
	}
	if len(v.Fields) > 0 {
		return s.render(w, r, http.StatusUnprocessableEntity, views.IMAPServerPage(s.frame(w, r, "IMAP server"), v))
	}
	if err := s.Store.SaveIMAPServer(r.Context(), v.Server, actor(r)); err != nil {
		return fmt.Errorf("save the IMAP server: %w", err)
	}
	return s.redirect(w, r, "/imap/"+string(c.ID), "Saved. The accounts are being tested.")
}

// showIMAPMore shows the form for further accounts.
func (s *Server) showIMAPMore(w http.ResponseWriter, r *http.Request) error {
	c, err := s.imapConnection(r)
	if err != nil {
		return err
	}
	server, err := s.Store.IMAPServer(r.Context(), c.OrgID, c.ID)
	if err != nil {
		return fmt.Errorf("read IMAP server: %w", err)
	}
	return s.render(w, r, http.StatusOK, views.IMAPMorePage(s.frame(w, r, "Add accounts"), views.IMAPServer{Connection: c, Server: server}))
}

// addIMAPAccounts adds accounts to a server.
func (s *Server) addIMAPAccounts(w http.ResponseWriter, r *http.Request) error {
	c, err := s.imapConnection(r)
	if err != nil {
		return err
	}
	v := views.IMAPServer{Connection: c, List: r.PostFormValue("accounts")}
	if v.Server, err = s.Store.IMAPServer(r.Context(), c.OrgID, c.ID); err != nil {
		return fmt.Errorf("read IMAP server: %w", err)
	}
	accounts, err := s.imapAccounts(r, &v, v.Server.SignIn)
	if err != nil {
		return err
	}
	if len(v.Fields) > 0 {
		return s.render(w, r, http.StatusUnprocessableEntity, views.IMAPMorePage(s.frame(w, r, "Add accounts"), v))
	}
	if _, err := s.Store.AddIMAPAccounts(r.Context(), c, accounts, actor(r)); err != nil {
		return fmt.Errorf("add accounts: %w", err)
	}
	return s.redirect(w, r, "/imap/"+string(c.ID), "")
}

// showIMAPAccount shows how one account is opened.
func (s *Server) showIMAPAccount(w http.ResponseWriter, r *http.Request) error {
	v, err := s.imapAccountView(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.IMAPAccountPage(s.frame(w, r, v.Account.Address), v))
}

func (s *Server) imapAccountView(r *http.Request) (views.IMAPAccount, error) {
	c, err := s.imapConnection(r)
	if err != nil {
		return views.IMAPAccount{}, err
	}
	v := views.IMAPAccount{Connection: c}
	if v.Server, err = s.Store.IMAPServer(r.Context(), c.OrgID, c.ID); err != nil {
		return v, fmt.Errorf("read IMAP server: %w", err)
	}
	v.Account, err = s.Store.IMAPAccount(r.Context(), c.OrgID, c.ID, backup.MailboxID(r.PathValue("mailbox")))
	return v, err
}

// saveIMAPAccount changes user name and password of an account.
func (s *Server) saveIMAPAccount(w http.ResponseWriter, r *http.Request) error {
	v, err := s.imapAccountView(r)
	if err != nil {
		return err
	}
	v.Account.User, v.Account.Secret = strings.TrimSpace(r.PostFormValue("user")), backup.Secret(r.PostFormValue("password"))
	if v.Fields, err = fieldsOf(v.Account.Validate(), nil); err != nil {
		return err
	}
	if len(v.Fields) > 0 {
		return s.render(w, r, http.StatusUnprocessableEntity, views.IMAPAccountPage(s.frame(w, r, v.Account.Address), v))
	}
	if err := s.Store.SaveIMAPAccount(r.Context(), v.Connection, v.Account, actor(r)); err != nil {
		return err
	}
	return s.redirect(w, r, "/imap/"+string(v.Connection.ID), "Saved. The account is being tested.")
}
