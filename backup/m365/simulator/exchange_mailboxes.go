package simulator

import (
	"fmt"
	"maps"
	"strings"
)

// recipientType is RecipientTypeDetails of a mailbox.
func recipientType(u *user) string {
	switch u.Kind {
	case "shared":
		return "SharedMailbox"
	case "room":
		return "RoomMailbox"
	case "equipment":
		return "EquipmentMailbox"
	}
	return "UserMailbox"
}

// recipients are the people and resources of the tenant that Exchange knows,
// with a mailbox in use or in the recoverable state of 30 days.
func (call *cmdletCall) recipients(softDeleted bool) []*user {
	var list []*user
	for _, u := range call.t.Users {
		gone := !u.DeletedAt.IsZero() || !u.served()
		if u.Mailbox != nil && !u.Purged && gone == softDeleted {
			list = append(list, u)
		}
	}
	return list
}

// mailboxGUID is Exchange's own identifier of a mailbox.
func mailboxGUID(u *user) string { return stableGUID("mailbox", u.ID) }

func (call *cmdletCall) recipientObject(u *user) object {
	alias := strings.SplitN(u.UPN, "@", 2)[0]
	o := directoryObject(call.t, stableGUID("exchange", u.ID), alias, "OU=Users", u.Created)
	maps.Copy(o, object{
		"DisplayName": u.Name, "Alias": alias, "UserPrincipalName": u.UPN, "PrimarySmtpAddress": u.Mail, "WindowsEmailAddress": u.Mail, "EmailAddresses": []string{"SMTP:" + u.Mail}, "EmailAddresses@odata.type": "#Collection(String)",
		"RecipientType": "UserMailbox", "RecipientTypeDetails": recipientType(u), "ExternalDirectoryObjectId": u.ID, "ExchangeGuid": mailboxGUID(u), "ExchangeGuid@data.type": "System.Guid",
	})
	return o
}

func (call *cmdletCall) mailboxObject(u *user) object {
	o := call.recipientObject(u)
	maps.Copy(o, object{
		"AccountDisabled": !u.Enabled, "IsShared": u.Kind == "shared", "IsResource": u.Kind == "room" || u.Kind == "equipment", "IsMailboxEnabled": true, "IsSoftDeletedByRemove": !u.DeletedAt.IsZero(),
		"ArchiveStatus": "None", "ArchiveGuid": "00000000-0000-0000-0000-000000000000", "HiddenFromAddressListsEnabled": false, "LitigationHoldEnabled": false, "WhenMailboxCreated": exchangeTime(u.Created), "WhenMailboxCreated@data.type": "System.DateTime",
	})
	return o
}

// wantedRecipients reads Identity, RecipientTypeDetails and Filter.
func (call *cmdletCall) wantedRecipients(all []*user) ([]*user, *cmdletError) {
	id, kinds := call.p.text("Identity"), call.p.list("RecipientTypeDetails")
	match := func(*user) bool { return true }
	if filter := call.p.text("Filter"); filter != "" {
		var err error
		if match, err = parseRecipientFilter(filter); err != nil {
			return nil, failed("Microsoft.Exchange.Data.ParsingException", "Invalid filter syntax: %v", err)
		}
	}
	for _, other := range []string{"Anr", "SortBy", "OrganizationalUnit", "MailboxPlan", "GroupMailbox", "PublicFolder", "Migration", "InactiveMailboxOnly", "IncludeInactiveMailbox", "RecipientPreviewFilter"} {
		if call.p.given(other) {
			return nil, notSimulated(other)
		}
	}
	var list []*user
	for _, u := range all {
		if (id == "" || named(id, u.ID, u.UPN, u.Mail, u.Name, strings.SplitN(u.UPN, "@", 2)[0], mailboxGUID(u), stableGUID("exchange", u.ID))) && match(u) && (len(kinds) == 0 || named(recipientType(u), kinds...)) {
			list = append(list, u)
		}
	}
	if id != "" && len(list) == 0 {
		return nil, missingObject(id)
	}
	return list, nil
}

func (call *cmdletCall) recipientsAs(all []*user, as func(*user) object) ([]object, *cmdletError) {
	users, problem := call.wantedRecipients(all)
	if problem != nil {
		return nil, problem
	}
	var list []object
	for _, u := range users {
		list = append(list, as(u))
	}
	return call.limited(list)
}

func getMailbox(call *cmdletCall) ([]object, *cmdletError) {
	return call.recipientsAs(call.recipients(call.p.flag("SoftDeletedMailbox")), call.mailboxObject)
}

func getRecipient(call *cmdletCall) ([]object, *cmdletError) {
	return call.recipientsAs(call.recipients(call.p.flag("IncludeSoftDeletedRecipients")), call.recipientObject)
}

func getUser(call *cmdletCall) ([]object, *cmdletError) {
	var people []*user
	for _, u := range call.t.Users {
		if u.DeletedAt.IsZero() {
			people = append(people, u)
		}
	}
	return call.recipientsAs(people, func(u *user) object {
		o := call.recipientObject(u)
		if u.Mailbox == nil {
			o["RecipientType"], o["RecipientTypeDetails"] = "User", "User"
		}
		o["EXOModuleEnabled"], o["AccountDisabled"] = !u.NoPowerShell, !u.Enabled
		return o
	})
}

func getMailboxStatistics(call *cmdletCall) ([]object, *cmdletError) {
	users, problem := call.wantedRecipients(call.recipients(call.p.flag("IncludeSoftDeletedRecipients")))
	if problem != nil {
		return nil, problem
	}
	var list []object
	for _, u := range users {
		var size int64
		for _, m := range u.Mailbox.Messages {
			size += m.Body.Size
		}
		list = append(list, object{
			"DisplayName": u.Name, "MailboxGuid": mailboxGUID(u), "MailboxGuid@data.type": "System.Guid", "Identity": mailboxGUID(u), "ItemCount": len(u.Mailbox.Messages), "DeletedItemCount": 0,
			"TotalItemSize": fmt.Sprintf("%.2f KB (%d bytes)", float64(size)/1024, size), "TotalItemSize@data.type": "Microsoft.Exchange.Data.ByteQuantifiedSize", "MailboxType": "Private", "MailboxTypeDetail": recipientType(u), "IsValid": true,
		})
	}
	return list, nil
}
