package views

import (
	"strconv"
	"time"

	"holdfast/backup"
)

// Mail is how a partner's e-mail goes out.
type Mail struct {
	Settings    backup.MailSettings
	HasPassword bool
	Fields      backup.FieldErrors
	Tested      string // what the test did
	Wrong       string // or why it did not work
	Waiting     []backup.Notification
	Off         map[backup.NotificationKind]bool
	Now         time.Time
}

func (v Mail) port() string {
	if v.Settings.Port == 0 {
		return ""
	}
	return strconv.Itoa(v.Settings.Port)
}

// notificationName says what a kind of notification is about.
func notificationName(k backup.NotificationKind) string {
	switch k {
	case backup.NotifyRolePending:
		return "Custom role still pending after three days"
	case backup.NotifyBackupFailing:
		return "Backup failing for 24 hours"
	case backup.NotifyConnectionProblem:
		return "Credential or consent error"
	case backup.NotifyPermissionDrift:
		return "Permissions differ from what was asked for"
	case backup.NotifyMigrationDone:
		return "Migration done"
	case backup.NotifyCredentialsExpire:
		return "Credentials about to expire"
	case backup.NotifyActingAsked:
		return "Your provider asks to act for you"
	case backup.NotifyDamage:
		return "Backed-up data is damaged or could not be checked"
	case backup.NotifyWeeklySummary:
		return "Weekly summary"
	}
	return string(k)
}
