package m365

import (
	"context"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"
	"github.com/microsoftgraph/msgraph-sdk-go/applications"
	"github.com/microsoftgraph/msgraph-sdk-go/models"

	"holdfast/backup"
)

// RollCertificate changes the certificate of app for a new one, or goes on where
// an earlier call was interrupted. The application does it itself, with a proof
// that it holds the current key, which needs no permission and no administrator
// (https://learn.microsoft.com/graph/api/application-addkey). app is changed as
// it goes on, and save is called before the first call to Microsoft and after
// each that matters. The current certificate stays in use until Entra has issued
// a token for the new one, so whatever fails in between, one of them works. The
// certificate before stays registered for oldKeyLife, for backups under way that
// still hold it; app.RollAt says when to call again.
func (c *Client) RollCertificate(ctx context.Context, tenantID string, app *backup.SubApplication, save func(backup.SubApplication) error) error {
	k := &keyRoller{client: c, tenant: tenantID, app: app, save: save}
	if app.OldKeyID == "" || len(app.Next.PrivateKey) > 0 {
		return k.change(ctx)
	}
	return k.removeOld(ctx)
}

// oldKeyLife is how long the certificate before stays registered. A run that
// takes longer goes on with the new one at its next start.
const oldKeyLife = 7 * day

// keyRoller changes the certificate of one application.
type keyRoller struct {
	client *Client
	tenant string
	app    *backup.SubApplication
	save   func(backup.SubApplication) error
}

func (k *keyRoller) saved() error {
	k.app.UpdatedAt = time.Now()
	if err := k.save(*k.app); err != nil {
		return fmt.Errorf("save sub-application %s: %w", k.app.ID, err)
	}
	return nil
}

// change registers the new certificate and takes it into use.
func (k *keyRoller) change(ctx context.Context) error {
	for life := 0; ; life++ {
		if len(k.app.Next.PrivateKey) == 0 {
			if err := k.newKey(certificateLives[life]); err != nil {
				return err
			}
		} else if err := k.works(ctx, lostAnswerWait); err == nil {
			return k.use() // an earlier call, whose answer was lost, registered it
		} else if backup.KindOf(err) != backup.ProblemCredential {
			return err
		}
		r, err := k.add(ctx)
		if r != nil && r.has("CredentialInvalidLifetimeAsPerAppPolicy") && life+1 < len(certificateLives) {
			k.app.Next = backup.Credential{}
			continue
		}
		if r != nil {
			return rollProblem(*r, err)
		}
		if err != nil {
			return err
		}
		if err := k.saved(); err != nil {
			return err
		}
		if err := k.works(ctx, freshWait); err != nil {
			return err
		}
		return k.use()
	}
}

// newKey makes the new certificate and saves it: it must be known before
// Microsoft knows it.
func (k *keyRoller) newKey(life time.Duration) error {
	der, key, end, err := newCertificate(k.app.DisplayName, time.Now(), life)
	if err != nil {
		return backup.AsProblem(err)
	}
	k.app.Next = backup.Credential{Certificate: der, PrivateKey: key, NotAfter: end}
	return k.saved()
}

// works asks Entra for a token with the new certificate.
func (k *keyRoller) works(ctx context.Context, wait time.Duration) error {
	next := *k.app
	next.Certificate, next.PrivateKey, next.NotAfter = k.app.Next.Certificate, k.app.Next.PrivateKey, k.app.Next.NotAfter
	source, err := k.client.tokens(k.tenant, next)
	if err != nil {
		return err
	}
	_, err = source.fetch(ctx, graphResource, wait)
	return err
}

// use makes the new certificate the current one.
func (k *keyRoller) use() error {
	a := k.app
	a.OldKeyID = a.KeyID
	a.Certificate, a.PrivateKey, a.NotAfter, a.KeyID = a.Next.Certificate, a.Next.PrivateKey, a.Next.NotAfter, a.Next.KeyID
	a.Next, a.RollAt, a.RollError = backup.Credential{}, time.Time{}, backup.Problem{}
	if a.OldKeyID != "" {
		a.RollAt = time.Now().Add(oldKeyLife)
	}
	return k.saved()
}

// add is Graph's addKey. Its answer may get lost; then works finds out.
func (k *keyRoller) add(ctx context.Context) (*refusal, error) {
	proof, d, err := k.own(ctx)
	if err != nil {
		return nil, err
	}
	body := applications.NewItemAddKeyPostRequestBody()
	body.SetKeyCredential(keyCredential(k.app.Next.Certificate))
	body.SetProof(&proof)
	var made models.KeyCredentialable
	r, err := d.do(ctx, false, func(ctx context.Context) (err error) {
		made, err = applications.NewApplicationsRequestBuilderInternal(d.path, d.adapter).ByApplicationId(k.app.ObjectID).AddKey().Post(ctx, body, nil)
		return err
	})
	if err == nil && made != nil && made.GetKeyId() != nil {
		k.app.Next.KeyID = made.GetKeyId().String()
	}
	return r, err
}

// removeOld takes the certificate before away from the application. It is only
// tidying up: one whose id is not known ends by itself.
func (k *keyRoller) removeOld(ctx context.Context) error {
	id, err := uuid.Parse(k.app.OldKeyID)
	if err == nil {
		var r *refusal
		if r, err = k.remove(ctx, id); r != nil && !r.says("No credentials found") {
			return rollProblem(*r, err)
		} else if r == nil && err != nil {
			return err
		}
	}
	k.app.OldKeyID, k.app.RollAt, k.app.RollError = "", time.Time{}, backup.Problem{}
	return k.saved()
}

func (k *keyRoller) remove(ctx context.Context, id uuid.UUID) (*refusal, error) {
	proof, d, err := k.own(ctx)
	if err != nil {
		return nil, err
	}
	body := applications.NewItemRemoveKeyPostRequestBody()
	body.SetKeyId(&id)
	body.SetProof(&proof)
	return d.do(ctx, false, func(ctx context.Context) error {
		return applications.NewApplicationsRequestBuilderInternal(d.path, d.adapter).ByApplicationId(k.app.ObjectID).RemoveKey().Post(ctx, body, nil)
	})
}

// own returns a proof that the application holds its current key, and the
// directory in the application's own name.
func (k *keyRoller) own(ctx context.Context) (string, *directory, error) {
	source, err := k.client.tokens(k.tenant, *k.app)
	if err != nil {
		return "", nil, err
	}
	proof, err := source.certificate.proof(k.app.ObjectID, time.Now())
	if err != nil {
		return "", nil, backup.AsProblem(err)
	}
	token, err := source.token(ctx, graphResource)
	if err != nil {
		return "", nil, err
	}
	d, err := k.client.directory(token, string(k.app.ConnectionID))
	return proof, d, err
}

// proofAudience is what Microsoft wants in the proof: the id of an API that is
// otherwise retired.
const proofAudience = "00000002-0000-0000-c000-000000000000"

// proof signs that the application of objectID holds the key
// (https://learn.microsoft.com/graph/application-rollkey-prooftoken).
func (c *Certificate) proof(objectID string, now time.Time) (string, error) {
	signer, err := c.signer()
	if err != nil {
		return "", err
	}
	text, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: objectID, Audience: jwt.Audience{proofAudience},
		NotBefore: jwt.NewNumericDate(now.Add(-time.Minute)), Expiry: jwt.NewNumericDate(now.Add(assertionLife)),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("sign proof: %w", err)
	}
	return text, nil
}

// rollProblem reads Graph's refusal of an application that changes its own
// certificate.
func rollProblem(r refusal, cause error) *backup.Problem {
	if r.has("Authentication_MissingOrMalformed") || r.has("Authorization_RequestDenied") {
		return r.problem(rollRefused, cause)
	}
	if r.status == 404 {
		return r.problem(applicationGone, cause)
	}
	return directoryProblem(r, cause)
}

var rollRefused = meaning{backup.ProblemCredential,
	"Microsoft does not let Holdfast's application renew its own certificate. It works until the certificate ends; select Repair before that, and an administrator's sign-in renews it.", false}
