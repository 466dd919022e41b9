# `make up` and `make test` are the two commands of the README; both install what is missing.
# The build cache lives outside of the checkout when CACHE is set (CI does).

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE ?= $(HOME)/.cache/nodestead
export CARGO_TARGET_DIR ?= $(if $(CI),$(CACHE)/target,$(CURDIR)/target)
IMAGES := $(CACHE)/images
VENV := $(CACHE)/venv
NODESTEAD := $(CARGO_TARGET_DIR)/release/nodestead
PRODUCT := --package nodestead --package nodestead-addons --package nodestead-cni
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
PACKAGES := containerd runc nftables conntrack iproute2 busybox-static gcc libc6-dev make python3-venv ca-certificates curl procps crun openssh-server sudo
# What only tests need.
TEST_PACKAGES := etcd-server openssl openssh-client

.PHONY: help up test check tidy unit worlds e2e v2 fuzz bench build images packages test-packages install tools down clean-host

help: ## Show this help
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

up: packages build images ## Install, build, bring a region up, run the guestbook on it
	$(SUDO) $(NODESTEAD) up
	$(SUDO) $(NODESTEAD) demo --images $(IMAGES)

down: ## Remove the region that `make up` brought up
	@[ -x $(NODESTEAD) ] || { echo "there is no $(NODESTEAD): \`make clean-host\` builds what is missing and takes all regions away" >&2; exit 1; }
	$(SUDO) $(NODESTEAD) down

clean-host: ## Remove all of Nodestead from this machine: regions, their state, leftovers of killed runs
	@[ -x $(NODESTEAD) ] || cargo build --quiet --package nodestead
	$(SUDO) $(firstword $(wildcard $(NODESTEAD)) $(CARGO_TARGET_DIR)/debug/nodestead) down --all --purge

test: packages test-packages tools tidy unit e2e ## All tests, root tests included

check: ## Format, clippy, layers, unit and simulation tests; no root
	cargo clippy --workspace --all-targets -- -D warnings
	$(MAKE) tidy unit

tidy: ## Format, layers, sizes, deviations
	cargo fmt --all --check
	cargo run --quiet --package xtask -- tidy

unit: ## Unit, simulation and kernel tests, as root where they need it; without sudo those say so
	$(if $(SUDO),env CARGO_TARGET_$(shell rustc -vV | sed -n 's/^host: //p' | tr a-z- A-Z_)_RUNNER="$(SUDO) env HOME=$(HOME) PATH=$$PATH") cargo test --workspace --exclude e2e --lib --bins --tests

# A run of `unit` has 24 of each kind.
WORLDS ?= 1000

worlds: ## Kernel and evaluator agree in random worlds: WORLDS=1000 of each kind (root)
	NODESTEAD_WORLDS=$(WORLDS) cargo test --package unify --package region-vpc \
	  --test worlds --test ipv6_worlds -- --nocapture
	NODESTEAD_WORLDS=$(WORLDS) cargo test --package unify --package nodestead --bin nodestead -- \
	  --nocapture worlds::

e2e: packages build tools images ## The whole product with real clients (root)
	$(SUDO) env "PATH=$(VENV)/bin:$$PATH" NODESTEAD=$(NODESTEAD) NODESTEAD_IMAGES=$(IMAGES) \
	  CARGO_TARGET_DIR=$(CARGO_TARGET_DIR) cargo test --package e2e --test e2e -- $(E2E)

# Laptops have cgroup v2 alone: a VM that has. `V2_TESTS=` and `V2_UNITS=` of tests that cargo knows, or `none`.
V2_TESTS ?= --package kubelet --package region-host --test kernel --test resources --test boots
V2_UNITS := --package linux-cgroup --package linux-mount --package linux-process --lib
V2 := $(CACHE)/v2/share

v2: build images ## In a VM with cgroup v2: tests of groups and of the kubelet, up, demo, down (root)
	@$(MAKE) --no-print-directory install WANTED="debootstrap qemu-system-x86"
	rm -rf $(V2); mkdir -p $(V2)/tests $(V2)/bin $(V2)/images
	for tests in "$(V2_UNITS)" "$(V2_TESTS)"; do [ "$$tests" = none ] || \
	  cargo test --no-run --package unify $$tests 2>&1 | tee /dev/stderr | \
	  sed -n 's/^ *Executable .*(\(.*\))$$/\1/p'; done | xargs -r cp -t $(V2)/tests
	cp $(addprefix $(dir $(NODESTEAD)),nodestead nodestead-addons nodestead-cni) $(V2)/bin
	cp $(IMAGES)/*.tar $(V2)/images
	$(SUDO) env CACHE=$(CACHE) xtask/v2/run.sh $(V2)

# libFuzzer's instrumentation, as cargo-fuzz sets it, without a sanitizer: a stable compiler does.
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module -Ccodegen-units=1 \
  -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
FUZZ_TARGETS := sigv4 query user_data cni_stdin kube_protobuf kube_patch kube_apply kube_selectors \
  kube_watch kube_cel kube_schema
FUZZ_SECONDS ?= 30

fuzz: ## Each fuzz target for a while: FUZZ_SECONDS=30 FUZZ_TARGETS="sigv4 query …"
	@host=$$(rustc -vV | sed -n 's/^host: //p'); \
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --locked --manifest-path fuzz/Cargo.toml --target $$host; \
	for target in $(FUZZ_TARGETS); do \
	  echo "fuzzing $$target for $(FUZZ_SECONDS) s"; \
	  corpus=$(CACHE)/fuzz/$$target; mkdir -p $$corpus; \
	  $(CARGO_TARGET_DIR)/$$host/debug/$$target -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 \
	    -timeout=10 -verbosity=0 -print_final_stats=1 -artifact_prefix=$(CACHE)/fuzz/$$target- \
	    $$corpus fuzz/seeds/$$target; \
	done

bench: packages tools images ## Measure; prints a table with the floors beside it (root)
	cargo build --release $(PRODUCT) --package bench
	$(SUDO) env "PATH=$(VENV)/bin:$$PATH" NODESTEAD=$(NODESTEAD) NODESTEAD_IMAGES=$(IMAGES) \
	  $(CARGO_TARGET_DIR)/release/bench $(BENCH)

build: ## The release binaries
	cargo build --release $(PRODUCT)

images: ## Container images of the demo and the tests, from Debian's packages
	cargo run --quiet --package xtask -- images --out $(IMAGES) --venv $(VENV)

packages: ## Packages that a node needs, from the distribution
	@$(MAKE) --no-print-directory install WANTED="$(PACKAGES)"

test-packages: ## What only tests need: etcd, for the store over it
	@$(MAKE) --no-print-directory install WANTED="$(TEST_PACKAGES)"

# No service of theirs starts on this machine: xtask/packages.sh sees to that.
install:
	@missing=""; for p in $(WANTED); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing:$$missing"; $(SUDO) xtask/packages.sh $$missing; fi

# The stamp names what is there, so that a list which has become longer is installed.
CLIENTS := awscli boto3 kubernetes
CLIENTS_STAMP := $(VENV)/.done$(subst $(eval ) ,,$(addprefix -,$(CLIENTS)))

tools: $(CLIENTS_STAMP) ## The AWS CLI, boto3 and Python's `kubernetes`, as test clients

$(CLIENTS_STAMP):
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet $(CLIENTS)
	touch $@
