package jobs

import (
	"context"
	"time"

	"holdfast/backup"
)

// PortalCopyForTest copies the portal's database as the daily job does.
func (r *Runner) PortalCopyForTest(ctx context.Context) error { return r.copyPortal(ctx, time.Now()) }

// SettleDamagesForTest does what a run does after it ended well.
func (r *Runner) SettleDamagesForTest(ctx context.Context, org backup.OrgID, mailbox backup.MailboxID) {
	r.settleDamages(ctx, org, mailbox)
}
