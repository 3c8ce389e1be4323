package handlers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/jpeg" // logos come as these
	"image/png"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"holdfast/backup"
	"holdfast/views"
)

// What a logo may be.
const (
	maxLogo       = 500 << 10
	maxLogoPixels = 1024 // each way
)

// brandLife is how long a process may show a brand that another one changed.
const brandLife = 10 * time.Second

// brand keeps how the portal presents itself, which every page needs.
type brand struct {
	mu   sync.Mutex
	kept backup.Branding
	at   time.Time
}

// get returns the brand. If it can't be read, pages keep the one before.
func (b *brand) get(ctx context.Context, s *Server) backup.Branding {
	b.mu.Lock()
	defer b.mu.Unlock()
	if time.Since(b.at) < brandLife {
		return b.kept
	}
	fresh, err := s.Store.Branding(ctx)
	if err != nil {
		s.Log.Warn("branding not read", "error", err)
		return b.kept
	}
	b.kept, b.at = fresh, time.Now()
	return b.kept
}

func (b *brand) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = time.Time{}
}

// branded lets the pages of a request present themselves as the partner chose.
func (s *Server) branded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(views.WithBrand(r.Context(), s.brand.get(r.Context(), s))))
	})
}

// showBranding shows how the portal presents itself.
func (s *Server) showBranding(w http.ResponseWriter, r *http.Request) error {
	b, err := s.Store.Branding(r.Context())
	if err != nil {
		return fmt.Errorf("read branding: %w", err)
	}
	return s.brandingPage(w, r, http.StatusOK, views.Branding{Branding: b})
}

func (s *Server) brandingPage(w http.ResponseWriter, r *http.Request, status int, v views.Branding) error {
	return s.render(w, r, status, views.BrandingPage(s.frame(w, r, "Branding"), v))
}

// saveBranding changes it. A logo is made anew from its pixels, so that nothing
// else of the file is kept.
func (s *Server) saveBranding(w http.ResponseWriter, r *http.Request) error {
	kept, err := s.Store.Branding(r.Context())
	if err != nil {
		return fmt.Errorf("read branding: %w", err)
	}
	b := backup.Branding{Name: r.PostFormValue("name"), Color: r.PostFormValue("color")}
	fields := backup.FieldErrors{}
	merge(fields, b.Validate())
	logo, err := uploaded(r, "logo")
	if err == nil && len(logo) > 0 {
		b.Logo, err = redrawn(logo)
	}
	merge(fields, err)
	if _, ok := errors.AsType[backup.FieldErrors](err); err != nil && !ok {
		return fmt.Errorf("read the logo: %w", err)
	}
	if b.Logo == nil && r.PostFormValue("remove_logo") == "yes" {
		b.Logo = []byte{}
	}
	if len(fields) == 0 {
		if err = s.Store.SaveBranding(r.Context(), b, actor(r)); err != nil {
			return err
		}
		s.brand.forget()
		return s.redirect(w, r, "/partner/settings/branding", "Saved.")
	}
	b.Logo = kept.Logo
	return s.brandingPage(w, r, http.StatusUnprocessableEntity, views.Branding{Branding: b, Fields: fields})
}

// uploaded is the content of a form's file, nil if none was chosen.
func uploaded(r *http.Request, field string) ([]byte, error) {
	file, head, err := r.FormFile(field)
	if errors.Is(err, http.ErrMissingFile) || errors.Is(err, http.ErrNotMultipart) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if head.Size > maxLogo {
		return nil, backup.FieldErrors{field: "The file is larger than 500 KB. Choose a smaller one."}
	}
	return io.ReadAll(io.LimitReader(file, maxLogo))
}

// redrawn is an image as a PNG of its own making.
func redrawn(data []byte) ([]byte, error) {
	config, format, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || format != "png" && format != "jpeg" {
		return nil, backup.FieldErrors{"logo": "This is no PNG or JPEG image. Choose one of these."}
	}
	if config.Width > maxLogoPixels || config.Height > maxLogoPixels || config.Width < 1 || config.Height < 1 {
		return nil, backup.FieldErrors{"logo": fmt.Sprintf("The image has %d by %d pixels. Choose one of at most 1024 by 1024.", config.Width, config.Height)}
	}
	picture, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, backup.FieldErrors{"logo": "The image is damaged. Choose another one."}
	}
	var out bytes.Buffer
	if err := png.Encode(&out, picture); err != nil {
		return nil, fmt.Errorf("encode the logo: %w", err)
	}
	return out.Bytes(), nil
}

// showBrandFile answers with the brand's style sheet or its logo. The address
// has the version, so both may be kept.
func (s *Server) showBrandFile(w http.ResponseWriter, r *http.Request) error {
	b := s.brand.get(r.Context(), s)
	if strconv.FormatInt(b.Version, 10) == r.PathValue("version") {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	switch r.PathValue("file") {
	case "brand.css":
		w.Header().Set("Content-Type", "text/css; charset=utf-8")
		if p, ok := b.Palette(); ok {
			_, err := fmt.Fprintf(w, ":root { --accent: light-dark(%s, %s); --accent-ink: light-dark(%s, %s); --accent-wash: light-dark(%s, %s); }\n",
				p.Light, p.Dark, p.LightInk, p.DarkInk, p.LightWash, p.DarkWash)
			return err
		}
		return nil
	case "logo.png":
		if len(b.Logo) == 0 {
			break
		}
		w.Header().Set("Content-Type", "image/png")
		_, err := w.Write(b.Logo)
		return err
	}
	w.Header().Del("Cache-Control")
	return backup.ErrNotFound
}

// showStorage shows where backed-up data lies, how much there is, and what would
// bring it back.
func (s *Server) showStorage(w http.ResponseWriter, r *http.Request) error {
	recovery, err := s.Store.Recovery(r.Context())
	if err != nil {
		return fmt.Errorf("read what recovers: %w", err)
	}
	return s.storagePage(w, r, http.StatusOK, views.Storage{Recovery: recovery, Recipient: recovery.Recipient})
}

func (s *Server) storagePage(w http.ResponseWriter, r *http.Request, status int, v views.Storage) error {
	if s.Storage != nil {
		v.Place, v.Free, v.Total = s.Storage()
	}
	if s.ReplicaPlace != "" {
		replica, err := s.Store.Replica(r.Context(), s.ReplicaPlace)
		if err != nil && !errors.Is(err, backup.ErrNotFound) {
			return fmt.Errorf("read the copy of the repository: %w", err)
		}
		replica.Place = s.ReplicaPlace // also before the first one
		v.Replica = &replica
	}
	var err error
	if v.Checks, err = s.checks(r); err != nil {
		return err
	}
	v.Now = time.Now()
	return s.render(w, r, status, views.StoragePage(s.frame(w, r, "Storage"), v))
}

// saveRecovery saves whom the daily copies of the database are encrypted for.
func (s *Server) saveRecovery(w http.ResponseWriter, r *http.Request) error {
	recipient := strings.TrimSpace(r.PostFormValue("recipient"))
	err := s.Store.SetRecoveryRecipient(r.Context(), recipient, actor(r))
	if fields, ok := errors.AsType[backup.FieldErrors](err); ok {
		v := views.Storage{Recipient: recipient, Fields: fields}
		if strings.Contains(strings.ToUpper(recipient), "SECRET") {
			v.Recipient = "" // a secret key must not come back on a page
		}
		if v.Recovery, err = s.Store.Recovery(r.Context()); err != nil {
			return fmt.Errorf("read what recovers: %w", err)
		}
		return s.storagePage(w, r, http.StatusUnprocessableEntity, v)
	}
	if err != nil {
		return err
	}
	return s.redirect(w, r, "/partner/settings/storage", "Saved. A copy of the database is made right away.")
}

// isMultipart says whether a form comes with files.
func isMultipart(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data")
}
