# Holdfast. `make demo` shows it, `make test` checks it.
# -trimpath everywhere: the Graph SDK is compiled once for all targets.
export GOFLAGS := -trimpath -buildvcs=false

TEMPL    := go run github.com/a-h/templ/cmd/templ@v0.3.977
LINT     := go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
ADDR     ?= 127.0.0.1:8080
DATA     ?= demo-data
# Packages that do not link the Graph SDK: cheap to check for races.
RACE     := ./backup ./backup/repo/... ./backup/engine/... ./backup/m365/simulator/... ./store/...

.PHONY: build demo dev test race check generate lint fmt bench bench-growth bench-peers fuzz kill clean

build:
	go build -ldflags='-s -w' -o bin/holdfast ./cmd/holdfast

# The portal with a simulated Microsoft 365 on loopback. State stays in $(DATA); `make demo FRESH=1` empties it.
demo: build
	bin/holdfast demo -addr $(ADDR) -data $(DATA) $(if $(FRESH),-fresh)

dev:
	$(TEMPL) generate --watch --cmd='go run ./cmd/holdfast demo -addr $(ADDR) -data $(DATA)'

test:
	go test -timeout 30m ./...

race:
	go test -race -short -timeout 30m $(RACE)

generate:
	$(TEMPL) generate -path views

fmt:
	gofmt -w $$(git ls-files '*.go' ':!*_templ.go')

lint:
	$(LINT) run

# What CI runs, but for the servers and the browser that .ci/run installs.
check: generate
	git diff --exit-code -- '*_templ.go'
	test -z "$$(gofmt -l $$(git ls-files '*.go'))"
	go vet ./...
	$(LINT) run
	go test -timeout 30m ./...

# Every decoder for FUZZTIME each: `make fuzz FUZZTIME=10m`.
FUZZTIME ?= 10s
fuzz:
	@set -e; for package in $$(grep -rl --include=*_test.go "^func Fuzz" . | xargs -n1 dirname | sort -u); do \
		for name in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "== $$package $$name"; go test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

# SIGKILL at KILLS random moments: of a process that writes a repository, and of the server.
KILLS ?= 200
kill:
	HOLDFAST_TEST_KILLS=$(KILLS) go test -count 1 -timeout 60m -run 'TestKilledAtRandomMoments|TestKilledAtAnyMoment|TestKilledWhile|TestHolderFails' -v ./backup/repo ./cmd/holdfast

bench:
	go test -run '^$$' -bench . -benchtime 1x -count 1 ./backup/repo ./backup/engine ./backup/jobs ./handlers ./cmd/holdfast

# A million short messages, by one, two and four workers.
bench-growth:
	HOLDFAST_BENCH_GROWTH=1000000 go test -run '^$$' -bench Growth -benchtime 1x -count 1 -timeout 60m ./backup/engine

# Against restic, borg and mbsync on the same mail: apt-get install restic borgbackup isync dovecot-imapd
bench-peers:
	HOLDFAST_BENCH_PEERS=1 go test -run '^$$' -bench . -benchtime 1x -count 1 -timeout 60m ./backup/peers

clean:
	rm -rf bin
