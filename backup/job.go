package backup

// Jobs as they stand in the queue. They carry identifiers only. Kind makes
// each a river.JobArgs without importing it.

// CreateApplicationsJob makes the sub-applications of an authorization.
type CreateApplicationsJob struct {
	OrgID           OrgID           `json:"org_id" river:"unique"`
	AuthorizationID AuthorizationID `json:"authorization_id" river:"unique"`
}

// Kind names the job.
func (CreateApplicationsJob) Kind() string { return "create_applications" }

// VerifyRoleJob makes or checks the custom role, and lists the accounts when
// an authorization waits for that.
type VerifyRoleJob struct {
	OrgID        OrgID        `json:"org_id" river:"unique"`
	CustomRoleID CustomRoleID `json:"custom_role_id" river:"unique"`
}

// Kind names the job.
func (VerifyRoleJob) Kind() string { return "verify_role" }

// ListAccountsJob reads the accounts of a connection and their licences.
type ListAccountsJob struct {
	OrgID        OrgID        `json:"org_id" river:"unique"`
	ConnectionID ConnectionID `json:"connection_id" river:"unique"`
}

// Kind names the job.
func (ListAccountsJob) Kind() string { return "list_accounts" }

// UndoJob removes from the tenant what an abandoned authorization made.
type UndoJob struct {
	OrgID           OrgID           `json:"org_id" river:"unique"`
	AuthorizationID AuthorizationID `json:"authorization_id" river:"unique"`
}

// Kind names the job.
func (UndoJob) Kind() string { return "undo_authorization" }

// BackupJob backs up one mailbox.
type BackupJob struct {
	OrgID     OrgID     `json:"org_id" river:"unique"`
	MailboxID MailboxID `json:"mailbox_id" river:"unique"`
}

// Kind names the job.
func (BackupJob) Kind() string { return "backup_mailbox" }

// ScheduleJob looks for what is due; it runs every minute.
type ScheduleJob struct{}

// Kind names the job.
func (ScheduleJob) Kind() string { return "schedule" }
