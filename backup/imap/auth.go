package imap

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"holdfast/backup"
)

// signIn signs in by the best way that the server and the login have in common.
func (w *wire) signIn(ctx context.Context, server backup.IMAPServer, login Login) error {
	if login.Token != nil {
		return w.signInByToken(ctx, server, login)
	}
	for _, text := range []string{login.User, login.Master, string(login.Password)} {
		if strings.ContainsAny(text, "\x00\r\n") {
			return errors.New("name or password has a character that IMAP can't send")
		}
	}
	switch {
	case w.caps["AUTH=PLAIN"]:
		who := login.User
		response := "\x00" + who + "\x00" + login.Password.Reveal()
		if login.Master != "" {
			response = login.User + "\x00" + login.Master + "\x00" + login.Password.Reveal()
		}
		return w.authenticate("PLAIN", response)
	case login.Master != "":
		return errNoMaster
	case w.caps["LOGINDISABLED"]:
		return errNoPassword
	}
	return w.login(login.User, login.Password.Reveal())
}

var (
	errNoMaster   = errors.New("the server does not offer AUTH=PLAIN, which a master user needs")
	errNoPassword = errors.New("the server takes no passwords")
	errNoToken    = errors.New("the server takes no access tokens")
)

// signInByToken uses an access token (https://developers.google.com/gmail/imap/xoauth2-protocol, RFC 7628).
func (w *wire) signInByToken(ctx context.Context, server backup.IMAPServer, login Login) error {
	if !w.caps["AUTH=OAUTHBEARER"] && !w.caps["AUTH=XOAUTH2"] {
		return errNoToken
	}
	token, err := login.Token(ctx)
	if err != nil {
		return &tokenError{err}
	}
	if w.caps["AUTH=XOAUTH2"] {
		return w.authenticate("XOAUTH2", "user="+login.User+"\x01auth=Bearer "+token+"\x01\x01")
	}
	user := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(login.User)
	return w.authenticate("OAUTHBEARER", fmt.Sprintf("n,a=%s,\x01host=%s\x01port=%d\x01auth=Bearer %s\x01\x01", user, server.Host, server.Port, token))
}

// tokenError says that there was no token to sign in with.
type tokenError struct{ err error }

// Error implements error.
func (e *tokenError) Error() string { return "get an access token: " + e.err.Error() }

// Unwrap returns the cause.
func (e *tokenError) Unwrap() error { return e.err }

// authenticate does a SASL mechanism whose client speaks once and first.
func (w *wire) authenticate(mechanism, response string) error {
	encoded := base64.StdEncoding.EncodeToString([]byte(response))
	command := "AUTHENTICATE " + mechanism
	if w.caps["SASL-IR"] {
		command += " " + encoded
	}
	tag, err := w.send(command)
	if err != nil {
		return err
	}
	if !w.caps["SASL-IR"] {
		if err := w.continuation(tag, encoded); err != nil {
			return err
		}
	}
	// After a refusal OAuth servers send one more request, with the reason.
	_, err = w.answer(tag, "sign-in")
	return err
}

// continuation waits until the server asks, and sends text.
func (w *wire) continuation(tag, text string) error {
	for {
		line, err := w.line()
		if err != nil {
			return err
		}
		switch {
		case strings.HasPrefix(line, "+"):
			_, err := io.WriteString(w.conn, text+"\r\n")
			return err
		case strings.HasPrefix(line, tag+" "):
			return &refusal{during: "sign-in", answer: parseAnswer(line, tag)}
		case strings.HasPrefix(strings.ToUpper(line), "* BYE"):
			return &refusal{during: "sign-in", answer: parseAnswer(line, "*")}
		}
	}
}

// login is the command of old servers. Its arguments are literals, which hold
// every character.
func (w *wire) login(user, password string) error {
	tag, err := w.send(fmt.Sprintf("LOGIN {%d}", len(user)))
	if err != nil {
		return err
	}
	if err := w.continuation(tag, fmt.Sprintf("%s {%d}", user, len(password))); err != nil {
		return err
	}
	if err := w.continuation(tag, password); err != nil {
		return err
	}
	_, err = w.answer(tag, "sign-in")
	return err
}
