# The everyday commands. `make help` lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Clones on one machine share what they compiled: a second clone then builds only the workspace's own crates. A plain
# checkout keeps cargo's ./target; the shared folder is used where it exists, where CI runs, or where it is named.
ifndef CARGO_TARGET_DIR
ifneq ($(CI)$(CARILLON_TARGET_DIR)$(wildcard $(HOME)/.cache/carillon-target),)
export CARGO_TARGET_DIR := $(or $(CARILLON_TARGET_DIR),$(HOME)/.cache/carillon-target)
endif
endif
TARGET := $(or $(CARGO_TARGET_DIR),target)

# The load generator pins the servers to one core and itself stays away from it, where there is another. SERVER_CORE=1 swaps
# them, which shows whether the two differ.
SERVER_CORE ?= 0
APART := $(if $(filter-out 1,$(shell nproc)),taskset -c $(if $(filter 0,$(SERVER_CORE)),1,0))
MEASURE = ulimit -n "$$(ulimit -Hn)"; $(APART) $(TARGET)/bench-ci/carillon-loadtests --server-core $(SERVER_CORE)

DATA ?= data
LISTEN ?= 127.0.0.1:8080

.PHONY: help run build test lint fmt bench bench-soak soak reference

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

# The dev profile, because the wait before the first notification is compile time: on two cores an optimised build
# of the dependencies takes about twice as long. SQLite is optimised in both.
run: ## Build and start Carillon on embedded storage, with the quickstart page (DATA=dir LISTEN=addr)
	cargo build
	exec $(TARGET)/debug/carillon serve --dev --data $(DATA) --listen $(LISTEN)

build: ## Build the release executable
	cargo build --release
	@ls -lh $(TARGET)/release/carillon

test: ## Install what the tests need, run everything, print the time of each stage
	tests/run.sh

lint: ## rustfmt, clippy, cargo-deny
	tests/run.sh tools lint

fmt: ## Format the code
	cargo fmt --all

# BENCH: more of the bench's options, like `BENCH="--only storm --storm 19000"`.
bench: ## Measure; prints a table beside a floor measured in the same run, and beside peers (BENCH=options)
	loadtests/peers/install.sh
	cargo build --profile bench-ci -p carillon -p carillon-loadtests
	$(MEASURE) bench --server $(TARGET)/bench-ci/carillon $(BENCH)

bench-soak: ## Hold 10,000 connections that come and go for ten minutes; fails when anything is lost or rises (BENCH=options)
	cargo build --profile bench-ci -p carillon -p carillon-loadtests
	$(MEASURE) soak --server $(TARGET)/bench-ci/carillon --report docs/benchmarks.md $(BENCH)

reference: ## Write docs/configuration.md anew from the configuration's types
	cargo build
	sed -i '/^## /,$$d' docs/configuration.md
	$(TARGET)/debug/carillon config document >>docs/configuration.md

soak: ## The kill -9 tests with long counts, the simulation with many seeds (SOAK_CYCLES, SOAK_ACCEPTED, SOAK_SEEDS per store)
	CARILLON_SIM_SEEDS=$${SOAK_SEEDS:-50000} CARILLON_CRASH_CYCLES=$${SOAK_CYCLES:-1000} CARILLON_CRASH_ACCEPTED=$${SOAK_ACCEPTED:-1000000} \
		tests/run.sh build postgres simulation crash-sqlite crash-postgres
