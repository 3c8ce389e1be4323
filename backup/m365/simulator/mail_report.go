package simulator

import (
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// reportRoutes registers usage reports: Graph answers with a redirect to a
// pre-authenticated CSV file that can be had for some minutes.
func (s *Simulator) reportRoutes() {
	// A function call with its period is one segment to the router.
	for _, period := range []string{"D7", "D30", "D90", "D180"} {
		s.graph("GET", "/reports/getMailboxUsageDetail(period)/"+period, s.usageReport, needs("Reports.Read.All", "Reports.Read.All"))
	}
	s.open(HostReports, "GET", "/data/download/{token}", s.usageFile)
}

// reportLink is what a download token stands for.
type reportLink struct {
	Tenant string
	Period string
	Ends   int64
}

func (s *Simulator) usageReport(w *answer, r *http.Request, c *caller) {
	segments := r.Context().Value(incomingKey{}).(*incoming).segments
	token := encodeCursor(reportLink{c.Tenant.ID, segments[len(segments)-1], s.now().Add(5 * time.Minute).Unix()})
	w.header.Set("Location", baseURL(r, HostReports)+"/data/download/"+token)
	w.WriteHeader(http.StatusFound)
}

func (s *Simulator) usageFile(w *answer, r *http.Request, _ *caller) {
	var link reportLink
	if err := decodeCursor(r.PathValue("token"), &link); err != nil || s.now().Unix() > link.Ends || s.tenantOf(link.Tenant) == nil {
		http.Error(w, "The link has expired.", http.StatusForbidden)
		return
	}
	t := s.tenantOf(link.Tenant)
	w.header.Set("Content-Type", "application/octet-stream")
	out := csv.NewWriter(w)
	rows := [][]string{{"Report Refresh Date", "User Principal Name", "Display Name", "Is Deleted", "Deleted Date", "Created Date", "Last Activity Date", "Item Count", "Storage Used (Byte)", "Issue Warning Quota (Byte)", "Prohibit Send Quota (Byte)", "Prohibit Send/Receive Quota (Byte)", "Deleted Item Count", "Deleted Item Size (Byte)", "Has Archive", "Report Period"}}
	date := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return at.Format(time.DateOnly)
	}
	for _, u := range t.Users {
		if u.Mailbox == nil || u.Purged {
			continue
		}
		upn, name := u.UPN, u.Name
		if t.Settings.ConcealNames {
			upn, name = concealed(upn), concealed(name)
		}
		items, size := 0, int64(0)
		for _, m := range u.Mailbox.Messages {
			items++
			size += m.Body.Size
		}
		rows = append(rows, []string{date(s.now().AddDate(0, 0, -2)), upn, name, strings.ToUpper(strconv.FormatBool(!u.DeletedAt.IsZero())[:1]) + strconv.FormatBool(!u.DeletedAt.IsZero())[1:],
			date(u.DeletedAt), date(u.Created), date(s.now().AddDate(0, 0, -3)), strconv.Itoa(items), strconv.FormatInt(size, 10), "105226698752", "106300440576", "107374182400", "0", "0", "False", strings.TrimPrefix(link.Period, "D")})
	}
	if err := out.WriteAll(slices.Clip(rows)); err != nil {
		s.log.Error("report was not written", "error", err)
	}
}

// concealed is a name as a tenant's privacy setting hides it.
func concealed(name string) string {
	sum := sha256.Sum256([]byte(name))
	return strings.ToUpper(hex.EncodeToString(sum[:16]))
}
