// Command holdfast backs up Microsoft 365 mail with least privilege: a portal
// in the browser and the backup engine behind it, in one program.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // the time zones of backup windows, on machines that have none

	"holdfast/backup/engine"
)

func main() {
	engine.TuneMemory()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp): // help that was asked for is no failure
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "holdfast: "+err.Error())
		os.Exit(1)
	}
}

// errUsage says that the command was not one, and that how it is written was said.
var errUsage = errors.New("usage")

const usage = `Usage: holdfast COMMAND [flags]

  serve         the portal and its workers
  demo          the same with a simulated Microsoft 365 and sample organizations
  simulator     the simulated Microsoft 365 alone
  verify        check the repository: structure, or every byte with -all
  repair        put damaged objects of the repository back from a copy of it, or save what is whole of them
  rebuild       make the catalog of an organization anew from the repository
  export        write the messages of a folder, a mailbox or an organization as a file
  expire        apply the retention now, or say with -dry-run which snapshots would go
  gc            delete what no snapshot needs from the repository, two days after it was found
  replicate     copy the repository to another folder or bucket, or what that lacks of it
  move          the same, after which the old place takes no more backups
  key           recovery keys and recovery kits: generate, export, check, import, rotate
  rekey         move everything of an organization to new keys, and destroy the old ones, after a leak
  audit verify  check that no entry of an activity log was changed or removed
  version       print the version

"holdfast COMMAND -h" lists a command's flags. Every flag can also be given as
an environment variable: -data is HOLDFAST_DATA, -public-url is HOLDFAST_PUBLIC_URL.
`

// run is the program: tests start it with their own arguments and environment.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return errUsage
	}
	command, rest := args[0], args[1:]
	switch command {
	case "serve":
		return serve(ctx, rest, getenv, stdout, stderr)
	case "demo":
		return demo(ctx, rest, getenv, stdout, stderr)
	case "simulator":
		return runSimulator(ctx, rest, getenv, stdout, stderr)
	case "verify":
		return verify(ctx, rest, getenv, stdout, stderr)
	case "repair":
		return repair(ctx, rest, getenv, stdout, stderr)
	case "rebuild":
		return rebuild(ctx, rest, getenv, stdout, stderr)
	case "export":
		return exportMail(ctx, rest, getenv, stdout, stderr)
	case "expire":
		return expire(ctx, rest, getenv, stdout, stderr)
	case "gc":
		return gc(ctx, rest, getenv, stdout, stderr)
	case "replicate":
		return replicate(ctx, rest, getenv, stdout, stderr)
	case "move":
		return move(ctx, rest, getenv, stdout, stderr)
	case "key":
		return key(ctx, rest, getenv, stdout, stderr)
	case "rekey":
		return rekey(ctx, rest, getenv, stdout, stderr)
	case "audit":
		return audit(ctx, rest, getenv, stdout, stderr)
	case "version":
		_, err := fmt.Fprintln(stdout, version())
		return err
	case "help", "-h", "-help", "--help":
		_, err := fmt.Fprint(stdout, usage)
		return err
	}
	return fmt.Errorf("there is no command %q; \"holdfast help\" lists them", command)
}
