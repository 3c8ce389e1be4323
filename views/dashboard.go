package views

import (
	"net/url"
	"strconv"
	"strings"
	"time"

	"holdfast/backup"
	"holdfast/views/ui"
)

// Dashboard is how an organization's backups do.
type Dashboard struct {
	Query       DashboardQuery
	Counts      backup.StatusCounts
	Mailboxes   []backup.Mailbox
	Page        Pager
	Runs        map[backup.MailboxID]backup.Run // under way
	Holds       map[backup.MailboxID]backup.LegalHold
	LastRunAt   time.Time
	NextRunAt   time.Time
	Plan        backup.Schedule
	NewItems    int64 // today
	NewBytes    int64 // today
	Days        []backup.DayFigure
	Proven      Proven
	Connections []Connection
	UnderWay    *backup.Authorization // nil if no wizard is
	MayChange   bool
	Now         time.Time
	NewAccounts int // that appeared lately and are not backed up
}

// DashboardQuery is what the table of mailboxes shows.
type DashboardQuery struct {
	Status backup.Status // "" for all
	Search string
	Sort   string // name, status, last, items or size
	Desc   bool
	Page   int // from 1
}

// Values is the query without its page.
func (q DashboardQuery) Values() url.Values {
	v := url.Values{}
	if q.Status != "" {
		v.Set("status", string(q.Status))
	}
	if q.Search != "" {
		v.Set("q", q.Search)
	}
	if q.Sort != "" && (q.Sort != "name" || q.Desc) {
		v.Set("sort", q.Sort)
	}
	if q.Desc {
		v.Set("desc", "1")
	}
	return v
}

// link is the address of the dashboard, or of its live part, with a query.
func (q DashboardQuery) link(path string) string {
	return Pager{Path: path, Query: q.Values()}.link(q.Page)
}

// status is the query for another status, from the first page.
func (q DashboardQuery) status(s backup.Status) DashboardQuery {
	q.Status, q.Page = s, 1
	return q
}

// sorted is the query in the order of a column; a second time turns it around.
func (q DashboardQuery) sorted(column string) DashboardQuery {
	// Numbers and times are of interest from the top.
	desc := column == "last" || column == "items" || column == "size"
	if q.Sort == column {
		desc = !q.Desc
	}
	q.Sort, q.Desc, q.Page = column, desc, 1
	return q
}

// order is the aria-sort of a column.
func (q DashboardQuery) order(column string) string {
	switch {
	case q.Sort != column:
		return "none"
	case q.Desc:
		return "descending"
	}
	return "ascending"
}

// live says whether something is under way or due, so that the page keeps asking.
func (v Dashboard) live() bool {
	return len(v.Runs) > 0 || due(v.Plan.Begins(v.NextRunAt, v.Now), v.Now)
}

// due says whether the next run should start any moment. A run that has been
// due for long waits for something else, such as workers.
func due(next, now time.Time) bool {
	return !next.IsZero() && next.Before(now.Add(5*time.Second)) && next.After(now.Add(-10*time.Minute))
}

// chart is the new data of each day.
func (v Dashboard) chart() []ui.Day {
	list := make([]ui.Day, len(v.Days))
	for i, d := range v.Days {
		list[i] = ui.Day{Name: d.Day.UTC().Format("Mon 2 Jan"), Value: d.ReadBytes, Texts: []string{thousands(d.NewItems), bytesText(d.ReadBytes)}}
	}
	return list
}

// chartText is the chart in words.
func (v Dashboard) chartText() string {
	var items, size int64
	for _, d := range v.Days {
		items += d.NewItems
		size += d.ReadBytes
	}
	return plural(items, "new message", "new messages") + ", " + bytesText(size)
}

// Deactivate is the question before the backups of a mailbox stop.
type Deactivate struct {
	Mailbox backup.Mailbox
	Back    string // where to go afterwards
}

// Status is what keeps backups from working, what runs, ran and will run.
type Status struct {
	Connections []Connection
	Left        []LeftBehind // what a person has to delete by hand
	Counts      backup.StatusCounts
	Causes      []Cause
	Upkeep      map[backup.UpkeepKind]backup.Upkeep
	Damages     []backup.Damage // the newest
	Damaged     int64           // all of them
	Running     []Run
	Latest      []Run
	Next        []backup.Mailbox
	NextRunAt   time.Time
	Plan        backup.Schedule
	MayChange   bool
	Now         time.Time
}

// Run is a run with the mailbox it is of.
type Run struct {
	backup.Run
	Name, Address string
}

// Cause is a reason why mailboxes are failing, with all that have it.
type Cause struct {
	Problem   backup.Problem
	Mailboxes []backup.Mailbox
	Since     time.Time // the earliest
	NextAt    time.Time // the soonest try, zero if none is planned
}

// GroupByCause groups failing mailboxes by the cause of their problem, in the
// order in which they come.
func GroupByCause(list []backup.Mailbox) []Cause {
	var causes []Cause
	at := map[string]int{}
	for _, m := range list {
		key := m.Problem.Cause()
		i, ok := at[key]
		if !ok {
			i = len(causes)
			at[key] = i
			causes = append(causes, Cause{Problem: m.Problem})
		}
		c := &causes[i]
		c.Mailboxes = append(c.Mailboxes, m)
		if c.Since.IsZero() || (!m.StatusSince.IsZero() && m.StatusSince.Before(c.Since)) {
			c.Since = m.StatusSince
		}
		if !m.NextRunAt.IsZero() && (c.NextAt.IsZero() || m.NextRunAt.Before(c.NextAt)) {
			c.NextAt = m.NextRunAt
		}
	}
	return causes
}

// codesText is what support may ask for.
func codesText(p backup.Problem) string {
	var parts []string
	if p.Code != "" {
		parts = append(parts, "Code "+p.Code)
	}
	if p.Status != 0 {
		parts = append(parts, "status "+strconv.Itoa(p.Status))
	}
	if p.RequestID != "" {
		parts = append(parts, "request "+p.RequestID)
	}
	return strings.Join(parts, " · ")
}

func (v Status) live() bool {
	return len(v.Running) > 0 || due(v.Plan.Begins(v.NextRunAt, v.Now), v.Now)
}

// planOf is the schedule that holds for a mailbox.
func (v Status) planOf(m backup.Mailbox) backup.Schedule { return planOf(m, v.Plan) }

// wellConnected says whether no connection, application or role has a problem.
func (v Status) wellConnected() bool {
	for _, c := range v.Connections {
		if c.roleWaits() || len(c.troubles(v.Now)) > 0 {
			return false
		}
	}
	return true
}

// namesShown is how many mailboxes of one cause are named.
const namesShown = 200

// trouble is what keeps a connection or one of its applications from working.
type trouble struct {
	title   string
	problem backup.Problem
}

// troubles are those of a connection and its applications, the same cause once.
func (c Connection) troubles(now time.Time) (list []trouble) {
	seen := map[string]bool{}
	add := func(title string, p backup.Problem) {
		if !p.IsZero() && !seen[p.Cause()] {
			seen[p.Cause()] = true
			list = append(list, trouble{title, p})
		}
	}
	add(providerName(c.Provider)+", "+c.TenantDomain, c.Problem)
	if !c.ReadyAt.IsZero() && !c.Legacy() {
		for _, a := range Broken(c.Applications, now) {
			add(a.DisplayName, a.Problem)
		}
		add("Holdfast’s main application", c.Check.MainTrouble())
	}
	return list
}

// causesBeside are the causes of failing mailboxes that no connection's trouble
// says already, and how many mailboxes each of the others concerns.
func (v Status) causesBeside() (rest []Cause, concerned map[string]int) {
	concerned = map[string]int{}
	said := map[string]bool{}
	for _, c := range v.Connections {
		for _, t := range c.troubles(v.Now) {
			said[t.problem.Cause()] = true
		}
	}
	for _, c := range v.Causes {
		if said[c.Problem.Cause()] {
			concerned[c.Problem.Cause()] += len(c.Mailboxes)
			continue
		}
		rest = append(rest, c)
	}
	return rest, concerned
}

// remedy is the page on which a problem is seen to, with its link's text.
func remedy(kind backup.ProblemKind) (path, text string) {
	switch kind {
	case backup.ProblemApplicationGone, backup.ProblemApplicationOff, backup.ProblemCredential, backup.ProblemConsentMissing, backup.ProblemPermission,
		backup.ProblemPolicy, backup.ProblemSignInExpired, backup.ProblemRoleChanged, backup.ProblemRolePending, backup.ProblemWrongTenant, backup.ProblemNoExchange,
		backup.ProblemPassword, backup.ProblemCertificate:
		return "/settings/credentials", "See Credentials"
	}
	return "/dashboard?status=failing", "See the failing mailboxes"
}

// choosePath is where mailboxes are chosen when none is: at a server that was
// just entered, or among all accounts.
func (v Dashboard) choosePath() string {
	for _, c := range v.Connections {
		if c.Provider == backup.ProviderIMAP && c.ReadyAt.IsZero() {
			return imapPath(c.Connection)
		}
	}
	return "/accounts"
}
