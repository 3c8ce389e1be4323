package views

import (
	"strconv"

	"holdfast/backup"
)

// prerequisites are those of the authorization under way, or as far as they are
// known before there is one.
func (v AddBackup) prerequisites() []backup.Prerequisite {
	if v.UnderWay != nil && v.UnderWay.Purpose == backup.PurposeConnect {
		return backup.Prerequisites(*v.UnderWay)
	}
	return backup.Prerequisites(backup.Authorization{})
}

// prerequisiteClass is the class of a line.
func prerequisiteClass(s backup.PrerequisiteState) string {
	switch s {
	case backup.PrerequisiteMet:
		return "ok"
	case backup.PrerequisiteNotMet, backup.PrerequisiteOther:
		return "wrong"
	}
	return "later"
}

// prerequisiteTitle says first whether it is met: the mark before a line is not
// read aloud.
func prerequisiteTitle(p backup.Prerequisite) string {
	switch p.State {
	case backup.PrerequisiteNotMet:
		return "Not met: " + p.Title
	case backup.PrerequisiteOther:
		return "Not met, but there is another way: " + p.Title
	}
	return p.Title
}

// hasPrerequisites says whether the wizard shows what has to be true: it makes
// applications with least privilege.
func (v Setup) hasPrerequisites() bool {
	a := v.Authorization
	return a.Method == backup.MethodServicePrincipal && (a.Purpose == backup.PurposeConnect || a.Purpose == backup.PurposeMigrate)
}

// prerequisitesLine counts those that are met.
func (v Setup) prerequisitesLine() string {
	met, wrong := 0, 0
	list := backup.Prerequisites(v.Authorization)
	for _, p := range list {
		switch p.State {
		case backup.PrerequisiteMet:
			met++
		case backup.PrerequisiteNotMet, backup.PrerequisiteOther:
			wrong++
		}
	}
	text := "Prerequisites: " + strconv.Itoa(met) + " of " + strconv.Itoa(len(list)) + " met"
	if wrong > 0 {
		text += ", " + strconv.Itoa(wrong) + " not met"
	}
	return text
}

// prerequisiteMissing says whether one is known not to be met.
func (v Setup) prerequisiteMissing() bool {
	for _, p := range backup.Prerequisites(v.Authorization) {
		if prerequisiteClass(p.State) == "wrong" {
			return true
		}
	}
	return false
}
