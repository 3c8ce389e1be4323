// Package static holds what pages load: styles, scripts and the font. Each
// file is served under an address with the hash of its content, so browsers
// may keep it for ever.
package static

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed *.css *.js *.woff2
var files embed.FS

// hashes are the content hashes by file name.
var hashes = func() map[string]string {
	list := map[string]string{}
	names, err := fs.Glob(files, "*")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	for _, name := range names {
		data, err := files.ReadFile(name)
		if err != nil {
			panic(err) // the file is part of the program
		}
		sum := sha256.Sum256(data)
		list[name] = base64.RawURLEncoding.EncodeToString(sum[:9])
	}
	return list
}()

// Path returns the address of a file, like /static/holdfast.css?v=…; a name
// that does not exist is a mistake in the program and panics.
func Path(name string) string {
	hash, ok := hashes[name]
	if !ok {
		panic("static: no file " + name)
	}
	return "/static/" + name + "?v=" + hash
}

// Handler serves the files under /static/.
func Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Base(r.URL.Path)
		data, err := files.ReadFile(name)
		if err != nil || strings.TrimPrefix(r.URL.Path, "/static/") != name {
			http.NotFound(w, r)
			return
		}
		cache := "no-cache"
		if r.URL.Query().Get("v") == hashes[name] {
			cache = "public, max-age=31536000, immutable"
		}
		w.Header().Set("Cache-Control", cache)
		if t := mime.TypeByExtension(path.Ext(name)); t != "" {
			w.Header().Set("Content-Type", t)
		} else if path.Ext(name) == ".woff2" {
			w.Header().Set("Content-Type", "font/woff2")
		}
		http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(data))
	})
}
