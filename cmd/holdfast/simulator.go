package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"

	"holdfast/backup/m365/simulator"
)

// runSimulator serves the simulated Microsoft alone. Once it listens it prints
// one line of JSON that says where, and who can sign in.
func runSimulator(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	var addr, cert, key, world, dir, redirect string
	var auto bool
	fs := newFlagSet("simulator", stderr)
	fs.StringVar(&addr, "addr", "127.0.0.1:8081", "address to listen on")
	fs.StringVar(&cert, "cert", "", "PEM file with a certificate: serve TLS, routed by Host header")
	fs.StringVar(&key, "key", "", "PEM file with its key")
	fs.StringVar(&world, "world", "", "JSON file with tenants and people (default: the sample tenants)")
	fs.StringVar(&dir, "dir", "", "folder that keeps the state over a restart")
	fs.StringVar(&redirect, "redirect", "http://127.0.0.1:8080/setup/callback", "redirect address of Holdfast's main application")
	fs.BoolVar(&auto, "auto", false, "sign known login hints in without a page, and consent")
	if err := parse(fs, args, getenv); err != nil {
		return err
	}
	if (cert == "") != (key == "") {
		return fmt.Errorf("-cert and -key go together")
	}
	options := simulator.Options{
		Mail: simulator.SampleMail(), Auto: auto, Dir: dir, RedirectURIs: []string{redirect},
		Log: slog.New(slog.NewTextHandler(stderr, nil)),
	}
	if world != "" {
		data, err := os.ReadFile(world) //nolint:gosec // the operator names the file
		if err != nil {
			return fmt.Errorf("read the world: %w", err)
		}
		if err := json.Unmarshal(data, &options.World); err != nil {
			return fmt.Errorf("the world in %s: %w", world, err)
		}
	}
	sim, err := simulator.New(options)
	if err != nil {
		return err
	}
	bound, wait, err := sim.Start(ctx, addr, cert, key)
	if err != nil {
		return err
	}
	scheme := "http://"
	if cert != "" {
		scheme = "https://"
	}
	there, err := sim.Describe(scheme + bound)
	if err != nil {
		return fmt.Errorf("describe the simulator: %w", err)
	}
	if err := json.NewEncoder(stdout).Encode(there); err != nil {
		return fmt.Errorf("print where the simulator listens: %w", err)
	}
	return wait()
}
