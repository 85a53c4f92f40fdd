# Every target sets up what it needs first. On a fresh Debian 12, python3 and make are enough (root, or the packages it names).
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help reconcile stop status test lint sanity unit integration conformance molecule artifact matrix bench nightly clean

BIN := .venv/bin
# the demo keeps what it remembers below build/, so that clean is clean
DEMO := SCIOPS_SITES_STATE_DIR=$(CURDIR)/build/demo-state ANSIBLE_CONFIG=$(CURDIR)/ansible.cfg $(BIN)/ansible-playbook -i inventories/demo
# arguments for pytest, for example: make unit T="-k limits"
T ?=

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## /\1 | /p' Makefile | awk -F' \\| ' '{printf "  make %-12s %s\n", $$1, $$2}'

reconcile: ## set up, then reconcile the demo inventory: show the plan, start what is missing, show the table
	@tests/tools/venv.sh run
	$(DEMO) reconcile.yml --diff

status: ## show what the demo runs, changing nothing
	@tests/tools/venv.sh run
	$(DEMO) playbooks/status.yml

stop: ## end what the demo started
	@tests/tools/venv.sh run
	$(DEMO) playbooks/stop.yml -e sciops_sites_names=demo

test: ## set up, then run everything below that says pass or fail (about half an hour); the list: tests/tools/gates.sh list
	@tests/tools/gates.sh all

lint: ## ruff, mypy, yamllint, ansible-lint (production), shellcheck, changelog fragments
	@tests/tools/gates.sh lint

sanity: ## ansible-test sanity, all its tests, in a copy of the checkout
	@tests/tools/gates.sh sanity

unit: ## unit and property tests: no hosts, no network (T="pytest arguments")
	@tests/tools/gates.sh unit $(T)

integration: ## tests against real sshd hosts made of kernel namespaces; needs root (T="pytest arguments")
	@tests/tools/gates.sh integration $(T)

conformance: ## what every launcher must do, case by case, on the real thing; docs/conformance.md is made from it (T="pytest arguments")
	@tests/tools/gates.sh conformance $(T)

molecule: ## every scenario in molecule/ on real hosts
	@tests/tools/gates.sh molecule

artifact: ## build the collection, install it in an empty place, read the documentation of every plugin from there
	@tests/tools/gates.sh artifact

matrix: ## the smoke test with ansible-core 2.16, 2.17, 2.18 and 2.19
	@tests/tools/gates.sh matrix

bench: ## measure a pass against xargs ssh, a module task and serial ssh; writes build/bench (5 minutes, tests/bench/README.md)
	@tests/tools/gates.sh bench

nightly: ## the property tests with tens of thousands of fleets
	@HYPOTHESIS_PROFILE=nightly tests/tools/gates.sh unit $(T)

clean: ## end the demo and all test hosts, then remove everything that was made here
	@if [ -d build/demo-state ] && [ -x $(BIN)/ansible-playbook ]; then $(MAKE) --no-print-directory stop; fi
	@if [ -d build/bed ]; then tests/bed/bed.sh down all; fi
	rm -rf build .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache .ansible tests/output
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
