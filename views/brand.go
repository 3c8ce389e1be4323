package views

import (
	"context"
	"strconv"
	"time"

	"holdfast/backup"
)

type brandKey struct{}

// WithBrand lets the pages of a request present themselves as b says.
func WithBrand(ctx context.Context, b backup.Branding) context.Context {
	return context.WithValue(ctx, brandKey{}, b)
}

func brandOf(ctx context.Context) backup.Branding {
	b, _ := ctx.Value(brandKey{}).(backup.Branding)
	return b
}

// brandName is what the product calls itself on this portal.
func brandName(ctx context.Context) string { return orNothing(brandOf(ctx).Name, "Holdfast") }

// brandFile is the address of a file of the brand, another one after each change.
func brandFile(ctx context.Context, name string) string {
	return "/branding/" + strconv.FormatInt(brandOf(ctx).Version, 10) + "/" + name
}

// Branding is the form of how the portal presents itself.
type Branding struct {
	backup.Branding
	Fields backup.FieldErrors
}

// Storage is where backed-up data lies.
type Storage struct {
	Place       string          // folder or bucket
	Free, Total int64           // bytes of its file system; 0 if not known
	Replica     *backup.Replica // nil if no copy is kept
	Now         time.Time
	Checks      Checks
	Recovery    backup.Recovery
	Recipient   string // as it was typed
	Fields      backup.FieldErrors
}
