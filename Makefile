# Thin on purpose: noxfile.py names every check. `.venv` holds nox, and nox makes the rest.

PYTHON ?= python3
NOX := .venv/bin/nox
TOOK := .venv/.test-took

.PHONY: demo test lint bench docs wheels venv clean

demo: venv
	$(NOX) -s demo

# Says beforehand with which Python and for how long: as long as here the last time, if there was one.
test: venv
	@echo "Every check, with $$(.venv/bin/python --version) (make clean, then make test PYTHON=python3.x for another)."
	@echo "It takes $$(cat $(TOOK) 2>/dev/null || echo 'some 10 minutes on two cores; the first time it compiles, too')."
	@begun=$$(date +%s); $(NOX) || exit; seconds=$$(($$(date +%s) - begun)); \
	echo "$$((seconds / 60)) min $$((seconds % 60)) s (as the last time)" > $(TOOK); \
	echo "All checks hold; it took $$((seconds / 60)) min $$((seconds % 60)) s."

lint: venv
	$(NOX) -s lint

bench: venv
	$(NOX) -s bench

docs: venv
	$(NOX) -s docs

wheels: venv
	$(NOX) -s wheels

venv: .venv/.nox-installed

# Without pip inside, since not every Python brings the parts to put it there; the pip outside does the work.
.venv/.nox-installed: Makefile
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "syncline needs Python 3.11 or newer")'
	$(PYTHON) -m venv --clear --without-pip .venv
	$(PYTHON) -m pip --python .venv/bin/python install --quiet 'nox==2026.10.*'
	touch $@

clean:
	rm -rf .venv .nox build dist target docs/_build bench/results .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find python tests examples bench docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
	rm -f python/syncline/*.so
