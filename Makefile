# `make` alone prints this list. up, down and test need root on Debian or Ubuntu; see README.md.

.DEFAULT_GOAL := help
ENGINE = docker-20.10
FIREWALL = auto

.PHONY: help up down test integration plugins bench chaos lint format docs

help: ## Print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

up: ## Install what is missing, start pynet, pyvol and an engine if none answers, run the demo
	@scripts/up

down: ## Undo `make up`; networks' and volumes' state stays unless PURGE=1
	@scripts/down $(if $(PURGE),--purge)

test: ## Everything that CI runs, including its own set-up; PYTEST="-k words" narrows it
	@scripts/test $(PYTEST)

bench: ## pynet beside Docker's own bridge driver, as a table; ARGS="--rounds 9 --json FILE"
	@scripts/bench $(ARGS)

chaos: ## 200 times kill -9 at random moments; CHAOS_SEED=… repeats a run
	@scripts/chaos

integration: ## The integration tests on ENGINE=docker-20.10|docker-26.1|docker-28.5, with FIREWALL=nftables|iptables
	@scripts/test --engine=$(ENGINE) --firewall=$(FIREWALL) $(PYTEST)

plugins: ## Build the managed plugins for `docker plugin create`: build/plugins/pynet, build/plugins/pyvol
	@scripts/plugins

lint: ## Style and types only; `make test` has them too
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy pluginkit netplugin volplugin

format: ## Put the code in form
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

docs: ## Generate the option tables again
	scripts/docs
