package backup

// Protection says which new accounts of an organization are backed up without
// anybody choosing them.
type Protection string

// The rules.
const (
	ProtectChosen Protection = ""      // none: people choose
	ProtectUsers  Protection = "users" // users with a mailbox
	ProtectAll    Protection = "all"   // shared mailboxes, rooms and equipment as well
)

// Validate returns FieldErrors naming protection if p is none of the rules, or nil.
func (p Protection) Validate() error {
	switch p {
	case ProtectChosen, ProtectUsers, ProtectAll:
		return nil
	}
	return FieldErrors{"protection": "Choose one of the answers."}
}

// String is the rule in words, for the activity.
func (p Protection) String() string {
	switch p {
	case ProtectUsers:
		return "users"
	case ProtectAll:
		return "users and shared mailboxes"
	}
	return "none"
}

// Covers says whether the rule backs a new account up as the provider describes it
// now. Whoever has no mailbox yet is covered when it is there.
func (p Protection) Covers(m Mailbox) bool {
	switch m.Kind {
	case KindUser:
		return p != ProtectChosen && m.Enabled && (m.Licence == LicenceValid || m.Licence == LicenceGrace)
	case KindShared, KindRoom, KindEquipment:
		return p == ProtectAll
	}
	return false
}
