# make book   set up .venv, run everything on the embedded corpus, build the book
# make test   set up .venv, run the test suite
# make drills kill, starve and crowd commands at random moments; the numbers have to stay the same
# make lint   set up .venv, check the style, who imports whom, and types
# make colab  run every notebook in fresh environments such as Colab's; about an hour, and packages from the index
# make publish REPO=owner/name   write the repository's address into everything that names it
# make clean  remove what was generated, but not .venv and not results of the paper profile

# The first of these that exists and is new enough; override with `make book PYTHON=/path/to/python`.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)

VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed

# As dsaml/__init__.py has it; here for the tests, some of which load torch first.
export OMP_WAIT_POLICY := PASSIVE
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: book test drills lint colab publish clean

book: $(STAMP)
	$(RUN) -m dsaml book --profile demo

test: $(STAMP)
	$(RUN) -m pytest

drills: $(STAMP)
	$(RUN) tests/drills/drills.py
	$(RUN) tests/drills/drill_study.py

colab: $(STAMP)
	$(RUN) tests/colab/fresh.py

publish:
	@test -n "$(REPO)" || { echo "error: name the repository: make publish REPO=owner/name" >&2; exit 1; }
	@"$(PYTHON)" -m book.builder.publish "$(REPO)"

lint: $(STAMP)
	$(RUN) -m ruff check .
	$(VENV)/bin/lint-imports
	$(RUN) -m mypy

clean:
	rm -rf _build cache results/demo
	rm -f models/demo.safetensors

$(STAMP): requirements.txt requirements-nodeps.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "error: $(PYTHON) is not Python 3.11, 3.12 or 3.13; name one that is: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 1; }
	rm -rf $(VENV)
	"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); echo "error: $(PYTHON) cannot make a virtual environment; on Debian and Ubuntu install the package python3-venv" >&2; exit 1; }
	$(RUN) -m pip install --quiet --upgrade "pip>=24"
	$(RUN) -m pip install --quiet -r requirements.txt
	$(RUN) -m pip install --quiet --no-deps --use-pep517 -r requirements-nodeps.txt
	$(RUN) -m pip install --quiet --no-deps --editable .
	touch $(STAMP)
