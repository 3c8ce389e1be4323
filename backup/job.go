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

// CreateAdministratorJob makes the backup administrator of the legacy method
// and grants the main application its permissions in the tenant.
type CreateAdministratorJob struct {
	OrgID           OrgID           `json:"org_id" river:"unique"`
	AuthorizationID AuthorizationID `json:"authorization_id" river:"unique"`
}

// Kind names the job.
func (CreateAdministratorJob) Kind() string { return "create_administrator" }

// RemoveAdministratorJob removes the backup administrator from the tenant, and
// the permissions that the main application was granted beside it.
type RemoveAdministratorJob struct {
	OrgID           OrgID           `json:"org_id" river:"unique"`
	AuthorizationID AuthorizationID `json:"authorization_id" river:"unique"`
}

// Kind names the job.
func (RemoveAdministratorJob) Kind() string { return "remove_administrator" }

// RemoveApplicationsJob removes the applications of an authorization's
// workloads from the tenant.
type RemoveApplicationsJob struct {
	OrgID           OrgID           `json:"org_id" river:"unique"`
	AuthorizationID AuthorizationID `json:"authorization_id" river:"unique"`
}

// Kind names the job.
func (RemoveApplicationsJob) Kind() string { return "remove_applications" }

// Job is what the queue takes: a river.JobArgs.
type Job interface{ Kind() string }

// StepJob returns the job that does the step at which a stands; nil if a
// person does it, or if it is the custom role's, whose row names its job.
func (a Authorization) StepJob() Job {
	switch a.Step {
	case StepCreateAdministrator:
		return CreateAdministratorJob{OrgID: a.OrgID, AuthorizationID: a.ID}
	case StepRemoveAdministrator:
		return RemoveAdministratorJob{OrgID: a.OrgID, AuthorizationID: a.ID}
	case StepCreateApplications:
		return CreateApplicationsJob{OrgID: a.OrgID, AuthorizationID: a.ID}
	case StepRemoveApplications:
		return RemoveApplicationsJob{OrgID: a.OrgID, AuthorizationID: a.ID}
	}
	return nil
}

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

// NotifyJob sends a notification to everybody who is to have it.
type NotifyJob struct {
	OrgID          OrgID          `json:"org_id" river:"unique"`
	NotificationID NotificationID `json:"notification_id" river:"unique"`
}

// Kind names the job.
func (NotifyJob) Kind() string { return "notify" }

// LetterJob sends a person a link by e-mail, which it makes itself, so that no
// secret is in the queue.
type LetterJob struct {
	Letter   Letter   `json:"letter"`
	Email    string   `json:"email"`               // as somebody typed it: there may be nobody of that address
	PersonID PersonID `json:"person_id,omitempty"` // whom an invitation is for, who may not have the address yet
}

// Kind names the job.
func (LetterJob) Kind() string { return "letter" }

// Letter is what a LetterJob sends.
type Letter string

// The letters.
const (
	LetterInvitation Letter = "invitation"     // to choose a first or a new password, for 7 days
	LetterReset      Letter = "password_reset" // asked for on the sign-in page, for an hour
)

// ScheduleJob looks for what is due; it runs every minute.
type ScheduleJob struct{}

// Kind names the job.
func (ScheduleJob) Kind() string { return "schedule" }

// CheckPermissionsJob reads what the applications of a connection may do in
// the tenant, and whether they work.
type CheckPermissionsJob struct {
	OrgID        OrgID        `json:"org_id" river:"unique"`
	ConnectionID ConnectionID `json:"connection_id" river:"unique"`
}

// Kind names the job.
func (CheckPermissionsJob) Kind() string { return "check_permissions" }

// RollCertificateJob changes the certificate of a sub-application for a new one.
type RollCertificateJob struct {
	OrgID            OrgID            `json:"org_id" river:"unique"`
	ConnectionID     ConnectionID     `json:"connection_id" river:"unique"`
	SubApplicationID SubApplicationID `json:"sub_application_id" river:"unique"`
}

// Kind names the job.
func (RollCertificateJob) Kind() string { return "roll_certificate" }

// CollectJob deletes from the repository what no snapshot needs.
type CollectJob struct{}

// Kind names the job.
func (CollectJob) Kind() string { return "collect" }

// ReplicateJob copies what another place lacks of the repository.
type ReplicateJob struct{}

// Kind names the job.
func (ReplicateJob) Kind() string { return "replicate" }

// ExtendLocksJob prolongs the object locks of what is needed in the repository.
type ExtendLocksJob struct{}

// Kind names the job.
func (ExtendLocksJob) Kind() string { return "extend_locks" }

// RestoreJob works on one restore.
type RestoreJob struct {
	OrgID     OrgID     `json:"org_id" river:"unique"`
	RestoreID RestoreID `json:"restore_id" river:"unique"`
}

// Kind names the job.
func (RestoreJob) Kind() string { return "restore" }

// ReturnRestoreJob gives the restore permission of a connection back, once no
// restore needs it or its time is over.
type ReturnRestoreJob struct {
	OrgID        OrgID        `json:"org_id" river:"unique"`
	ConnectionID ConnectionID `json:"connection_id" river:"unique"`
}

// Kind names the job.
func (ReturnRestoreJob) Kind() string { return "return_restore_permission" }

// UpkeepJob does work of one kind on an organization's repository.
type UpkeepJob struct {
	OrgID OrgID      `json:"org_id" river:"unique"`
	Work  UpkeepKind `json:"kind" river:"unique"`
}

// Kind names the job.
func (UpkeepJob) Kind() string { return "upkeep" }

// ExportJob makes the file of an export.
type ExportJob struct {
	OrgID    OrgID    `json:"org_id" river:"unique"`
	ExportID ExportID `json:"export_id" river:"unique"`
}

// Kind names the job.
func (ExportJob) Kind() string { return "export" }

// EraseJob erases the data of a mailbox.
type EraseJob struct {
	OrgID     OrgID     `json:"org_id" river:"unique"`
	ErasureID ErasureID `json:"erasure_id" river:"unique"`
}

// Kind names the job.
func (EraseJob) Kind() string { return "erase" }

// TestIMAPJob signs in to the accounts of an IMAP connection that were not
// tested yet.
type TestIMAPJob struct {
	OrgID        OrgID        `json:"org_id" river:"unique"`
	ConnectionID ConnectionID `json:"connection_id" river:"unique"`
}

// Kind names the job.
func (TestIMAPJob) Kind() string { return "test_imap" }

// DeleteOrganizationJob goes on with the deletion of an organization.
type DeleteOrganizationJob struct {
	OrgID OrgID `json:"org_id" river:"unique"`
}

// Kind names the job.
func (DeleteOrganizationJob) Kind() string { return "delete_organization" }
