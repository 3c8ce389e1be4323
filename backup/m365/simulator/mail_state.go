package simulator

// mailbox is the mail of one user.
type mailbox struct{}

// WorldMailbox says what a person's mailbox is seeded with.
type WorldMailbox struct {
	Messages int `json:"messages"` // taken from Options.Mail
}

// mailOf is a mailbox of the default world with n messages.
func mailOf(n int) *WorldMailbox { return &WorldMailbox{Messages: n} }

// mailRoutes registers the mail endpoints of Graph, reports, mailbox settings
// and the mail control paths.
func (s *Simulator) mailRoutes() {}

// seedMailbox makes the mailbox of a new user from the world file. now is the
// simulated time.
func (s *Simulator) seedMailbox(t *tenant, u *user, w *WorldMailbox) error { return nil }

// resumeMailbox completes a mailbox that was read from the saved state.
func (s *Simulator) resumeMailbox(t *tenant, u *user) error { return nil }
