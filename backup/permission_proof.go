package backup

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// PermissionProof states, for an auditor, what Holdfast asked for in a tenant,
// what it was granted and what beyond. It is made of stored values only, so the
// same check always gives the same text, and the same hash.
type PermissionProof struct {
	Organization string             `json:"organization"`
	TenantName   string             `json:"tenant_name"`
	TenantDomain string             `json:"tenant_domain"`
	TenantID     string             `json:"tenant_id"`
	Method       Method             `json:"method"`
	ReadAt       time.Time          `json:"read_at"`
	How          string             `json:"how_it_was_read"`
	Main         ProofMain          `json:"main_application"`
	Applications []ProofApplication `json:"applications"`
	Beyond       []string           `json:"granted_beyond_what_was_asked"`
}

// ProofMain is the main application in a proof.
type ProofMain struct {
	ClientID    string           `json:"client_id"`
	Known       string           `json:"how_it_is_known"`
	SignIns     []DelegatedCheck `json:"administrators_signed_in"`
	Permissions []ProofLine      `json:"permissions"`
}

// ProofApplication is a sub-application in a proof.
type ProofApplication struct {
	ApplicationCheck
	Permissions []ProofLine `json:"permissions"`
}

// ProofLine is one permission in a proof.
type ProofLine struct {
	Name     string          `json:"permission"`
	Type     PermissionType  `json:"type"`
	API      string          `json:"api"`
	ID       string          `json:"id,omitempty"`
	Purpose  string          `json:"purpose"`
	Breaks   string          `json:"without_it,omitempty"`
	Standing bool            `json:"held_all_the_time"`
	State    PermissionState `json:"state"`
}

// How what is on the permissions page is known.
const (
	HowPermissionsAreRead = "Each application signed in to Microsoft Entra with its own certificate and asked for one access token each for Microsoft Graph, Exchange Online and SharePoint Online; " +
		"the token's roles are what the tenant grants at that moment; the main application did the same with its own credential. The Exchange application also asked Exchange Online (EXOModuleFile) for the cmdlets that it may run. " +
		"No permission was needed or used for this, and no administrator."
	HowDelegatedIsKnown = "Delegated permissions work only while an administrator is signed in. Nothing that Holdfast keeps can read them afterwards, so they are shown as they were at the last sign-in."
)

// APIName names one of Microsoft's APIs.
func APIName(resourceID string) string {
	switch resourceID {
	case ResourceGraph:
		return "Microsoft Graph"
	case ResourceExchange:
		return "Exchange Online"
	case ResourceSharePoint:
		return "SharePoint Online"
	}
	return resourceID
}

// DelegatedLines compares what is asked of administrators with what they
// granted when they last signed in: asked first, then beyond.
func (c PermissionCheck) DelegatedLines(method Method) []PermissionLine {
	granted := map[string]bool{}
	for _, d := range c.Delegated {
		for _, s := range d.Scopes {
			granted[s] = true
		}
	}
	var lines []PermissionLine
	for _, p := range PermissionsOf(method, nil) {
		if p.Type != Delegated {
			continue
		}
		state := PermissionUnknown
		if granted[p.Name] {
			state = PermissionGranted
		}
		delete(granted, p.Name)
		lines = append(lines, PermissionLine{p, state})
	}
	var beyond []string
	for name := range granted {
		beyond = append(beyond, name)
	}
	slices.Sort(beyond)
	for _, name := range beyond {
		lines = append(lines, PermissionLine{Permission{Name: name, Type: Delegated, ResourceID: ResourceGraph, Purpose: "Holdfast did not ask for this and does not use it."}, PermissionBeyond})
	}
	return lines
}

// NewPermissionProof makes the proof of a check; clientID is the main application's.
func NewPermissionProof(org Organization, conn Connection, clientID string, c PermissionCheck) PermissionProof {
	p := PermissionProof{
		Organization: org.Name, TenantName: conn.TenantName, TenantDomain: conn.TenantDomain, TenantID: conn.TenantID, Method: conn.Method,
		ReadAt: c.CheckedAt.UTC(), How: HowPermissionsAreRead, Beyond: c.Drift(),
		Main: ProofMain{ClientID: clientID, Known: HowDelegatedIsKnown, SignIns: c.Delegated, Permissions: proofLines(c.MainLines(conn.Method))},
	}
	for _, a := range c.SubApplications() {
		p.Applications = append(p.Applications, ProofApplication{a, append(proofLines(a.Lines()), proofLines(a.CmdletLines())...)})
	}
	if p.Beyond == nil {
		p.Beyond = []string{}
	}
	return p
}

func proofLines(lines []PermissionLine) []ProofLine {
	list := make([]ProofLine, len(lines))
	for i, l := range lines {
		list[i] = ProofLine{l.Name, l.Type, APIName(l.ResourceID), l.ID, l.Purpose, l.Breaks, l.Standing, l.State}
	}
	return list
}

// JSON returns the proof as it is downloaded, and the SHA-256 of exactly these
// bytes in hexadecimal.
func (p PermissionProof) JSON() (text []byte, hash string, err error) {
	text, err = json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, "", fmt.Errorf("encode the proof: %w", err)
	}
	sum := sha256.Sum256(text)
	return text, hex.EncodeToString(sum[:]), nil
}
