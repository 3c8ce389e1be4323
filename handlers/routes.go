package handlers

import (
	"net/http"
	"net/url"
	"strings"

	"holdfast/backup"
)

// access says who may use a route.
type access string

// Who may. Somebody who acts for an organization has the rights of its admins.
const (
	public  access = "public"  // everybody
	person  access = "person"  // everybody who is signed in
	partner access = "partner" // the partner's people
	owner   access = "owner"   // the partner's owners
	viewer  access = "viewer"  // everybody of an organization
	admin   access = "admin"   // the admins of an organization
)

// route is one line of the table.
type route struct {
	who     access
	pattern string
	handle  handlerFunc
}

// routes is the table of everything that the portal answers.
func (s *Server) routes() []route {
	return []route{
		{public, "GET /{$}", s.start},
		{public, "/", s.notFound},
		{public, "GET /sign-in", s.showSignIn},
		{public, "POST /sign-in", s.signIn},
		{public, "POST /sign-out", s.signOut},
		{public, "GET /forgot", s.showForgot},
		{public, "POST /forgot", s.forgot},
		{public, "GET /sign-in/factor", s.showFactor},
		{public, "POST /sign-in/factor", s.checkFactor},
		{public, "POST /sign-in/passkey/begin", s.beginPasskeySignIn},
		{public, "POST /sign-in/passkey", s.passkeySignIn},
		{public, "GET /sign-in/oidc/{provider}", s.startOIDC},
		{public, "GET /sign-in/oidc/callback", s.finishOIDC},
		{public, "GET /set-up/{token}/oidc/{provider}", s.startInvited},
		{public, "GET /set-up/{token}", s.showSetUpLink},
		{public, "POST /set-up/{token}", s.useSetUpLink},
		{public, "GET /branding/{version}/{file}", s.showBrandFile},
		{public, "GET /healthz", s.health},
		{public, "GET /readyz", s.ready},
		{public, "GET /api/v1/openapi.yaml", s.showAPIDescription},

		{person, "GET /account", s.showAccount},
		{person, "GET /account/confirm", s.showConfirm},
		{person, "POST /account/confirm", s.confirm},
		{person, "POST /account/confirm/passkey/begin", s.beginConfirmPasskey},
		{person, "POST /account/confirm/passkey", s.confirmPasskey},
		{person, "GET /account/confirm/providers/{provider}", s.startConfirm},
		{person, "POST /account/password", s.changePassword},
		{person, "GET /account/app", s.showApp},
		{person, "POST /account/app", s.setUpApp},
		{person, "POST /account/app/remove", s.removeApp},
		{person, "POST /account/codes", s.newCodes},
		{person, "POST /account/passkeys/begin", s.beginPasskey},
		{person, "POST /account/passkeys", s.addPasskey},
		{person, "POST /account/passkeys/{passkey}/remove", s.removePasskey},
		{person, "GET /account/providers/{provider}", s.startConnect},
		{person, "POST /account/providers/{provider}/disconnect", s.disconnect},
		{person, "POST /account/sessions/end", s.endSessions},
		{person, "POST /account/sessions/{session}/end", s.endSession},

		{partner, "GET /partner/organizations", s.listOrganizations},
		{owner, "GET /partner/organizations/new", s.newOrganization},
		{owner, "POST /partner/organizations", s.createOrganization},
		{partner, "GET /partner/organizations/{id}", s.showOrganization},
		{partner, "GET /partner/organizations/{id}/features", s.showFeatures},
		{owner, "POST /partner/organizations/{id}/features", s.saveFeatures},
		{partner, "GET /partner/organizations/{id}/users", s.showPeople},
		{owner, "POST /partner/organizations/{id}/users", s.invite},
		{owner, "GET /partner/organizations/{id}/users/{person}", s.showPerson},
		{owner, "POST /partner/organizations/{id}/users/{person}/role", s.saveRole},
		{owner, "POST /partner/organizations/{id}/users/{person}/link", s.newPasswordLink},
		{owner, "POST /partner/organizations/{id}/users/{person}/factors", s.resetFactors},
		{owner, "POST /partner/organizations/{id}/users/{person}/remove", s.removePerson},
		{owner, "GET /partner/organizations/{id}/suspend", s.askSuspend},
		{owner, "POST /partner/organizations/{id}/suspend", s.suspend},
		{owner, "POST /partner/organizations/{id}/resume", s.resume},
		{owner, "GET /partner/organizations/{id}/delete", s.askDelete},
		{owner, "POST /partner/organizations/{id}/delete", s.deleteOrganization},
		{partner, "GET /partner/organizations/{id}/deletion", s.showDeletion},
		{partner, "GET /partner/organizations/{id}/deletion/live", s.showDeletionLive},
		{owner, "POST /partner/organizations/{id}/deletion/settle", s.settleDeletion},
		{partner, "GET /partner/staff", s.showPeople},
		{owner, "POST /partner/staff", s.invite},
		{owner, "GET /partner/staff/{person}", s.showPerson},
		{owner, "POST /partner/staff/{person}/role", s.saveRole},
		{owner, "POST /partner/staff/{person}/link", s.newPasswordLink},
		{owner, "POST /partner/staff/{person}/factors", s.resetFactors},
		{owner, "POST /partner/staff/{person}/remove", s.removePerson},
		{partner, "POST /partner/organizations/{id}/act", s.startActing},
		{partner, "GET /partner/organizations/{id}/connections/{connection}/revert", s.askRevert},
		{partner, "POST /partner/organizations/{id}/connections/{connection}/revert", s.revert},
		{partner, "GET /partner/organizations/{id}/activity", s.showLog(s.organizationLog)},
		{partner, "GET /partner/organizations/{id}/activity/export", s.exportLog(s.organizationLog)},
		{partner, "GET /partner/activity", s.showLog(s.partnerLog)},
		{partner, "GET /partner/activity/export", s.exportLog(s.partnerLog)},
		{owner, "GET /partner/sign-in", s.showProviders},
		{owner, "POST /partner/sign-in", s.addProvider},
		{owner, "GET /partner/sign-in/{provider}/remove", s.askRemoveProvider},
		{owner, "POST /partner/sign-in/{provider}/remove", s.removeProvider},
		{owner, "GET /partner/settings", s.showMail},
		{owner, "POST /partner/settings", s.saveMail},
		{owner, "POST /partner/settings/notifications", s.savePartnerNotifications},
		{owner, "GET /partner/settings/branding", s.showBranding},
		{owner, "POST /partner/settings/branding", s.saveBranding},
		{owner, "GET /partner/settings/storage", s.showStorage},
		{owner, "GET /partner/settings/storage/checks", s.showChecks},
		{owner, "GET /partner/settings/storage/{id}", s.showOrganizationStorage},
		{owner, "GET /partner/settings/storage/{id}/live", s.showOrganizationChecks},
		{owner, "GET /partner/settings/storage/{id}/damages.csv", s.exportOrganizationDamages},
		{owner, "POST /partner/settings/storage/{id}/check", s.checkNow},
		{owner, "POST /partner/settings/storage/{id}/repair", s.repairNow},
		{owner, "POST /partner/settings/storage/{id}/rebuild", s.rebuildNow},
		{owner, "POST /partner/settings/storage/{id}/collect", s.collectNow},
		{owner, "POST /partner/settings/storage/{id}/rekey", s.rekeyNow},
		{owner, "POST /partner/settings/storage", s.saveRecovery},
		{partner, "GET /partner/support", s.showSupport},
		{owner, "GET /partner/tokens", s.showTokens},
		{owner, "POST /partner/tokens", s.createToken},
		{owner, "GET /partner/tokens/{token}/revoke", s.askRevokeToken},
		{owner, "POST /partner/tokens/{token}/revoke", s.revokeToken},
		{partner, "POST /stop-acting", s.stopActing},

		{viewer, "GET /dashboard", s.showDashboard},
		{viewer, "GET /dashboard/live", s.showDashboardLive},
		{viewer, "GET /mailboxes/{id}", s.showMailbox},
		{admin, "GET /mailboxes/{id}/erase", s.askErasure},
		{admin, "POST /mailboxes/{id}/erase", s.startErasure},
		{viewer, "GET /erasures", s.listErasures},
		{viewer, "GET /erasures/{erasure}", s.showErasure},
		{viewer, "GET /erasures/{erasure}/live", s.showErasureLive},
		{viewer, "GET /erasures/{erasure}/certificate.json", s.downloadCertificate},
		{admin, "POST /mailboxes/{id}/hold", s.setMailboxHold},
		{admin, "POST /mailboxes/{id}/hold/lift", s.liftMailboxHold},
		{admin, "POST /mailboxes/{id}/back-up", s.backUpMailbox},
		{admin, "GET /mailboxes/{id}/deactivate", s.askDeactivate},
		{admin, "POST /mailboxes/{id}/deactivate", s.deactivateMailbox},
		{admin, "POST /mailboxes/{id}/reactivate", s.reactivateMailbox},

		{admin, "GET /accounts", s.showAccounts},
		{admin, "POST /accounts", s.addAccounts},
		{admin, "POST /accounts/leave-out", s.leaveOut},
		{admin, "GET /add-backup", s.showAddBackup},
		{admin, "GET /add-backup/microsoft365", s.showMicrosoft365},
		{admin, "POST /add-backup/microsoft365", s.startMicrosoft365},
		{admin, "GET /add-backup/imap", s.newIMAP},
		{admin, "POST /add-backup/imap", s.createIMAP},
		{admin, "GET /imap/{connection}", s.showIMAP},
		{admin, "POST /imap/{connection}", s.startIMAP},
		{admin, "GET /imap/{connection}/live", s.showIMAPLive},
		{admin, "POST /imap/{connection}/test", s.testIMAP},
		{admin, "GET /imap/{connection}/server", s.showIMAPServer},
		{admin, "POST /imap/{connection}/server", s.saveIMAPServer},
		{admin, "GET /imap/{connection}/accounts", s.showIMAPMore},
		{admin, "POST /imap/{connection}/accounts", s.addIMAPAccounts},
		{admin, "GET /imap/{connection}/accounts/{mailbox}", s.showIMAPAccount},
		{admin, "POST /imap/{connection}/accounts/{mailbox}", s.saveIMAPAccount},
		{admin, "GET /imap/{connection}/discard", s.askDiscardIMAP},
		{admin, "POST /imap/{connection}/discard", s.discardIMAP},
		{admin, "GET /setup", s.showSetup},
		{admin, "POST /setup/sign-in", s.startSignIn},
		{admin, "GET /setup/callback", s.finishSignIn},
		{admin, "POST /setup/applications", s.retryApplications},
		{admin, "GET /setup/progress", s.showSetupProgress},
		{admin, "POST /setup/device", s.newDeviceCode},
		{admin, "GET /setup/device", s.showDevice},
		{admin, "POST /setup/browser", s.startBrowser},
		{admin, "POST /setup/flow", s.chooseFlow},
		{admin, "GET /setup/script", s.downloadScript},
		{admin, "POST /setup/verify", s.verify},
		{admin, "POST /setup/list", s.listAccounts},
		{admin, "POST /setup/accounts", s.chooseAccounts},
		{admin, "GET /setup/abandon", s.showAbandon},
		{admin, "POST /setup/abandon", s.abandon},
		{admin, "POST /setup/left-behind/{authorization}", s.forgetLeftBehind},

		{viewer, "GET /browse", s.listBrowse},
		{admin, "GET /search", s.showSearch},
		{admin, "GET /search/live", s.showSearchLive},
		{viewer, "GET /browse/{mailbox}", s.browseMailbox},
		{admin, "GET /browse/{mailbox}/download", s.downloadMailbox},
		{admin, "GET /browse/{mailbox}/folders/{folder}/download", s.downloadFolder},
		{admin, "GET /browse/{mailbox}/restore", s.askRestore},
		{admin, "GET /browse/{mailbox}/restore/confirm", s.confirmRestore},
		{admin, "POST /browse/{mailbox}/restore", s.startRestore},
		{viewer, "GET /restores", s.listRestores},
		{viewer, "GET /restores/{restore}", s.showRestore},
		{viewer, "GET /restores/{restore}/live", s.showRestoreLive},
		{admin, "GET /restores/{restore}/report.csv", s.downloadRestoreReport},
		{admin, "POST /restores/{restore}/cancel", s.cancelRestore},
		{admin, "POST /restores/{restore}/retry", s.retryRestore},
		{admin, "POST /restores/{restore}/permission", s.permitRestore},
		{admin, "GET /browse/{mailbox}/items/{item}", s.showItem},
		{admin, "GET /browse/{mailbox}/items/{item}/preview", s.previewItem},
		{admin, "GET /browse/{mailbox}/items/{item}/download", s.downloadItem},

		{admin, "GET /exports", s.listExports},
		{admin, "GET /exports/live", s.showExportsLive},
		{admin, "GET /exports/new", s.newExport},
		{admin, "POST /exports", s.startExport},
		{admin, "GET /exports/{export}/download", s.downloadExport},
		{admin, "POST /exports/{export}/cancel", s.cancelExport},
		{admin, "GET /exports/{export}/delete", s.askDeleteExport},
		{admin, "POST /exports/{export}/delete", s.deleteExport},

		{viewer, "GET /status", s.showStatus},
		{viewer, "GET /status/live", s.showStatusLive},
		{viewer, "GET /status/damages.csv", s.exportDamages},
		{viewer, "GET /activity", s.showLog(s.ownLog)},
		{viewer, "GET /activity/export", s.exportLog(s.ownLog)},
		{viewer, "GET /settings", s.showSettings},
		{admin, "POST /settings", s.saveSettings},
		{admin, "POST /settings/protection", s.saveProtection},
		{admin, "POST /settings/factor", s.saveRequireFactor},
		{admin, "POST /settings/acting", s.saveActing},
		{admin, "POST /settings/acting/{request}/grant", s.grantActing},
		{admin, "POST /settings/acting/{request}/decline", s.declineActing},
		{admin, "GET /settings/users", s.showPeople},
		{admin, "POST /settings/users", s.invite},
		{admin, "GET /settings/users/{person}", s.showPerson},
		{admin, "POST /settings/users/{person}/role", s.saveRole},
		{admin, "POST /settings/users/{person}/link", s.newPasswordLink},
		{admin, "POST /settings/users/{person}/factors", s.resetFactors},
		{admin, "POST /settings/users/{person}/remove", s.removePerson},
		{viewer, "GET /settings/schedule", s.showSchedule},
		{admin, "POST /settings/schedule", s.saveSchedule},
		{admin, "POST /settings/schedule/pause", s.pauseBackups},
		{admin, "POST /settings/schedule/resume", s.resumeBackups},
		{viewer, "GET /settings/retention", s.showRetention},
		{admin, "GET /settings/retention/preview", s.previewRetention},
		{admin, "POST /settings/retention", s.saveRetention},
		{admin, "POST /settings/retention/hold", s.setLegalHold},
		{admin, "POST /settings/retention/hold/lift", s.liftLegalHold},
		{viewer, "GET /settings/retention/mailboxes", s.listRules},
		{admin, "GET /settings/retention/mailboxes/preview", s.previewRule},
		{admin, "POST /settings/retention/mailboxes", s.saveRule},
		{viewer, "GET /settings/notifications", s.showNotifications},
		{admin, "POST /settings/notifications", s.saveNotifications},
		{admin, "GET /settings/sign-in", s.showProviders},
		{admin, "POST /settings/sign-in", s.addProvider},
		{admin, "GET /settings/sign-in/{provider}/remove", s.askRemoveProvider},
		{admin, "POST /settings/sign-in/{provider}/remove", s.removeProvider},
		{viewer, "GET /settings/credentials", s.showCredentials},
		{admin, "POST /settings/credentials/{connection}/check-role", s.checkRoleNow},
		{admin, "POST /settings/credentials/{connection}/repair-role", s.repairRole},
		{viewer, "GET /migration", s.showMigration},
		{viewer, "GET /migration/done", s.showMigrationDone},
		{admin, "GET /settings/credentials/{connection}/migrate", s.askMigrate},
		{admin, "GET /settings/credentials/{connection}/migrate/account", s.chooseMigrationAccount},
		{admin, "POST /settings/credentials/{connection}/migrate", s.startMigration},
		{admin, "GET /settings/credentials/{connection}/clean-up", s.askCleanUp},
		{admin, "POST /settings/credentials/{connection}/clean-up", s.startCleanUp},
		{admin, "POST /settings/credentials/{connection}/administrator-password", s.showAdministratorPassword},
		{admin, "POST /settings/credentials/{connection}/repair", s.repair},
		{admin, "POST /settings/credentials/{connection}/renew", s.renew},
		{admin, "GET /settings/credentials/{connection}/exchange", s.askSwitchExchange},
		{admin, "POST /settings/credentials/{connection}/exchange", s.switchExchange},
		{viewer, "GET /settings/permissions", s.showPermissions},
		{viewer, "GET /settings/permissions/live", s.showPermissionsLive},
		{admin, "POST /settings/permissions/{connection}/check", s.checkPermissions},
		{viewer, "GET /settings/permissions/{connection}/proof", s.showProof},
		{viewer, "GET /settings/permissions/{connection}/proof.json", s.downloadProof},
	}
}

// allow says whether the person may use a route. If not, the answer is written
// or the error says why.
func (s *Server) allow(w http.ResponseWriter, r *http.Request, who access) (bool, error) {
	if who == public {
		return true, nil
	}
	a := actor(r)
	if a.Person.ID == "" {
		return false, s.toSignIn(w, r)
	}
	if who != person && s.factorMissing(a) {
		return false, s.redirect(w, r, "/account", "")
	}
	switch {
	case who == person, who == partner && a.IsPartner(), who == owner && a.Role == backup.RoleOwner:
		return true, nil
	case who == partner || who == owner:
		return false, backup.ErrForbidden
	case a.Org.ID == "":
		return false, s.toOrganizations(w, r)
	case !a.Org.SuspendedAt.IsZero() && !a.IsPartner():
		return false, errSuspended
	case who == admin && a.OrgRole() != backup.RoleAdmin:
		return false, backup.ErrForbidden
	}
	return true, nil
}

// toSignIn sends a visitor to the sign-in page, and from there to where they
// wanted to go.
func (s *Server) toSignIn(w http.ResponseWriter, r *http.Request) error {
	target := "/sign-in"
	next := ""
	switch {
	case fragment(r):
		if u, err := url.Parse(r.Header.Get("HX-Current-URL")); err == nil {
			next = u.RequestURI()
		}
	case r.Method == http.MethodGet:
		next = r.URL.RequestURI()
	}
	if next = ownPath(next); next != "/" {
		target += "?" + url.Values{"next": {next}}.Encode()
	}
	if hx(r) {
		w.Header().Set("HX-Redirect", target)
		w.WriteHeader(http.StatusUnauthorized)
		return nil
	}
	http.Redirect(w, r, target, http.StatusSeeOther)
	return nil
}

// toOrganizations sends a partner's person who acts for nobody to where they
// can choose whom to act for. An acting that ended by itself is told.
func (s *Server) toOrganizations(w http.ResponseWriter, r *http.Request) error {
	why := "Choose an organization and act for it to see its pages."
	if visitOf(r).session.ActingID != "" {
		why = "Acting has ended: it lasts 60 minutes at most. Act for the organization again to go on."
		if r.Method != http.MethodGet {
			why += " What you sent last was not done."
		}
	}
	if fragment(r) {
		if err := s.keep(w, r, warnKey, why); err != nil {
			return err
		}
		w.Header().Set("HX-Redirect", "/partner/organizations")
		w.WriteHeader(http.StatusForbidden)
		return nil
	}
	return s.refuse(w, r, "/partner/organizations", why)
}

// hx says whether htmx asks; fragment, whether for a part of a page.
func hx(r *http.Request) bool { return r.Header.Get("HX-Request") == "true" }

func fragment(r *http.Request) bool { return hx(r) && r.Header.Get("HX-Request-Type") == "partial" }

// ownPath returns path if it is one of this portal, else "/".
func ownPath(path string) string {
	u, err := url.Parse(path)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(path, "/") ||
		strings.HasPrefix(path, "//") || strings.ContainsAny(path, "\\\r\n\t") {
		return "/"
	}
	return path
}

// start leads to the first page of whoever is there.
func (s *Server) start(w http.ResponseWriter, r *http.Request) error {
	a := actor(r)
	switch {
	case a.Person.ID == "":
		return s.redirect(w, r, "/sign-in", "")
	case a.Org.ID != "":
		return s.redirect(w, r, "/dashboard", "")
	}
	return s.redirect(w, r, "/partner/organizations", "")
}

func (s *Server) notFound(http.ResponseWriter, *http.Request) error { return backup.ErrNotFound }

// health says that the process answers: whoever watches it restarts it if not.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) error {
	return plain(w, http.StatusOK, "ok")
}

// ready says whether the portal can do its work: whoever balances the load
// sends requests elsewhere if not. Why stands in the log.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) error {
	_, err := s.Store.CountPeople(r.Context())
	if err == nil && s.Ready != nil {
		err = s.Ready(r.Context())
	}
	if err != nil {
		s.Log.Error("not ready", "error", err)
		return plain(w, http.StatusServiceUnavailable, "not ready")
	}
	return plain(w, http.StatusOK, "ready")
}

func plain(w http.ResponseWriter, status int, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, err := w.Write([]byte(text + "\n"))
	return err
}
