package simulator

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"strings"
)

// cmdletError is a cmdlet that ran and failed (auth.md 4.3).
type cmdletError struct {
	status int
	code   string // of error.code
	kind   string // .NET type
	text   string
	object bool // told as an object in a string, unless the tenant has another setting
}

func failed(kind, format string, args ...any) *cmdletError {
	return &cmdletError{status: http.StatusBadRequest, code: "BadRequest", kind: kind, text: fmt.Sprintf(format, args...)}
}

// bindingError is PowerShell's refusal of parameters.
func bindingError(_, format string, args ...any) *cmdletError {
	return failed("System.Management.Automation.ParameterBindingException", format, args...)
}

// missingObject is the error of an Identity that this server does not know.
func missingObject(identity string) *cmdletError {
	e := failed("Microsoft.Exchange.Configuration.Tasks.ManagementObjectNotFoundException", "The operation couldn't be performed because object '%s' couldn't be found on 'SIM01A001DC001.SIM01A001.PROD.OUTLOOK.COM'.", identity)
	e.status, e.code = http.StatusNotFound, "NotFound"
	return e
}

// existing is the error of a name that is taken. assumed: exists-text
func existing(what string) *cmdletError {
	e := failed("Microsoft.Exchange.Data.Directory.ADObjectAlreadyExistsException", "The object '%s' already exists.", what)
	e.object = true
	return e
}

// tooLong is the error of a name over Exchange's limit. assumed: too-long-text
func tooLong(parameter string, limit int) *cmdletError {
	return failed("Microsoft.Exchange.Data.DataValidationException", "The length of the property is too long. The maximum length is %d and the length of the value provided is longer. Property: %s", limit, parameter)
}

// refuseDehydrated is the error of a create in an organization that is not
// customised, or not to the end.
func refuseDehydrated() *cmdletError {
	return failed("Microsoft.Exchange.Configuration.Tasks.InvalidOperationInDehydratedContextException",
		"The command you tried to run isn't currently allowed in your organization. To run this command, you first need to run the command: Enable-OrganizationCustomization.")
}

// exchangeError answers as the admin interface does when a cmdlet failed.
func (w *answer) exchangeError(e *cmdletError, shape string) {
	message := "|" + e.kind + "|" + e.text
	if e.status == http.StatusNotFound {
		h := fnv.New32a()
		h.Write([]byte(e.kind)) //nolint:errcheck,gosec // never fails
		message = fmt.Sprintf("Ex%06X", h.Sum32()&0xffffff) + message
	}
	if shape == "object" || shape == "" && e.object {
		data, err := json.Marshal(struct {
			Message, TypeName      string
			StackTrace, InnerError any
		}{Message: e.text, TypeName: e.kind})
		if err != nil {
			panic("simulator: cmdlet error: " + err.Error()) // strings only
		}
		message = string(data)
	}
	w.header.Set("Content-Type", "application/json; charset=utf-8")
	w.json(e.status, object{"error": object{
		"code": e.code, "message": "Error executing cmdlet",
		"details": []object{{"code": "Context", "target": "", "message": message}},
		"innererror": object{"message": "Error executing cmdlet", "type": "Microsoft.Exchange.Admin.OData.Core.ODataServiceException", "stacktrace": "   at Microsoft.Exchange.Admin.OData.Core.Core.Simulated()",
			"internalexception": object{"message": "Exception of type 'Microsoft.Exchange.Management.PSDirectInvoke.DirectInvokeCmdletExecutionException' was thrown.", "type": "Microsoft.Exchange.Management.PSDirectInvoke.DirectInvokeCmdletExecutionException", "stacktrace": ""}},
		"adminapi.warnings@odata.type": "#Collection(String)", "@adminapi.warnings": []string{},
	}})
}

// exchangeForbidden is the 403 whose body says nothing: NUL bytes that are
// declared to be gzip and are not (clients.md). reason goes into a header.
func (w *answer) exchangeForbidden(reason string) {
	w.header.Set("Content-Type", "application/json")
	w.header.Set("Content-Encoding", "gzip")
	if reason != "" {
		w.header.Set("x-ms-diagnostics", `2000003;reason="`+strings.ReplaceAll(reason, `"`, "'")+`";error_category="invalid_grant"`)
	}
	w.WriteHeader(http.StatusForbidden)
	w.Write(make([]byte, 64)) //nolint:errcheck,gosec // an answer is kept in memory
}
