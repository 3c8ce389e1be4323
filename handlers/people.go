package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/a-h/templ"

	"holdfast/backup"
	"holdfast/backup/jobs"
	"holdfast/store"
	"holdfast/views"
)

// crew is whose people a page is about: an organization's, seen by itself or by
// its partner, or the partner's own.
type crew struct {
	path   string // of the page
	place  backup.Membership
	roles  []backup.Role
	manage bool
	title  string
	page   func(views.Frame, views.People) templ.Component
}

// crew reads from the address whose people are meant.
func (s *Server) crew(r *http.Request) (crew, error) {
	a := actor(r)
	organization := []backup.Role{backup.RoleAdmin, backup.RoleViewer}
	switch {
	case strings.HasPrefix(r.URL.Path, "/settings/"):
		return crew{path: "/settings/users", place: backup.Membership{OrgID: a.Org.ID}, roles: organization, manage: a.OrgRole() == backup.RoleAdmin,
			title: "Account Settings", page: views.UsersPage}, nil
	case strings.HasPrefix(r.URL.Path, "/partner/staff"):
		return crew{path: "/partner/staff", place: backup.Membership{PartnerID: a.Partner.ID}, roles: []backup.Role{backup.RoleSupport, backup.RoleOwner},
			manage: a.Role == backup.RoleOwner, title: "Staff", page: views.StaffPage}, nil
	}
	org, err := s.organization(r)
	return crew{path: "/partner/organizations/" + url.PathEscape(string(org.ID)) + "/users", place: backup.Membership{OrgID: org.ID}, roles: organization,
		manage: a.Role == backup.RoleOwner, title: org.Name, page: views.OrganizationUsersPage}, err
}

// showPeople lists the people of a crew.
func (s *Server) showPeople(w http.ResponseWriter, r *http.Request) error {
	c, err := s.crew(r)
	if err != nil {
		return err
	}
	v, err := s.peopleView(r, c)
	if err != nil {
		return err
	}
	if id, link, ok := strings.Cut(s.take(w, r, secretKey), " "); ok {
		for _, p := range v.Members {
			if string(p.ID) == id {
				v.Link, v.LinkFor = link, p.Name
			}
		}
	}
	return s.render(w, r, http.StatusOK, c.page(s.frame(w, r, c.title), v))
}

func (s *Server) peopleView(r *http.Request, c crew) (views.People, error) {
	v := views.People{Path: c.path, Organization: c.place.OrgID, Roles: c.roles, MayManage: c.manage, Now: time.Now()}
	members, err := s.members(r.Context(), c)
	for _, m := range members {
		v.Members = append(v.Members, views.Member{Person: m.Person, Role: m.Role, SignedInAt: m.SignedInAt, Invited: m.Invited()})
	}
	return v, err
}

func (s *Server) members(ctx context.Context, c crew) (list []store.Member, err error) {
	if c.place.OrgID == "" {
		list, err = s.Store.Staff(ctx, c.place.PartnerID)
	} else {
		list, err = s.Store.Members(ctx, c.place.OrgID)
	}
	if err != nil {
		return nil, fmt.Errorf("read people: %w", err)
	}
	return list, nil
}

// invite adds a person, who gets a one-time link to choose a password. Whether
// somebody signs in with the address, the answer to an organization and the work
// for it are the same: the address is looked at when the letter is written.
func (s *Server) invite(w http.ResponseWriter, r *http.Request) error {
	c, err := s.crew(r)
	if err != nil {
		return err
	}
	v, err := s.peopleView(r, c)
	if err != nil {
		return err
	}
	v.New = views.NewPerson{Name: r.PostFormValue("name"), Email: strings.TrimSpace(r.PostFormValue("email")), Role: backup.Role(r.PostFormValue("role")), Fields: backup.FieldErrors{}}
	person := backup.Person{ID: backup.NewID[backup.PersonID](), Name: v.New.Name, Email: v.New.Email}
	merge(v.New.Fields, person.Validate())
	if !slices.Contains(c.roles, v.New.Role) {
		v.New.Fields["role"] = "Choose what this person may do."
	}
	if len(v.New.Fields) == 0 {
		m := c.place
		m.Role = v.New.Role
		err = s.Store.InvitePerson(r.Context(), person, m, actor(r))
		if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
			v.New.Fields, err = fields, nil
		}
	}
	if err != nil {
		return err
	}
	if len(v.New.Fields) > 0 {
		return s.render(w, r, http.StatusUnprocessableEntity, c.page(s.frame(w, r, c.title), v))
	}
	return s.sendInvitation(w, r, newLink{person: person, org: c.place.OrgID, path: c.path, flash: v.New.Name + " was invited."})
}

// one reads the person that the address names, of a crew that the visitor may
// change.
func (s *Server) one(r *http.Request) (crew, views.OnePerson, error) {
	c, err := s.crew(r)
	if err != nil {
		return c, views.OnePerson{}, err
	}
	if !c.manage {
		return c, views.OnePerson{}, backup.ErrForbidden
	}
	c.place.PersonID = backup.PersonID(r.PathValue("person"))
	m, err := s.Store.Member(r.Context(), c.place)
	v := views.OnePerson{Path: c.path, Organization: c.place.OrgID, Member: views.Member{Person: m.Person, Role: m.Role, SignedInAt: m.SignedInAt, Invited: m.Invited()}, Roles: c.roles,
		Self: m.ID == actor(r).Person.ID, Fields: backup.FieldErrors{}, Now: time.Now()}
	return c, v, err
}

// showPerson shows what can be changed about a person.
func (s *Server) showPerson(w http.ResponseWriter, r *http.Request) error {
	_, v, err := s.one(r)
	if err != nil {
		return err
	}
	return s.personPage(w, r, http.StatusOK, v)
}

func (s *Server) personPage(w http.ResponseWriter, r *http.Request, status int, v views.OnePerson) error {
	return s.render(w, r, status, views.PersonPage(s.frame(w, r, v.Member.Name), v))
}

// changePerson does one change and leads back to all people; what is wrong with
// the form is shown on the person's page.
func (s *Server) changePerson(w http.ResponseWriter, r *http.Request, v views.OnePerson, err error, flash string) error {
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		v.Fields = fields
		return s.personPage(w, r, http.StatusUnprocessableEntity, v)
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, v.Path, flash)
}

// saveRole gives a person another role.
func (s *Server) saveRole(w http.ResponseWriter, r *http.Request) error {
	c, v, err := s.one(r)
	if err != nil {
		return err
	}
	m := c.place
	m.Role = backup.Role(r.PostFormValue("role"))
	if !slices.Contains(c.roles, m.Role) {
		m.Role = ""
	}
	err = s.Store.SetRole(r.Context(), m, actor(r))
	return s.changePerson(w, r, v, err, v.Member.Name+" has the role now.")
}

// resetFactors removes the second factors of somebody who has lost them.
func (s *Server) resetFactors(w http.ResponseWriter, r *http.Request) error {
	c, v, err := s.one(r)
	if err != nil {
		return err
	}
	v.Reason = r.PostFormValue("reason")
	err = s.Store.ResetFactors(r.Context(), c.place, v.Reason, actor(r))
	return s.changePerson(w, r, v, err, "The second factors of "+v.Member.Name+" are removed.")
}

// removePerson takes a person away.
func (s *Server) removePerson(w http.ResponseWriter, r *http.Request) error {
	c, v, err := s.one(r)
	if err != nil {
		return err
	}
	if r.PostFormValue("confirm") != "yes" {
		return s.changePerson(w, r, v, backup.FieldErrors{"confirm": "Tick the box to remove " + v.Member.Name + "."}, "")
	}
	err = s.Store.RemoveMember(r.Context(), c.place, actor(r))
	return s.changePerson(w, r, v, err, v.Member.Name+" was removed.")
}

// newPasswordLink makes a new one-time link for a person.
func (s *Server) newPasswordLink(w http.ResponseWriter, r *http.Request) error {
	c, v, err := s.one(r)
	if err != nil {
		return err
	}
	l := newLink{person: v.Member.Person, org: c.place.OrgID, path: c.path}
	if v.Member.Invited {
		return s.sendInvitation(w, r, l)
	}
	return s.giveLink(w, r, l)
}

// newLink is a one-time link for a person to choose a password.
type newLink struct {
	person backup.Person
	org    backup.OrgID // whose log has it, "" for the partner's
	path   string       // the page that goes on
	flash  string       // what was done before, "" if nothing
}

// noteLink records that a link is made.
func (s *Server) noteLink(r *http.Request, l newLink, how string) error {
	if err := s.Store.RecordBy(r.Context(), actor(r), l.org, "person.link", l.person.Name+" <"+l.person.Email+">", how); err != nil {
		return fmt.Errorf("record the link: %w", err)
	}
	return nil
}

// sendInvitation has an invitation sent. Its link goes to the address alone:
// whoever saw it could try whether the address is somebody's already.
func (s *Server) sendInvitation(w http.ResponseWriter, r *http.Request, l newLink) error {
	_, err := s.Store.MailSettingsOf(r.Context(), l.person.ID)
	if errors.Is(err, backup.ErrNotFound) {
		return s.handOver(w, r, l)
	}
	if err != nil {
		return fmt.Errorf("read mail settings: %w", err)
	}
	if err := s.noteLink(r, l, "sent to the address"); err != nil {
		return err
	}
	if err := s.Store.Enqueue(r.Context(), backup.LetterJob{Letter: backup.LetterInvitation, PersonID: l.person.ID}); err != nil {
		return err
	}
	return s.redirect(w, r, l.path, strings.TrimSpace(l.flash+" An invitation is on its way to "+l.person.Email+". Its link works once, for 7 days."))
}

// handOver shows the link of an invitation where no e-mail can be sent, to the
// partner's people: they see everybody's address anyway, and are told where it
// is in use. An organization is sent to them, whatever the address is.
func (s *Server) handOver(w http.ResponseWriter, r *http.Request, l newLink) error {
	a, name := actor(r), l.person.Name
	if !a.IsPartner() {
		return s.redirect(w, r, l.path, strings.TrimSpace(l.flash+" No e-mail goes out from here, so ask "+a.Partner.Name+" for the set-up link of "+name+"."))
	}
	place, err := s.Store.PlaceOfAddress(r.Context(), a.Partner.ID, l.person.Email)
	if errors.Is(err, backup.ErrNotFound) {
		return s.giveLink(w, r, l)
	}
	if err != nil {
		return fmt.Errorf("read where the address is in use: %w", err)
	}
	why := fmt.Sprintf("There is no link for %s: %s signs in to %s already, and an address signs in to one place only. Remove one of the two, or invite another address.", name, l.person.Email, place)
	if err := s.keep(w, r, warnKey, why); err != nil {
		return err
	}
	return s.redirect(w, r, l.path, l.flash)
}

// giveLink makes a one-time link for a person's password and shows it once.
func (s *Server) giveLink(w http.ResponseWriter, r *http.Request, l newLink) error {
	if err := s.noteLink(r, l, ""); err != nil {
		return err
	}
	token, err := s.Store.NewSetUpLink(r.Context(), store.SetUpLink{Purpose: store.SetUpPassword, PersonID: l.person.ID, ExpiresAt: time.Now().Add(jobs.InvitationLife)})
	if err != nil {
		return err
	}
	if err := s.keep(w, r, secretKey, string(l.person.ID)+" "+s.PublicURL+"/set-up/"+token.Reveal()); err != nil {
		return err
	}
	return s.redirect(w, r, l.path, l.flash)
}

// showForgot shows the form on which somebody asks for a new password.
func (s *Server) showForgot(w http.ResponseWriter, r *http.Request) error {
	return s.forgotPage(w, r, http.StatusOK, views.Forgot{})
}

func (s *Server) forgotPage(w http.ResponseWriter, r *http.Request, status int, v views.Forgot) error {
	var err error
	if v.Available, err = s.Store.MailIsSetUp(r.Context()); err != nil {
		return fmt.Errorf("see whether e-mail can be sent: %w", err)
	}
	return s.render(w, r, status, views.ForgotPage(v))
}

// forgot has a link sent to the address. Whether somebody signs in with it, the
// answer and the work for it are the same: a job looks for the person.
func (s *Server) forgot(w http.ResponseWriter, r *http.Request) error {
	v := views.Forgot{Email: strings.TrimSpace(r.PostFormValue("email"))}
	if !backup.ValidEmail(v.Email) {
		v.Fields = backup.FieldErrors{"email": "Enter your e-mail address, like ada@example.org."}
		return s.forgotPage(w, r, http.StatusUnprocessableEntity, v)
	}
	try, err := s.count(r.Context(), []counter{{name: "reset:" + backup.FoldEmail(v.Email), most: 3, since: time.Hour},
		{name: "reset from:" + addressBlock(visitOf(r).address), most: 20, since: time.Hour}})
	if err != nil {
		return err
	}
	if try.wait > 0 {
		try.holdBack(w)
		v.Fields = backup.FieldErrors{"email": "A link was asked for several times. Wait an hour and try again, or look for the messages."}
		return s.forgotPage(w, r, http.StatusTooManyRequests, v)
	}
	if err := s.Store.Enqueue(r.Context(), backup.LetterJob{Letter: backup.LetterReset, Email: v.Email}); err != nil {
		return err
	}
	v.Asked = true
	return s.forgotPage(w, r, http.StatusOK, v)
}

// askSuspend asks why an organization is suspended.
func (s *Server) askSuspend(w http.ResponseWriter, r *http.Request) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	return s.render(w, r, http.StatusOK, views.SuspendPage(s.frame(w, r, "Suspend"), views.Suspend{Organization: org}))
}

// suspend stops an organization's backups and keeps its people out.
func (s *Server) suspend(w http.ResponseWriter, r *http.Request) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	v := views.Suspend{Organization: org, Reason: r.PostFormValue("reason")}
	err = s.Store.SetSuspended(r.Context(), org.PartnerID, org.ID, true, v.Reason, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		v.Fields = fields
		return s.render(w, r, http.StatusUnprocessableEntity, views.SuspendPage(s.frame(w, r, "Suspend"), v))
	}
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return err
	}
	return s.redirect(w, r, "/partner/organizations/"+url.PathEscape(string(org.ID)), org.Name+" is suspended. Its backups are kept.")
}

// resume lets an organization go on.
func (s *Server) resume(w http.ResponseWriter, r *http.Request) error {
	org, err := s.organization(r)
	if err != nil {
		return err
	}
	err = s.Store.SetSuspended(r.Context(), org.PartnerID, org.ID, false, "", actor(r))
	if err != nil && !errors.Is(err, backup.ErrNotFound) {
		return err
	}
	return s.redirect(w, r, "/partner/organizations/"+url.PathEscape(string(org.ID)), org.Name+" goes on. What is due is backed up now.")
}
