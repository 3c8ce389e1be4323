package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/store"
	"holdfast/views"
)

// showMailbox shows how a mailbox stands and how long its snapshots are kept.
func (s *Server) showMailbox(w http.ResponseWriter, r *http.Request) error {
	return s.mailboxPage(w, r, http.StatusOK, views.MailboxSettings{})
}

// mailboxPage completes v with what is saved. The form shows what was typed, if
// anything.
func (s *Server) mailboxPage(w http.ResponseWriter, r *http.Request, status int, v views.MailboxSettings) error {
	id := backup.MailboxID(r.PathValue("id"))
	if id == "" {
		id = backup.MailboxID(r.FormValue("m"))
	}
	ctx, org := r.Context(), actor(r).Org.ID
	m, err := s.Store.Mailbox(ctx, org, id)
	if err != nil {
		return err
	}
	if !m.Selected {
		return backup.ErrNotFound
	}
	keep, err := s.Store.Keepings(ctx, org)
	if err != nil {
		return err
	}
	snapshots, err := s.Store.Snapshots(ctx, org, m.ID)
	if err != nil {
		return fmt.Errorf("read snapshots: %w", err)
	}
	if v.Plan, err = s.Store.Schedule(ctx, org); err != nil {
		return err
	}
	v.Mailbox, v.General, v.OrgHold, v.Snapshots = keepingView(keep, m), keep.Rule, keep.Hold, len(snapshots)
	if len(snapshots) > 0 {
		v.Oldest = snapshots[len(snapshots)-1].At
	}
	if v.Form.Mode == "" {
		v.Form = mailboxForm(keep.Own[m.ID])
	}
	v.MayChange, v.Now = actor(r).OrgRole() == backup.RoleAdmin, time.Now()
	return s.render(w, r, status, views.MailboxSettingsPage(s.frame(w, r, m.Name), v))
}

func keepingView(keep backup.Keepings, m backup.Mailbox) views.MailboxKeeping {
	own := keep.Own[m.ID]
	return views.MailboxKeeping{Mailbox: m, Own: own.Own(), Rule: keep.RuleOf(m.ID), Hold: own.Hold}
}

func mailboxForm(k backup.Keeping) views.RetentionForm {
	if !k.Own() {
		return views.RetentionForm{Mode: views.RetentionInherit}
	}
	return retentionForm(k.Rule)
}

// mailboxRuleOf reads the form of a request. A mailbox without a rule of its own
// has one with Mode "".
func mailboxRuleOf(r *http.Request) (views.RetentionForm, backup.Retention, error) {
	if r.FormValue("mode") == views.RetentionInherit {
		return views.RetentionForm{Mode: views.RetentionInherit}, backup.Retention{}, nil
	}
	return retentionOf(r)
}

// setMailboxHold lets nothing of a mailbox expire any more.
func (s *Server) setMailboxHold(w http.ResponseWriter, r *http.Request) error {
	m, err := s.mailbox(r)
	if err != nil {
		return err
	}
	reason, page := r.PostFormValue("reason"), "/mailboxes/"+string(m.ID)
	err = s.Store.SetMailboxHold(r.Context(), m.OrgID, m.ID, reason, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		return s.mailboxPage(w, r, http.StatusUnprocessableEntity, views.MailboxSettings{Reason: reason, Fields: fields})
	}
	if errors.Is(err, backup.ErrConflict) {
		return s.redirect(w, r, page, "There is a legal hold already.")
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, page, "The legal hold is set. Nothing of this mailbox expires or is erased while it lasts.")
}

// liftMailboxHold ends it.
func (s *Server) liftMailboxHold(w http.ResponseWriter, r *http.Request) error {
	m, err := s.mailbox(r)
	if err != nil {
		return err
	}
	if r.PostFormValue("confirm") != "yes" {
		return s.mailboxPage(w, r, http.StatusUnprocessableEntity, views.MailboxSettings{Fields: backup.FieldErrors{"lift": "Confirm that its snapshots may expire again."}})
	}
	err = s.Store.LiftMailboxHold(r.Context(), m.OrgID, m.ID, actor(r))
	if errors.Is(err, backup.ErrNotFound) {
		return s.redirect(w, r, "/mailboxes/"+string(m.ID), "There is no legal hold any more.")
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/mailboxes/"+string(m.ID), "The legal hold is lifted.")
}

// rulesPerPage is how many mailboxes the page of rules lists.
const rulesPerPage = 50

// listRules lists mailboxes with the rules that hold for them.
func (s *Server) listRules(w http.ResponseWriter, r *http.Request) error {
	return s.rulesPage(w, r, http.StatusOK, views.MailboxRules{Form: views.RetentionForm{Mode: views.RetentionInherit}})
}

func (s *Server) rulesPage(w http.ResponseWriter, r *http.Request, status int, v views.MailboxRules) error {
	ctx, org := r.Context(), actor(r).Org.ID
	keep, err := s.Store.Keepings(ctx, org)
	if err != nil {
		return err
	}
	v.Search = strings.TrimSpace(r.FormValue("q"))
	page := pageOf(r)
	list, err := s.Store.Mailboxes(ctx, org, store.MailboxQuery{Search: v.Search, Page: page, PageSize: rulesPerPage})
	if err != nil {
		return err
	}
	for _, m := range list.Mailboxes {
		v.List = append(v.List, keepingView(keep, m))
	}
	query := url.Values{}
	if v.Search != "" {
		query.Set("q", v.Search)
	}
	v.General, v.OrgHold, v.Total = keep.Rule, keep.Hold, list.Total
	v.Page = views.Pager{Page: page, Size: rulesPerPage, Total: list.Total, Path: "/settings/retention/mailboxes", Query: query}
	v.MayChange, v.Now = actor(r).OrgRole() == backup.RoleAdmin, time.Now()
	return s.render(w, r, status, views.MailboxRulesPage(s.frame(w, r, "Rules of single mailboxes"), v))
}

// chosen reads the mailboxes that a request names, or all that its search finds.
func (s *Server) chosen(r *http.Request) ([]backup.Mailbox, error) {
	ctx, org := r.Context(), actor(r).Org.ID
	if r.FormValue("all") == "yes" {
		page, err := s.Store.Mailboxes(ctx, org, store.MailboxQuery{Search: r.FormValue("q"), Page: 1, PageSize: 10_000})
		return page.Mailboxes, err
	}
	ids := slices.Clone(r.Form["m"])
	slices.Sort(ids)
	var list []backup.Mailbox
	for _, id := range slices.Compact(ids) {
		m, err := s.Store.Mailbox(ctx, org, backup.MailboxID(id))
		if err != nil {
			return nil, err
		}
		if !m.Selected {
			return nil, backup.ErrNotFound
		}
		list = append(list, m)
	}
	return list, nil
}

// rulesBack is the page on which a rule was asked for: a mailbox's or the list.
func rulesBack(r *http.Request) string {
	u, err := url.Parse(ownPath(r.FormValue("back")))
	if err != nil || !strings.HasPrefix(u.Path, "/mailboxes/") && u.Path != "/settings/retention/mailboxes" {
		return "/settings/retention/mailboxes"
	}
	return u.RequestURI()
}

// previewRule says what a rule for chosen mailboxes would delete, before it is
// saved.
func (s *Server) previewRule(w http.ResponseWriter, r *http.Request) error {
	return s.askRule(w, r, http.StatusOK, nil)
}

func (s *Server) askRule(w http.ResponseWriter, r *http.Request, status int, fields backup.FieldErrors) error {
	if err := r.ParseForm(); err != nil {
		return backup.ErrNotFound
	}
	form, rule, err := mailboxRuleOf(r)
	wrong, typo := errors.AsType[backup.FieldErrors](err)
	if err != nil && !typo {
		return err
	}
	list, err := s.chosen(r)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		wrong, typo = backup.FieldErrors{"m": "Choose at least one mailbox."}, true
	}
	if back := rulesBack(r); typo && strings.HasPrefix(back, "/mailboxes/") && len(list) == 1 {
		return s.mailboxPage(w, r, http.StatusUnprocessableEntity, views.MailboxSettings{Form: form, Fields: wrong})
	}
	if typo {
		ids := map[backup.MailboxID]bool{}
		for _, m := range list {
			ids[m.ID] = true
		}
		return s.rulesPage(w, r, http.StatusUnprocessableEntity, views.MailboxRules{Form: form, Fields: wrong, Chosen: ids})
	}
	v := views.MailboxRulePreview{Form: form, Rule: rule, Back: rulesBack(r), Fields: fields}
	keep, expiries, err := s.ruleExpiries(r, list, rule)
	if err != nil {
		return err
	}
	v.General, v.OrgHold, v.Expiries = keep.Rule, keep.Hold, expiries
	for _, m := range list {
		v.Chosen = append(v.Chosen, keepingView(keep, m))
	}
	return s.render(w, r, status, views.MailboxRulePreviewPage(s.frame(w, r, "Retention"), v))
}

// ruleExpiries returns what a rule lets expire of chosen mailboxes that are not
// on hold themselves.
func (s *Server) ruleExpiries(r *http.Request, list []backup.Mailbox, rule backup.Retention) (backup.Keepings, []backup.Expiry, error) {
	keep, err := s.Store.Keepings(r.Context(), actor(r).Org.ID)
	if err != nil {
		return keep, nil, err
	}
	if rule.Mode == "" {
		rule = keep.Rule
	}
	ids := map[backup.MailboxID]bool{}
	for _, m := range list {
		ids[m.ID] = keep.Own[m.ID].Hold.IsZero()
	}
	expiries, err := s.Store.Expiries(r.Context(), actor(r).Org.ID, func(m backup.MailboxID) (backup.Retention, bool) { return rule, ids[m] }, time.Now())
	if err != nil {
		return keep, nil, fmt.Errorf("preview retention: %w", err)
	}
	return keep, expiries, nil
}

// saveRule gives a rule to chosen mailboxes. One that deletes something has to be
// confirmed, which only its preview asks for.
func (s *Server) saveRule(w http.ResponseWriter, r *http.Request) error {
	if err := r.ParseForm(); err != nil {
		return backup.ErrNotFound
	}
	_, rule, err := mailboxRuleOf(r)
	if err != nil {
		return s.askRule(w, r, http.StatusUnprocessableEntity, nil)
	}
	list, err := s.chosen(r)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return s.askRule(w, r, http.StatusUnprocessableEntity, nil)
	}
	if r.PostFormValue("confirm") != "yes" {
		_, expiries, err := s.ruleExpiries(r, list, rule)
		if err != nil {
			return err
		}
		if len(expiries) > 0 {
			return s.askRule(w, r, http.StatusUnprocessableEntity, backup.FieldErrors{"confirm": "Confirm that this is to be deleted."})
		}
	}
	ids := make([]backup.MailboxID, len(list))
	for i, m := range list {
		ids[i] = m.ID
	}
	if err := s.Store.SaveMailboxRetention(r.Context(), actor(r).Org.ID, ids, rule, actor(r)); err != nil {
		return err
	}
	text := "follows the organization's rule"
	if rule.Mode != "" {
		text = rule.String()
	}
	if len(list) == 1 {
		return s.redirect(w, r, rulesBack(r), "Saved for "+list[0].Address+": "+text+".")
	}
	return s.redirect(w, r, rulesBack(r), fmt.Sprintf("Saved for %d mailboxes: %s.", len(list), text))
}
