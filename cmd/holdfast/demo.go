package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast/backup"
	"holdfast/backup/m365/simulator"
	"holdfast/handlers"
)

// demo runs the portal with the simulated Microsoft 365 on loopback, filled
// with a sample partner and organizations.
func demo(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var c config
	var proxies, simulatorAddr string
	var fresh bool
	fs := newFlagSet("demo", stderr)
	c.flags(fs)
	c.serveFlags(fs, &proxies)
	fs.StringVar(&simulatorAddr, "simulator-addr", "127.0.0.1:8081", "address of the simulated Microsoft 365")
	fs.BoolVar(&fresh, "fresh", false, "throw away what an earlier demo kept in the data folder")
	fs.Lookup("data").DefValue, c.Data = "demo-data", "demo-data"
	fs.Lookup("second-factor").DefValue, c.SecondFactor = factorOptional, factorOptional // the sample people have a password that everybody knows
	if err := parse(fs, args, getenv); err != nil {
		return err
	}
	if fresh {
		if err := emptyDemo(c.Data); err != nil {
			return err
		}
	}
	if err := errors.Join(c.completeServe(proxies, ""), c.complete()); err != nil {
		return err
	}
	if err := markDemo(c.Data); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: c.LogLevel}))

	g, ctx := errgroup.WithContext(ctx)
	sim, err := simulator.New(simulator.Options{
		Mail: simulator.SampleMail(), Dir: filepath.Join(c.Data, "microsoft"), Log: log,
		RedirectURIs: []string{c.PublicURL + "/setup/callback"},
	})
	if err != nil {
		return fmt.Errorf("make the simulated Microsoft 365: %w", err)
	}
	bound, wait, err := sim.Start(ctx, simulatorAddr, "", "")
	if err != nil {
		return err
	}
	g.Go(wait)
	there, err := sim.Describe("http://" + bound)
	if err != nil {
		return fmt.Errorf("describe the simulated Microsoft 365: %w", err)
	}
	clientSecret, _, _ := sim.Client(simulator.MainClientID)
	c.Microsoft = microsoftConfig{
		ClientID: simulator.MainClientID, Secret: backup.Secret(clientSecret),
		LoginURL: there.Login, GraphURL: there.Graph, ExchangeURL: there.Exchange,
	}
	p, err := open(ctx, c, http.DefaultTransport, log)
	if err != nil {
		return err
	}
	defer p.Close()
	if c.web() {
		if err := p.seedDemo(ctx); err != nil {
			return fmt.Errorf("make the sample organizations: %w", err)
		}
	}
	g.Go(func() error {
		return p.run(ctx, func(string) { printDemo(stdout, c.PublicURL, there) })
	})
	return g.Wait()
}

// demoMark is the file by which -fresh knows a folder that a demo made.
const demoMark = "this-is-a-holdfast-demo"

func markDemo(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "holdfast.db")); err == nil {
		if _, err := os.Stat(filepath.Join(dir, demoMark)); err != nil {
			return fmt.Errorf("%s holds data that no demo made; give another folder with -data", dir)
		}
	}
	return os.WriteFile(filepath.Join(dir, demoMark), []byte("holdfast demo -fresh may delete this folder.\n"), 0o600)
}

// emptyDemo deletes the folder, but only if a demo made it.
func emptyDemo(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || (err == nil && len(entries) == 0) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("empty the demo's folder: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, demoMark)); err != nil {
		return fmt.Errorf("%s was not made by a demo, so -fresh leaves it alone; give another folder with -data", dir)
	}
	return os.RemoveAll(dir)
}

// demoPerson is one of the sample people; all share demoPassword.
type demoPerson struct {
	name, email string
	role        backup.Role
	org         string // "" for the partner
	what        string
}

const demoPassword = "harbour-demo-2026"

var demoPeople = []demoPerson{
	{"Dana Ruiz", "dana@northwind.example", backup.RoleOwner, "", "partner owner: all organizations, acts for them"},
	{"Sam Okafor", "sam@northwind.example", backup.RoleSupport, "", "partner support"},
	{"Adele Vance", "adele@contoso.example", backup.RoleAdmin, "Contoso Dental", "admin of Contoso Dental"},
	{"Lee Gu", "lee@contoso.example", backup.RoleViewer, "Contoso Dental", "viewer of Contoso Dental"},
	{"Nestor Wilke", "nestor@fabrikam.example", backup.RoleAdmin, "Fabrikam Legal", "admin of Fabrikam Legal"},
	{"Ines Prado", "ines@adatum.example", backup.RoleAdmin, legacyOrganization, "admin of Adatum Builders, which can be migrated"},
}

var demoOrganizations = []string{"Contoso Dental", "Fabrikam Legal", "Litware Logistics", "Tailspin Sites", legacyOrganization}

// seedDemo makes the sample partner, its organizations and people, once.
func (p *parts) seedDemo(ctx context.Context) error {
	st := p.store
	n, err := st.CountPeople(ctx)
	if err != nil || n > 0 {
		return err
	}
	hash, err := handlers.HashPassword(ctx, demoPassword)
	if err != nil {
		return err
	}
	owner := demoPeople[0]
	actor, err := st.SetUpPartner(ctx, "Northwind MSP", backup.Person{Name: owner.name, Email: owner.email, PasswordHash: hash})
	if err != nil {
		return err
	}
	orgs := map[string]backup.OrgID{}
	for _, name := range demoOrganizations {
		org, err := st.CreateOrganization(ctx, backup.Organization{PartnerID: actor.Partner.ID, Name: name}, actor)
		if err != nil {
			return err
		}
		orgs[name] = org.ID
		if name == legacyOrganization {
			if err := p.seedLegacy(ctx, org, actor); err != nil {
				return fmt.Errorf("connect %s: %w", name, err)
			}
		}
	}
	for _, who := range demoPeople[1:] {
		membership := backup.Membership{OrgID: orgs[who.org], Role: who.role}
		if who.org == "" {
			membership.PartnerID = actor.Partner.ID
		}
		person := backup.Person{ID: backup.NewID[backup.PersonID](), Name: who.name, Email: who.email, PasswordHash: hash, CreatedAt: time.Now()}
		if err := st.CreatePerson(ctx, person, membership, actor); err != nil {
			return err
		}
	}
	return nil
}

// printDemo says where to go and how to sign in.
func printDemo(w io.Writer, publicURL string, there simulator.Description) {
	fmt.Fprintf(w, "\nHoldfast is running. Open %s and sign in:\n\n", publicURL)
	for _, p := range demoPeople {
		fmt.Fprintf(w, "  %-24s  %s\n", p.email, p.what)
	}
	fmt.Fprintf(w, "\n  password of all of them   %s\n", demoPassword)
	fmt.Fprint(w, "\nThe simulated Microsoft 365 signs these administrators in (on its own page, when the wizard leads there):\n\n")
	for _, t := range there.Tenants {
		for _, person := range t.People {
			if len(person.Roles) > 0 {
				fmt.Fprintf(w, "  %-44s %-20s %v\n", person.UPN, person.Password, person.Roles)
			}
		}
	}
	fmt.Fprint(w, "\nNothing leaves this machine. State stays for the next start; -fresh empties it. Stop with Ctrl-C.\n\n")
}
