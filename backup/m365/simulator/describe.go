package simulator

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
)

// Description says where a simulator is and how to sign in.
type Description struct {
	Login    string              `json:"login"` // base URLs, without a slash at the end
	Graph    string              `json:"graph"`
	Exchange string              `json:"exchange"`
	Tenants  []TenantDescription `json:"tenants"`
}

// TenantDescription is one tenant of a Description.
type TenantDescription struct {
	ID      string              `json:"id"`
	Name    string              `json:"name"`
	Domain  string              `json:"domain"`
	People  []PersonDescription `json:"people"`
	Clients []ClientDescription `json:"clients"`
}

// PersonDescription is somebody who can sign in.
type PersonDescription struct {
	UPN      string   `json:"upn"`
	Password string   `json:"password"`
	Roles    []string `json:"roles"`
}

// ClientDescription is an application of the world file.
type ClientDescription struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Secret string `json:"secret,omitempty"`
	PEM    string `json:"pem,omitempty"` // file with key and certificate
}

// Describe says how to reach the simulator at a base URL such as
// http://127.0.0.1:9000, and who can sign in. It writes the PEM files of clients
// that have a certificate into Options.Dir, or a temporary folder that goes when
// Start's context ends.
func (s *Simulator) Describe(base string) (Description, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.describe(base)
	for i, t := range d.Tenants {
		for k, c := range t.Clients {
			a := s.appByID(c.ID)
			if a == nil || a.PEM == "" {
				continue
			}
			file, err := s.writePEM("client-"+c.ID+".pem", a.PEM)
			if err != nil {
				return Description{}, fmt.Errorf("credential of %s: %w", c.Name, err)
			}
			d.Tenants[i].Clients[k].PEM = file
		}
	}
	return d, nil
}

// writePEM writes a client's credential where only its owner can read it.
func (s *Simulator) writePEM(name, pem string) (string, error) {
	dir := firstOf(s.options.Dir, s.tempDir)
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "holdfast-simulator-"); err != nil {
			return "", err
		}
		s.tempDir = dir
	}
	return filepath.Join(dir, name), writeFile(dir, name, []byte(pem))
}

// removeTemp removes what writePEM made without Options.Dir.
func (s *Simulator) removeTemp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tempDir != "" {
		if err := os.RemoveAll(s.tempDir); err != nil {
			s.log.Warn("temporary folder stays", "folder", s.tempDir, "error", err)
		}
		s.tempDir = ""
	}
}

// Client returns secret and PEM (private key and certificate) of an
// application of the world.
func (s *Simulator) Client(id string) (secret string, pem []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.appByID(id)
	if a == nil {
		return "", nil, false
	}
	if len(a.Passwords) > 0 {
		secret = a.Passwords[0].Secret
	}
	return secret, []byte(a.PEM), true
}

func (s *Simulator) describe(base string) Description {
	d := Description{Login: base + "/" + HostLogin, Graph: base + "/" + HostGraph, Exchange: base + "/" + HostExchange}
	for _, t := range s.state.Tenants {
		td := TenantDescription{ID: t.ID, Name: t.Name, Domain: t.Domain, People: []PersonDescription{}, Clients: []ClientDescription{}}
		for _, u := range t.Users {
			if u.Password != "" && u.DeletedAt.IsZero() {
				td.People = append(td.People, PersonDescription{UPN: u.UPN, Password: u.Password, Roles: roleNames(u.Roles)})
			}
		}
		for _, w := range s.options.World.Tenants {
			for _, wa := range w.Apps {
				if firstOf(w.ID, stableGUID("tenant", w.Domain)) == t.ID {
					td.Clients = append(td.Clients, ClientDescription{ID: wa.ID, Name: wa.Name, Secret: wa.Secret})
				}
			}
		}
		d.Tenants = append(d.Tenants, td)
	}
	return d
}

// rootURL is how the client of r reaches the simulator, without a host's segment.
func rootURL(r *http.Request) string {
	if in := r.Context().Value(incomingKey{}).(*incoming); in.base != "" {
		return in.base
	}
	return "https://" + r.Host
}
