# `make` alone lists what there is. Everything happens in .venv; nothing is installed anywhere else.
.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
EDITOR := rolebook/web/static/vendor/codemirror.js
LANGUAGE_SERVER := tests/language_server/node_modules/.package-lock.json
PYTHONS := python3 python3.14 python3.13 python3.12 python3.11 python
IS_NEW_ENOUGH := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

.PHONY: help run test check docs smoke bench soak fuzz api-fuzz recipes browser language-server proxy

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' Makefile

run: .venv/run.stamp $(EDITOR) ## Start Rolebook on http://127.0.0.1:8000/
	@exec $(BIN)/python -m rolebook serve

test: .venv/dev.stamp browser language-server $(EDITOR) ## Run every test, those in a browser included
	$(BIN)/pytest -n auto --dist worksteal

check: .venv/dev.stamp ## Lint, types, layers, generated pages, translations
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m docs.generate --check

docs: .venv/dev.stamp ## Write what the pages in docs/ take from the code
	$(BIN)/python -m docs.generate

proxy: .venv/dev.stamp ## Try Rolebook behind nginx with TLS, as docs/examples/nginx.conf has it
	@command -v nginx > /dev/null || PATH="$$PATH:/usr/sbin" command -v nginx > /dev/null || { echo "It needs nginx. Debian, Ubuntu: sudo apt-get install nginx-light" >&2; exit 1; }
	$(BIN)/pytest tests/holding/test_proxy.py

smoke: ## Start in a fresh environment with nothing but requirements.txt
	@python=$$($(FIND_PYTHON)) && folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	"$$python" -m venv "$$folder" && \
	"$$folder/bin/pip" install -qq --disable-pip-version-check -r requirements.txt && \
	"$$folder/bin/python" -m rolebook --help > "$$folder/help" && \
	"$$folder/bin/python" -c 'from rolebook.web.app import create_app; create_app()' && \
	"$$folder/bin/python" -m rolebook --database "$$folder/log.db" ask assistant Hello > "$$folder/answer" && \
	echo "The smoke run is good."

recipes: .venv/dev.stamp ## Run the recipes of docs/gateway.md, each with its own program installed
	$(BIN)/pytest -m recipe tests/test_recipes.py

bench: .venv/dev.stamp ## Measure: rendering, command line, comparisons, log, pages (some minutes)
	$(BIN)/python -m benchmarks.rendering
	$(BIN)/python -m benchmarks.command_line
	$(BIN)/python -m benchmarks.comparison
	$(BIN)/python -m benchmarks.gateway --slow 1000
	$(BIN)/python -m benchmarks.gateway --processes 2 --litellm-workers 2 --slow 1000
	$(BIN)/python -m benchmarks.log_write
	$(BIN)/python -m benchmarks.log_read
	$(BIN)/python -m benchmarks.pages
	$(BIN)/python -m benchmarks.watching
	$(BIN)/python -m benchmarks.hostile
	$(BIN)/python -m benchmarks.session_pages
	$(BIN)/python -m benchmarks.comparison_pages
	$(BIN)/python -m benchmarks.failover

fuzz: .venv/dev.stamp ## Bend 100,000 persona files and templates, and look whether anything breaks (some minutes)
	$(BIN)/python -m tests.fuzz

api-fuzz: .venv/dev.stamp ## Call the API in every way that its document allows, and in many that it does not (SEED=1)
	$(BIN)/python -m tests.api_fuzz --seed $(or $(SEED),1)

language-server: $(LANGUAGE_SERVER) ## Fetch the yaml-language-server that the tests of the schema use

# Only those tests need it; without it they say so.
$(LANGUAGE_SERVER): tests/language_server/package-lock.json
	@if ! command -v npm > /dev/null; then \
		echo "The schema is not tested in an editor: npm, which fetches the yaml-language-server, is not here."; \
	elif npm ci --prefix tests/language_server --ignore-scripts --silent --no-audit --no-fund --fetch-retries=1 \
		--fetch-timeout=20000 > /dev/null 2>&1; then \
		touch $@; \
		echo "Fetched the yaml-language-server (once)."; \
	else \
		echo "The schema is not tested in an editor: npm could not fetch the yaml-language-server."; \
	fi

# The editor of the library's pages. Without it they keep a plain field, which lacks nothing but colours and completion.
$(EDITOR): package-lock.json tools/codemirror.js
	@if ! command -v npm > /dev/null; then \
		echo "The library's pages keep a plain text field: npm, which fetches the editor for them, is not here."; \
	elif npm ci --ignore-scripts --silent --no-audit --no-fund --fetch-retries=1 --fetch-timeout=20000 > /dev/null 2>&1 \
		&& npm run --silent build > /dev/null 2>&1; then \
		echo "Built the editor of the library's pages (once)."; \
	else \
		echo "The library's pages keep a plain text field: npm could not fetch the editor. The next make tries again."; \
	fi

soak: .venv/dev.stamp ## Half an hour among faults and leaving clients: nothing may pile up (MINUTES=30)
	$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),30)

# Prints the first Python that is new enough and can make environments; says what to do if there is none.
define FIND_PYTHON
for name in $(PYTHONS); do \
	if "$$name" -c '$(IS_NEW_ENOUGH)' 2> /dev/null; then echo "$$name"; exit 0; fi; \
done; \
echo "Rolebook needs Python 3.11 or newer, with venv (Debian, Ubuntu: apt install python3 python3-venv)." >&2; \
exit 1
endef

.venv/bin/python:
	@python=$$($(FIND_PYTHON)) && "$$python" -m venv .venv

# A stamp is as new as the last installation, so a second start installs nothing.
.venv/run.stamp: requirements.txt | .venv/bin/python
	@echo "Installing what Rolebook needs into .venv (once) …"
	@$(BIN)/pip install -qq --disable-pip-version-check -r requirements.txt
	@touch $@

.venv/dev.stamp: requirements-dev.txt requirements.txt | .venv/bin/python
	@echo "Installing what the tests need into .venv (once) …"
	@$(BIN)/pip install -qq --disable-pip-version-check -r requirements-dev.txt
	@touch .venv/run.stamp $@

browser:
	@for found in /usr/bin/chromium-headless-shell /usr/bin/chromium; do if [ -x $$found ]; then exit 0; fi; done; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
		echo "Installing chromium for the tests in a browser …"; \
		apt-get update -qq && for package in chromium-headless-shell chromium; do \
			if apt-get install -y -qq --no-install-recommends $$package > /dev/null; then exit 0; fi; \
		done; \
	else \
		echo "The tests in a browser need chromium. Debian: sudo apt-get install chromium-headless-shell" >&2; \
	fi
