# Two commands matter: `make run` and `make test`. Each sets up a fresh machine by itself.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEBIAN := fonts-noto-color-emoji unicode-data unicode-cldr-core libfribidi0 chromium-headless-shell node-typescript

.PHONY: run test setup debian check format pictures screenshots clean

run: $(VENV)/.serve  ## serve the embedded model; it prints its address and a first example
	$(BIN)/fewstep serve --model emoji --host 127.0.0.1 --port 8642

test: setup debian check  ## everything CI runs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $$(nproc)

check: setup  ## style, types, architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# what serving needs, without PyTorch; everything else comes with `setup`
$(VENV)/.serve: pyproject.toml constraints.txt
	@echo "Installing the server into $(VENV): about 350 MB, 50 MB of downloads (ONNX Runtime, NumPy, FastAPI, no PyTorch)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --constraint constraints.txt --editable '.[serve]'
	@echo "Installed: $$(du -sh $(VENV) | cut -f1)"
	@touch $@

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "Installing everything for development into $(VENV): about 2.6 GB"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(VENV)/.serve $@

debian:  ## the emoji data (the colour font, what draws it, Unicode's names, CLDR's keywords), a browser, tsc
	@if ! dpkg -s $(DEBIAN) >/dev/null 2>&1; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq --no-install-recommends $(DEBIAN); \
	  else \
	    echo "Tests of the emoji data and of the studio are skipped without Debian's packages: $(DEBIAN)"; \
	  fi; \
	fi

format:
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pictures: setup debian  ## the pictures of README and docs
	$(BIN)/fewstep demo --out docs/pictures/demo.png
	$(BIN)/fewstep pictures --out docs/pictures

screenshots: setup debian  ## the studio in its states, light and dark, on three screens: build/screenshots
	$(BIN)/python -m pytest tests/studio/test_screenshots.py --screenshots build/screenshots

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
