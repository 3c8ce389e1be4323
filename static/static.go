// Package static holds the files that browsers load: style, scripts and font.
// They are part of the binary; README.md has their versions and licences.
package static

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed *.css *.js *.woff2 *.svg
var files embed.FS

// version is a hash over all files: their addresses change when any of them
// does, so browsers may keep them for ever.
var version = hashAll()

// prefix of the addresses of all files.
const prefix = "/static/"

func hashAll() string {
	h := sha256.New()
	names, err := fs.Glob(files, "*")
	if err != nil {
		panic("list the embedded files: " + err.Error()) // the pattern is a constant
	}
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			panic("read an embedded file: " + err.Error())
		}
		h.Write([]byte(name + "\x00"))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// URL is the address of a file, with a hash of the contents in it.
func URL(name string) string { return prefix + version + "/" + name }

// contentTypes of what is embedded; the system's table may lack them.
var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".woff2": "font/woff2", ".svg": "image/svg+xml",
}

// Handler answers GET /static/{version}/{name}. Files of this version may be
// cached for ever; another version's address answers with this version's file,
// which must not be kept.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := r.PathValue("name")
		data, err := files.ReadFile(name)
		if err != nil {
			http.NotFound(w, r)
			return
		}
		h := w.Header()
		h.Set("Content-Type", contentTypes[path.Ext(name)])
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-cache")
		if r.PathValue("version") == version {
			h.Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		h.Set("ETag", `"`+version+`"`)
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
	})
}
