# What a developer does with this repository. Needs Rust, a C compiler, and Go (or KUBEBUILDER_ASSETS) for real
# Kubernetes in the tests; nothing else has to be installed.

CARGO ?= cargo
WORLD := $(CARGO) run --quiet --package world --

.DEFAULT_GOAL := help
.PHONY: help test test-oldest tools demo dev lint crds

help: ## Shows this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: tools ## Runs all tests, on the newest Kubernetes
	$(CARGO) test --workspace

test-oldest: ## Runs the tests of the definitions on the oldest Kubernetes
	$(WORLD) tools --oldest
	CRD_API_SERVER=oldest $(CARGO) test --test crds

tools: ## Builds etcd, kube-apiserver, kubectl, helm, ...: some minutes, once
	$(WORLD) tools

demo: ## Shows the operator at work, from nothing to a deleted stage
	$(CARGO) build --bin authentik-stage-operator --bin world --package authentik-stage-operator --package world
	$(WORLD) demo

dev: ## Leaves the demo's world running, to try things in
	$(CARGO) build --bin authentik-stage-operator --bin world --package authentik-stage-operator --package world
	$(WORLD) dev

lint: ## Format, clippy and documentation, as strict as CI
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked --quiet

crds: ## Writes the definitions anew from the types
	$(CARGO) run --quiet --bin authentik-stage-operator -- crd --directory crds
	cp crds/*.yaml charts/authentik-stage-operator/crds/
	cp crds/*.yaml deploy/crds/
