# The front door. meson builds; this names what people want. `make help` lists it.

SHELL := /bin/bash
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 60

# Another compiler gets a build directory of its own: make CC=clang builds in build-clang.
compiler := $(if $(filter-out default undefined,$(origin CC)),$(CC))
BUILD ?= build$(if $(filter-out cc gcc,$(compiler)),-$(notdir $(firstword $(compiler))))
with_compiler := $(if $(compiler),CC='$(compiler)')

export HALDANE_BUILD = $(abspath $(BUILD))
export FUZZ_SECONDS

.PHONY: build demo demo-runs soak test test-scripts test-deployment rehearse bench bench-statistics bench-traffic lint \
    install deps fuzz sanitize clean help

build: $(BUILD)/build.ninja ## build haldane, the demo's programs and the tests
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	$(with_compiler) meson setup $(BUILD)

demo: ## install what is missing, build, and watch three real rollouts behind HAProxy and Prometheus
	@compose/demo/run.sh

test: ## install what is missing, build, and run all tests, real servers included; the last line counts them
	@scripts/install-deps.sh
	@$(with_compiler) tests/run

test-scripts: build ## what the scripts of deployment/ do, against real servers and without an engine
	@scripts/install-deps.sh demo test
	@tests/run scripts

test-deployment: build ## prove stacks, scripts and runbooks on a real Docker engine; WHAT=brief for what CI runs
	@scripts/install-deps.sh demo deployment
	@tests/deployment/run $(or $(WHAT),all)

rehearse: build ## the five phases of a deployment, end to end, on a stack that is removed again
	@scripts/install-deps.sh demo deployment
	@tests/deployment/engine.sh start
	@eval "$$(tests/deployment/engine.sh env)" && deployment/rehearse.sh

bench: build ## measure speed
	meson test -C $(BUILD) --no-rebuild --benchmark --verbose

bench-statistics: $(BUILD)/build.ninja ## haldane and others' rules on the same made-up rollouts, RUNS of each (2000)
	ninja -C $(BUILD) tests/bench_statistics
	$(BUILD)/tests/bench_statistics --runs $(or $(RUNS),2000) --check

bench-traffic: build ## what a change of the split costs the users of a site, REQUESTS in all (456000)
	tests/bench/traffic.sh $(or $(REQUESTS),456000)

demo-runs: build ## the demo RUNS times in a row (default 20); each must end right
	tests/bench/demo_runs.sh $(or $(RUNS),20)

soak: build ## kill haldane in RUNS short rollouts (default 210), each at a random moment; all must end as promised
	tests/bench/soak.sh --runs $(or $(RUNS),210)

lint: ## formatting of C and shell, and shellcheck
	scripts/lint.sh

install: build ## install under PREFIX (default /usr/local); DESTDIR is honoured
	meson configure $(BUILD) -Dprefix='$(PREFIX)'
	meson install -C $(BUILD)

deps: ## install what build, demo, tests and lint need (Debian, Ubuntu)
	scripts/install-deps.sh

sanitize: ## unit tests with the address and undefined-behaviour sanitizers
	[ -e build-sanitize/build.ninja ] || \
	    $(with_compiler) meson setup build-sanitize -Db_sanitize=address,undefined -Db_lundef=false
	HALDANE_BUILD='$(abspath build-sanitize)' UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 tests/run unit

fuzz: ## run every fuzz target, FUZZ_SECONDS in all (default 60)
	[ -e build-fuzz/build.ninja ] || \
	    CC=clang meson setup build-fuzz -Dfuzzers=true -Db_sanitize=address,undefined -Db_lundef=false
	ninja -C build-fuzz
	tests/fuzz/run build-fuzz

clean: ## remove all build directories
	rm -rf -- build build-*

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile
