package jobs

import (
	"context"
	"time"
)

// PortalCopyForTest copies the portal's database as the daily job does.
func (r *Runner) PortalCopyForTest(ctx context.Context) error { return r.copyPortal(ctx, time.Now()) }
