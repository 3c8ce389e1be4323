package export

import (
	"net/url"
	"strings"
)

// Disposition returns a Content-Disposition header that has a browser save the
// answer as name: plain ASCII for old ones and UTF-8 for all others
// (RFC 6266, appendix D).
func Disposition(name string) string {
	name = FileName(name, "download")
	ascii := strings.Map(func(r rune) rune {
		if r < 0x20 || r > 0x7e || strings.ContainsRune(`"\%;`, r) {
			return '_'
		}
		return r
	}, name)
	return `attachment; filename="` + ascii + `"; filename*=UTF-8''` + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
}
