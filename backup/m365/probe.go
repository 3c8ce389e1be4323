package m365

import (
	"context"
	"net/http"
	"net/url"

	abs "github.com/microsoft/kiota-abstractions-go"
)

// Probe says whether the mailbox of a user can be read; nil means yes.
func (a *App) Probe(ctx context.Context, userID string) error {
	var inbox struct {
		ID string `json:"id"`
	}
	r, err := a.json(ctx, request{method: abs.GET, mailbox: userID, path: "/users/" + url.PathEscape(userID) + "/mailFolders/inbox?$select=id,totalItemCount"}, &inbox)
	if r != nil && r.status == http.StatusNotFound && r.has("ErrorItemNotFound", "itemNotFound") {
		return r.problem(mailboxMeanings["mailboxnotenabledforrestapi"], err)
	}
	if r != nil {
		return mailboxProblem(*r, err)
	}
	return err
}
