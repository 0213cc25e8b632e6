# Everything a developer types. The two commands of the README, `make demo` and `make test`, need nothing done before.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
ROOMS := contract linux artifact daemon kube certs webhook controller agent snapshotctl images cluster demo
# One after another, or side by side if joined by +, which takes a third less: one tier waits while the other computes.
TIERS ?= unit cluster+engine+node
GPU_KIT ?= $(CURDIR)/build/gpu-kit
# Of the machine with the card.
GPU_PYTHON ?= 3.12
GPU_PYTEST = $(PYTHON) -m pytest -c /dev/null --rootdir=. --import-mode=importlib -p no:cacheprovider \
	-o asyncio_mode=auto -o 'markers=gpu: needs a real CUDA device'
VLLM_KIT ?= $(CURDIR)/build/vllm-kit
# Where it is unpacked: on the root file system, which the containers' overlays show, and readable to every user.
VLLM_HOME ?= /opt/vllm-kit
CLUSTER_KIT ?= $(CURDIR)/build/cluster-kit
CLUSTER_HOME ?= /opt/cluster-kit

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  %-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.installed: requirements.lock
	@command -v $(PYTHON) >/dev/null || { echo "python3 is missing: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed (set PYTHON=...)" >&2; exit 1; }
	@echo "==> Python environment in $(VENV) (first time: about a minute)"
	@$(PYTHON) -m venv $(VENV) || { echo "cannot make a virtual environment, see above; on Debian it needs: apt-get install python3-venv" >&2; exit 1; }
	@$(PY) -m pip install --quiet --require-hashes -r requirements.lock
	@touch $@

# The command runs the sources of this checkout; -P keeps it from importing what the current folder holds.
$(VENV)/bin/snapshotctl: $(VENV)/.installed
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -P -m snapshotctl "$$@"\n' "$(CURDIR)" "$(abspath $(PY))" >$@
	@chmod +x $@

$(VENV)/bin/kubectl-snapshot: $(VENV)/bin/snapshotctl
	@ln -sf snapshotctl $@

.PHONY: setup
setup: $(VENV)/bin/kubectl-snapshot ## the Python environment with snapshotctl, also as kubectl's plug-in, nothing else

.PHONY: demo
demo: setup ## the whole system at work on a real Kubernetes (yours if KUBECONFIG is set)
	@$(PY) -m demo $(DEMO_ARGS)

.PHONY: test
test: setup ## every test that this machine can run, fast to slow
	@$(PY) -m cluster build
	@$(PY) tests/tiers.py $(TIERS) -- $(PYTEST_ARGS)

.PHONY: test-unit test-cluster test-node
test-unit: setup ## no API server, no node; on two processes
	@$(PY) tests/tiers.py unit -- $(PYTEST_ARGS)
test-cluster: setup ## against a real API server
	@$(PY) -m cluster build
	@$(PY) tests/tiers.py cluster -- $(PYTEST_ARGS)
test-node: setup ## on a whole cluster: kubelet, containerd, CRIU
	@$(PY) -m cluster build
	@$(PY) tests/tiers.py engine+node -- $(PYTEST_ARGS)

.PHONY: test-gpu
test-gpu: ## on a real card, as root: needs the driver, a PYTHON with PyTorch and pytest, and build/gpu-kit
	@SNAPSHOT_TEST_KIT=$(GPU_KIT) PYTHONPATH=.:sdk:$(GPU_KIT)/site $(GPU_PYTEST) tests/gpu --ignore tests/gpu/pods $(PYTEST_ARGS)

.PHONY: test-gpu-2
test-gpu-2: ## of test-gpu those for two cards: several devices, NCCL, another card; on a machine that has them
	@[ "$$(ls -d /dev/nvidia[0-9]* 2>/dev/null | wc -l)" -ge 2 ] || { echo "two cards are needed: /dev/nvidia[0-9]* names fewer" >&2; exit 1; }
	@SNAPSHOT_TEST_KIT=$(GPU_KIT) PYTHONPATH=.:sdk:$(GPU_KIT)/site $(GPU_PYTEST) tests/gpu --ignore tests/gpu/pods -k TwoCards $(PYTEST_ARGS)

.PHONY: gpu-kit
gpu-kit: setup ## what test-gpu needs, made where registries can be reached: criu, runc, standby, wheels for GPU_PYTHON
	@$(PY) -m tests.support.fixtures.tools $(GPU_KIT) $(GPU_PYTHON)

.PHONY: test-vllm
test-vllm: ## a real vLLM on a real card, as root: needs what test-gpu needs, and build/vllm-kit instead of build/gpu-kit
	@PYTHONPATH=. $(PYTHON) -m tests.support.vllm_kit unpack $(VLLM_KIT) $(VLLM_HOME)
	@SNAPSHOT_TEST_KIT=$(VLLM_HOME)/gpu-kit SNAPSHOT_TEST_VLLM=$(VLLM_HOME) \
		PYTHONPATH=.:sdk:$(VLLM_HOME)/gpu-kit/site $(GPU_PYTEST) tests/gpu/test_vllm_on_a_card.py $(PYTEST_ARGS)

.PHONY: test-cards
test-cards: ## all of test-gpu and test-vllm by one command; needs what test-vllm needs
	@PYTHONPATH=. $(PYTHON) -m tests.support.vllm_kit unpack $(VLLM_KIT) $(VLLM_HOME)
	@SNAPSHOT_TEST_KIT=$(VLLM_HOME)/gpu-kit SNAPSHOT_TEST_VLLM=$(VLLM_HOME) \
		PYTHONPATH=.:sdk:$(VLLM_HOME)/gpu-kit/site $(GPU_PYTEST) tests/gpu --ignore tests/gpu/pods $(PYTEST_ARGS)

.PHONY: vllm-kit
vllm-kit: gpu-kit ## what test-vllm needs: gpu-kit, and vLLM with device code of one architecture, in 51 MB
	@$(PY) -m tests.support.vllm_kit pack $(GPU_KIT) $(VLLM_KIT)

.PHONY: test-gpu-pods
test-gpu-pods: ## pods with a real card below a real kubelet, as root: needs PyTorch, pytest and grpcio, and build/cluster-kit
	@test -d $(CLUSTER_HOME) || PYTHONPATH=. $(PYTHON) -m tests.support.cluster_kit unpack $(CLUSTER_KIT) $(CLUSTER_HOME)
	@SNAPSHOT_TEST_CLUSTER=$(CLUSTER_HOME) DYNAMO_SNAPSHOT_CACHE=$(CLUSTER_HOME)/cache PATH=$(CLUSTER_HOME)/bin:$$PATH \
		PYTHONPATH=.:sdk:$(CLUSTER_HOME)/site $(GPU_PYTEST) tests/gpu/pods $(PYTEST_ARGS)

.PHONY: cluster-kit
cluster-kit: setup ## what test-gpu-pods needs: the embedded cluster, the images, the container toolkit, in pieces of 48 MB
	@$(PY) -m cluster build
	@$(PY) -m tests.support.cluster_kit pack $(CLUSTER_KIT)

.PHONY: explore
explore: setup ## the property tests with new examples in each run
	@$(PY) -m pytest tests/unit --hypothesis-profile explore $(PYTEST_ARGS)

FUZZ := .venv-fuzz
$(FUZZ)/.installed: requirements-fuzz.lock $(VENV)/.installed
	@$(PY) -m pip install --quiet --upgrade --no-deps --require-hashes --only-binary :all: --target $(FUZZ) \
		-r requirements-fuzz.lock || { echo "the fuzzing engine has wheels for Python 3.11 to 3.13 on x86_64 only" >&2; exit 1; }
	@touch $@
.PHONY: fuzz
fuzz: $(FUZZ)/.installed ## every reader of what others wrote, fuzzed: SECONDS=60 each, all or TARGETS="words values"
	@PYTHONPATH=.:sdk:$(FUZZ) $(PY) -m fuzz --seconds $(or $(SECONDS),60) $(TARGETS)

.PHONY: check
check: setup ## linters, types, import map, generated files
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@PYTHONPATH=.:sdk $(VENV)/bin/lint-imports
	@$(PY) -m contract --check

.PHONY: coverage site
coverage: setup ## how much of the decisions the unit tests reach; fails below pyproject.toml's fail_under
	@$(VENV)/bin/coverage run -m pytest tests/unit/controller tests/unit/webhook tests/unit/certs -q $(PYTEST_ARGS)
	@$(VENV)/bin/coverage report
site: setup ## the pages of docs/ as a site, in build/site
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

.PHONY: format generate lock
format: setup ## format and fix what can be fixed
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .
generate: setup ## CRD, values schema and reference pages from the contract
	@$(PY) -m contract
lock: setup ## requirements.lock from pyproject.toml
	@$(VENV)/bin/pip-compile --quiet --extra webhook --extra controller --extra agent --extra cli --extra dev \
		--generate-hashes --allow-unsafe --strip-extras --no-emit-index-url --no-emit-find-links \
		--no-emit-trusted-host --output-file requirements.lock pyproject.toml
	@sed -i 's/^#    pip-compile.*/#    make lock/' requirements.lock

.PHONY: cluster-up cluster-down images
cluster-up: setup ## the embedded cluster, left running
	@$(PY) -m cluster up
cluster-down: setup ## stop it, leaving nothing behind
	@$(PY) -m cluster down
images: setup ## all container images as archives, in build/images (IMAGES=DIR)
	@$(PY) -m images build all -o $(or $(IMAGES),build/images)

# The seeds' targets, for those who have a container engine.
.PHONY: docker-build-agent docker-push-agent docker-build-placeholder docker-push-placeholder docker-build-control-plane docker-push-control-plane docker-build-tools docker-push-tools
docker-build-agent docker-push-agent docker-build-placeholder docker-push-placeholder docker-build-control-plane docker-push-control-plane docker-build-tools docker-push-tools:
	@$(MAKE) -C deploy/snapshot $@
