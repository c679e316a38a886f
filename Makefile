# `make` alone prints this list. up, down and test need root on Debian or Ubuntu; see README.md.

.DEFAULT_GOAL := help
ENGINE = docker-20.10
FIREWALL = auto
FORM = legacy

.PHONY: help up down test integration matrix plugins bench chaos soak conform mutations power-cuts hostile fuzz partitions site lint format docs manual deb containerfile packages

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

up: ## Install what is missing, start pynet, pyvol and, if no engine answers, pyrun; run the demo
	@scripts/up

down: ## Undo `make up`; networks' and volumes' state stays unless PURGE=1
	@scripts/down $(if $(PURGE),--purge)

test: ## Everything that CI runs, including its own set-up; PYTEST="-k words" narrows it
	@scripts/test $(PYTEST)

bench: ## pynet beside Docker's own bridge driver, as a table; ARGS="--rounds 9 --json FILE", ARGS=overlay or ARGS=volume
	@scripts/bench $(ARGS)

chaos: ## Hundreds of times kill -9 at random moments, FAULT_STEPS=1000 verbs and faults; CHAOS_SEED=… repeats a run
	@scripts/chaos

soak: ## Churn for SOAK_MINUTES=60 on both plugins: memory, descriptors, threads, rows, rules, latency, and whether they are flat
	@.venv/bin/python -m tests.soak

power-cuts: ## 50 copies of a volume that is being written to, on each filesystem; POWER_CUT_SEED=… repeats a run
	@POWER_CUTS=$${POWER_CUTS:-50} .venv/bin/python -m pytest -rA -n 2 tests/volume/test_power_cut.py

hostile: ## 20 000 odd requests to each plugin; HOSTILE_SEED=… repeats a run
	@HOSTILE_REQUESTS=$${HOSTILE_REQUESTS:-20000} .venv/bin/python -m pytest -rA -n 3 tests/network/test_hostile_requests.py tests/volume/test_hostile_requests.py

fuzz: ## Each parser by coverage-guided fuzzing, FUZZ_SECONDS=3600 long; TARGET=codec; FUZZ_KEEP=1 renews the corpora
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-3600} .venv/bin/python -m pytest -rA -n 2 tests/fuzz -k "no_input and $${TARGET:-fails}"

partitions: ## 100 stories of hosts that are cut from etcd, killed, forgotten; 1 000 falsified entries of overlays
	@PARTITIONS_EXAMPLES=$${PARTITIONS_EXAMPLES:-100} PARTITIONS_STEPS=50 FALSIFY_TIMES=$${FALSIFY_TIMES:-1000} \
		.venv/bin/python -m pytest -rA -n 2 tests/cluster/test_partitions.py tests/cluster/test_falsify.py

growth: ## An overlay with 5 000 and with 10 000 endpoints on other hosts: read, read again, one more
	@for endpoints in 5000 10000; do GROWTH_ENDPOINTS=$$endpoints .venv/bin/python -m pytest -q -s tests/cluster/test_growth.py || exit 1; done

conform: ## Cases of packets, or with ARGS=volumes of volumes, through Docker's own driver and ours, side by side: build/conform
	@.venv/bin/python -m integration.bench.conform $(ARGS)

mutations: ## Break the network on purpose: every packet case must notice what it is about
	@MUTATIONS=all .venv/bin/python -m pytest -rA -n 2 tests/conformance/test_breakages.py

integration: ## The integration tests on ENGINE=docker-20.10|docker-26.1|docker-28.5|pyrun, FIREWALL=nftables|iptables, FORM=legacy|managed
	@scripts/test --engine=$(ENGINE) --firewall=$(FIREWALL) --form=$(FORM) --long $(PYTEST)

matrix: ## The whole integration suite on every engine in every form, and docs/matrix.md from it; ONLY="docker-28.5:managed"
	@scripts/matrix $(ONLY)

plugins: ## Build the managed plugins for `docker plugin create`: build/plugins/pynet, build/plugins/pyvol
	@scripts/plugins

site: ## The documents as a site: build/site/index.html
	@.venv/bin/python -m sphinx -q -W --keep-going docs build/site

lint: ## Style and types only; `make test` has them too
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy pluginkit netplugin volplugin console

format: ## Put the code in form
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: ## Generate the option tables and the description of the APIs again
	scripts/docs

manual: ## Man pages and shell completions of all three programs: build/manual
	.venv/bin/python scripts/manual.py build/manual

deb: ## The Debian package: build/deb/pynet-pyvol_….deb
	@scripts/deb

containerfile: ## The managed plugins as podman builds them, on a Debian that is not pulled: the same as those of make plugins
	@.venv/bin/python -m pytest -rA tests/packages/containerfile.py

packages: ## The package on a Debian 12 of its own that is booted: docker, an upgrade, a reboot, removal (needs mmdebstrap)
	@.venv/bin/python -m pytest -rA -s tests/packages/booted.py
