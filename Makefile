PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
export HF_HUB_OFFLINE = 1

.PHONY: demo test check clean

demo: $(VENV)/installed  ## train a small planner from nothing and write a report (10 minutes on two cores)
	$(BIN)/forethought run examples/recipes/pointer.toml

test: $(VENV)/installed  ## the test suite
	$(BIN)/pytest -n 2

check: $(VENV)/installed  ## what CI checks besides the tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:
	rm -rf $(VENV) runs

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch==$$(sed -n 's/^torch==//p' constraints.txt)
	$(BIN)/pip install --quiet -c constraints.txt -e '.[search,train,docker,remote,e2b,server,dev]'
	touch $@
