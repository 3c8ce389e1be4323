package store

import (
	"encoding/json"
	"time"

	"holdfast/backup"
)

// problemJSON is a Problem as it stands in a column. The cause is for the log
// and is not kept.
type problemJSON struct {
	Kind         backup.ProblemKind `json:"kind"`
	Text         string             `json:"text"`
	Code         string             `json:"code,omitempty"`
	Status       int                `json:"status,omitempty"`
	RequestID    string             `json:"request_id,omitempty"`
	Temporary    bool               `json:"temporary,omitempty"`
	RetryAfterMS int64              `json:"retry_after_ms,omitempty"`
	At           int64              `json:"at,omitempty"`
	Details      []string           `json:"details,omitempty"`
}

// problemText encodes p; no problem is "".
func problemText(p backup.Problem) string {
	if p.IsZero() {
		return ""
	}
	data, err := json.Marshal(problemJSON{Kind: p.Kind, Text: p.Text, Code: p.Code, Status: p.Status, RequestID: p.RequestID,
		Temporary: p.Temporary, RetryAfterMS: p.RetryAfter.Milliseconds(), At: millis(p.At), Details: p.Details})
	if err != nil {
		return "" // strings and numbers always encode
	}
	return string(data)
}

// problemOf reverses problemText.
func problemOf(text string) backup.Problem {
	var p problemJSON
	if text == "" || json.Unmarshal([]byte(text), &p) != nil {
		return backup.Problem{}
	}
	return backup.Problem{Kind: p.Kind, Text: p.Text, Code: p.Code, Status: p.Status, RequestID: p.RequestID,
		Temporary: p.Temporary, RetryAfter: time.Duration(p.RetryAfterMS) * time.Millisecond, At: moment(p.At), Details: p.Details}
}

// workloadsText encodes a list of workloads.
func workloadsText(list []backup.Workload) string {
	data, err := json.Marshal(list)
	if err != nil {
		return "[]" // strings always encode
	}
	return string(data)
}

// workloadsOf reverses workloadsText.
func workloadsOf(text string) []backup.Workload {
	var list []backup.Workload
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil
	}
	return list
}
