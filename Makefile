# The one list of tasks; CI calls only these. `make help` prints it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PORT ?= 8080
WORKERS ?=
BASE_PORT ?=
BIN := .venv/bin
SERVE := .serve/venv
# Each is on or off: on the command line for one command, or in .env for all. An option that is not set is off.
OPTIONS := TRACES KEYS RATE_LIMIT TLS
$(foreach option,$(OPTIONS),$(eval $(option) ?= $(shell sed -n 's/^$(option)=//p' .env 2>/dev/null)))
$(foreach option,$(OPTIONS),$(if $(filter-out on off,$($(option))),$(error $(option)=$($(option)) is not valid: use on or off)))
$(foreach option,$(OPTIONS),$(eval override $(option) := $(filter on,$($(option)))))
PACKAGES := protos telemetry services/inference services/web client
LOCKS := uv serve inference onnxruntime tensorflow web grpcio grpcio-build build dev
BUILT := services/inference/src/inference/mtcnn/built
# -Iprotos=protos makes the import path protos.infer_pb2.
PROTOC = $(BIN)/python -m grpc_tools.protoc -Iprotos=protos --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) \
	--mypy_grpc_out=quiet:$(1) --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc protos/infer.proto

.PHONY: help
help:  ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

# Editing these rebuilds the kernels and weights (services/inference/hatch_build.py); other sources take effect as they are.
BUILT_FROM := $(wildcard services/inference/*.py) services/inference/src/inference/mtcnn/kernels.c
INSTALLED := requirements/build.txt $(addsuffix /pyproject.toml,$(PACKAGES)) $(BUILT_FROM)
SYNC = $(@D)/bin/uv pip sync --quiet --compile-bytecode --python $(@D)/bin/python --require-hashes
INSTALL = $(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --no-deps

# For development: both services with all engines, the client, and the tools for tests and checks.
.venv/ready: .venv/uv requirements/dev.txt $(INSTALLED)
	@echo "setting up $(@D) (about a minute the first time)" >&2
	@$(SYNC) requirements/dev.txt
	@$(INSTALL) --no-build-isolation $(addprefix --editable ,$(PACKAGES))
	@touch $@

# For `make serve`: only what it runs. uv builds the kernels and weights in a temporary environment, from locked packages.
$(SERVE)/ready: $(SERVE)/uv requirements/serve.txt $(INSTALLED)
	@echo "setting up $(@D) (about half a minute the first time)" >&2
	@$(SYNC) requirements/serve.txt
	@$(INSTALL) --build-constraints requirements/build.txt $(addprefix --editable ,$(filter-out client,$(PACKAGES)))
	@touch $@

# The installer alone; `make lock` needs nothing else.
.venv/uv $(SERVE)/uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "facet needs Python 3.11 or newer: make PYTHON=/path/to/python3")'
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

# Arguments of tools.serve and tools.serve.options: the files of the options that are on.
FILES = $(if $(KEYS),--keys .secrets/keys) $(if $(RATE_LIMIT),--rate-limit envoy/rate-limit) $(if $(TLS),--edge-tls .secrets/tls/edge)

.PHONY: serve
serve: $(SERVE)/ready  ## run the whole stack on this machine without containers (PORT=8080, WORKERS=one per CPU, BASE_PORT=for all other ports; KEYS=on, RATE_LIMIT=on, TLS=on)
	@set -a; [ ! -f .env ] || . ./.env; exec $(SERVE)/bin/python -m tools.serve --port $(PORT) \
	  $(if $(WORKERS),--workers $(WORKERS)) $(if $(BASE_PORT),--base-port $(BASE_PORT)) $(FILES)

# Containers run as other users and must be able to read these files, whatever the umask. The folder's mode keeps out all
# other users of this machine.
SECRETS = umask 022; mkdir -p -m 700 .secrets; chmod 700 .secrets

.PHONY: certificates
certificates: $(SERVE)/ready  ## make a certificate and its authority, to try TLS=on (NAME=a host name besides localhost)
	@$(SECRETS); $(SERVE)/bin/python -m tools.certificates $(if $(NAME),--name '$(NAME)')

.PHONY: key
key: $(SERVE)/ready  ## make an API key and print it (NAME=, DAYS=), revoke one (REMOVE=), or list their names
	@$(SECRETS); $(SERVE)/bin/python -m tools.keys $(if $(NAME),--add '$(NAME)') $(if $(DAYS),--days $(DAYS)) \
	  $(if $(REMOVE),--remove '$(REMOVE)')

# Three processes, each with its own stack, since tests mostly wait. The tests of a file share a process.
.PHONY: test
test: .venv/ready $(SERVE)/ready  ## run all tests that need no container engine (ARGS= goes to pytest)
	@exec $(BIN)/python -m pytest $(or $(ARGS),--numprocesses=3 --dist=loadfile --no-loadscope-reorder)

.PHONY: test-fast
test-fast: .venv/ready  ## run the tests that need no running stack, without those of hostile input, within a minute (ARGS= is added)
	@exec $(BIN)/python -m pytest --numprocesses=4 --dist=loadfile --no-loadscope-reorder --ignore=tests/stack --ignore=tests/hostile $(ARGS)

.PHONY: fuzz
fuzz: .venv/ready  ## send damaged images, requests and frames to a new stack (N=100000, SEED=, ARGS=--case=N for one of them)
	@exec $(BIN)/python -m tests.hostile.fuzz $(if $(N),--cases $(N)) $(if $(SEED),--seed $(SEED)) $(ARGS)

# Compose would look for .env in deploy/.
COMPOSE = docker compose $(if $(wildcard .env),--env-file .env) --file deploy/docker-compose.yml \
  $(if $(TRACES),--file deploy/docker-compose.traces.yml) \
  $(if $(KEYS),--file deploy/docker-compose.keys.yml) \
  $(if $(RATE_LIMIT),--file deploy/docker-compose.rate-limit.yml) \
  $(if $(TLS),--file deploy/docker-compose.tls.yml)

# Envoy's configuration with TLS at the edge, in place of the one in its image.
.PHONY: .secrets/envoy.yaml
.secrets/envoy.yaml:
	@$(SECRETS); $(PYTHON) tools/edge_tls.py > $@

# Images for tests have their own tag and ignore .env.
BUILD_FOR_TESTS = FACET_TAG=test docker compose --file deploy/docker-compose.yml build

.PHONY: up
up: $(if $(TLS),.secrets/envoy.yaml)  ## build and start the compose stack and wait until it is ready (GRPCIO=wheel: without compiling gRPC; TRACES=on, KEYS=on, RATE_LIMIT=on, TLS=on)
	@$(if $(strip $(FILES)),$(PYTHON) -m tools.serve.options $(FILES))
	@$(COMPOSE) up --build --wait --wait-timeout 300 $(ARGS) || \
	  { $(COMPOSE) logs --no-log-prefix --tail 20 inference web | grep -v '"level": "INFO"' >&2; exit 1; }

.PHONY: down
down:  ## stop the compose stack and remove its containers and networks
	@$(COMPOSE) --profile observability down

# Starts new containers beside the old ones, and stops the old ones when Envoy knows the new ones, which takes at most 2 s
# for DNS and 1 s for the health check. Envoy itself is one container; `make up` replaces it.
.PHONY: upgrade
upgrade:  ## replace the running containers of inference and web without losing a request
	@for service in inference web; do \
	  old=$$($(COMPOSE) ps --quiet $$service); count=$$(wc -w <<< "$$old"); \
	  [ "$$old" ] || { echo "$$service is not running; start it with: make up" >&2; exit 1; }; \
	  $(COMPOSE) up --wait --no-deps --no-recreate --no-build --scale $$service=$$((2 * count)) $$service || \
	    { docker rm --force $$($(COMPOSE) ps --all --quiet $$service | grep -vF "$$old"); exit 1; }; \
	  sleep 5; \
	  docker stop $$old >/dev/null; docker rm $$old >/dev/null; \
	done

.PHONY: images
images:  ## build the images of the three services (GRPCIO=wheel: without compiling gRPC)
	@$(COMPOSE) build $(ARGS)

.PHONY: test-stack
test-stack: .venv/ready  ## run the end-to-end tests against a new compose stack (ARGS= goes to pytest)
	@$(BUILD_FOR_TESTS)
	@exec $(BIN)/python -m pytest --compose tests/stack $(ARGS)

# Runs the long form of tests that measure, and writes their figures.
# $(1): options of pytest, $(2): section of docs/figures.md, $(3): the command shown there. The page is written even if
# tests fail (pytest's status 1), but not if the run was interrupted or ARGS= may have selected only a part of it.
MEASURE = status=0; rm -f benchmarks/results/$(2).jsonl; \
  $(BIN)/python -m pytest --figures=benchmarks/results/$(2).jsonl $(1) $(ARGS) || status=$$?; \
  $(if $(ARGS),,[ $$status -gt 1 ] || $(BIN)/python benchmarks/report.py $(2) benchmarks/results/$(2).jsonl "$(3)";) exit $$status

.PHONY: faults
faults: .venv/ready  ## kill, stop, overload and restart parts under load for half an hour; writes docs/figures.md (CONTAINERS=on)
	@$(if $(CONTAINERS),$(BUILD_FOR_TESTS) --quiet)
	@$(call MEASURE,--long $(if $(CONTAINERS),--compose) tests/stack,$(if $(CONTAINERS),containers,faults),make faults$(if $(CONTAINERS), CONTAINERS=on))

.PHONY: hostile
hostile: .venv/ready  ## send 100,000 damaged images, requests and frames, and decompression bombs; writes docs/figures.md
	@$(call MEASURE,--long tests/hostile,hostile,make hostile)

.PHONY: soak
soak: .venv/ready  ## run load, bad input and kills for half an hour; writes docs/figures.md (MINUTES=5: for five minutes, without writing)
	@$(if $(MINUTES),exec $(BIN)/python -m pytest --soak=$(MINUTES) tests/stack/test_soak.py $(ARGS),$(call MEASURE,--soak=30 tests/stack/test_soak.py,soak,make soak))

.PHONY: bench
bench: .venv/ready  ## compare the whole path with a tutorial's stack, and measure overhead and scaling; writes docs/figures.md (15 minutes)
	@exec $(BIN)/python benchmarks/path.py $(ARGS)

.PHONY: bench-detector
bench-detector: .venv/ready  ## compare the detector with the mtcnn package and the fastest other implementation (ARGS=--quick: two images)
	@exec $(BIN)/python benchmarks/detector.py $(ARGS)

.PHONY: bench-containers
bench-containers: .venv/ready  ## measure the compose stack: image sizes, start and update times, memory
	@$(BUILD_FOR_TESTS) --quiet
	@exec $(BIN)/python benchmarks/containers.py

.PHONY: bench-tiers
bench-tiers: .venv/ready  ## measure what one image costs in each tier: CPU time, images per second, idle memory
	@exec $(BIN)/python benchmarks/tiers.py $(ARGS)

.PHONY: bench-tuning
bench-tuning: .venv/ready  ## measure what min_face_size costs and finds; writes the plot of docs/tuning.md
	@exec $(BIN)/python benchmarks/tuning.py $(ARGS)

.PHONY: check
check: .venv/ready  ## check format, lint, types, generated code, documented settings, envoy.yaml, manifests, secrets and locks
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/hadolint services/*/Dockerfile envoy/Dockerfile
	$(BIN)/python -m tools.check_envoy
	@for overlay in . overlays/local overlays/production; do $(BIN)/kubectl kustomize deploy/k8s/$$overlay | \
	  $(BIN)/kubernetes-validate --strict --quiet --no-warn --kubernetes-version 1.32 /dev/stdin; done; echo "the manifests are valid"
	$(BIN)/python tools/settings.py --check
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call PROTOC,$$fresh) && \
	  diff -r -x __init__.py -x py.typed -x __pycache__ "$$fresh/protos" protos/src/protos || \
	  { echo "protos/src/protos differs from what protoc writes; run: make protos" >&2; exit 1; }
	@$(MAKE) --no-print-directory secrets
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && cp requirements/* $$fresh && \
	  $(MAKE) --no-print-directory lock OUT=$$fresh && diff -r requirements $$fresh || \
	  { echo "requirements/*.txt are behind requirements/*.in; run: make lock" >&2; exit 1; }

.PHONY: secrets
secrets: .venv/ready  ## search the working tree and all commits for keys and passwords
	@git ls-files -z --cached --others --exclude-standard | xargs -0 $(BIN)/betterleaks --no-banner --log-level warn
	@$(BIN)/betterleaks git --no-banner --log-level warn .

.PHONY: audit
audit: .venv/ready  ## look up known vulnerabilities of all locked packages; needs an index that lists them (ARGS=--where-possible: succeed without one)
	@$(BIN)/python tools/audit.py $(ARGS)

.PHONY: protos
protos: .venv/ready  ## generate the Python modules and stubs from protos/infer.proto
	$(call PROTOC,protos/src)

.PHONY: settings
settings: .venv/ready  ## write .env.example and docs/settings.md from the settings classes
	$(BIN)/python tools/settings.py

.PHONY: screenshots
screenshots: .venv/ready  ## take the screenshots of the documents; needs Chromium (ARGS=page: one of them)
	@exec $(BIN)/python -m tools.screenshots $(ARGS)

# dev is resolved first and constrains the others, so that all images and this machine run the same versions. Versions that
# still fit are kept.
.PHONY: lock
lock: .venv/uv  ## write requirements/*.txt from requirements/*.in (UPGRADE=1: newest versions)
	@cd $(or $(OUT),requirements); for name in dev $(filter-out dev,$(LOCKS)); do \
	  case $$name in dev|grpcio-build) extra= ;; grpcio) extra="--no-deps --constraints dev.txt" ;; *) extra="--constraints dev.txt" ;; esac; \
	  $(abspath $(BIN))/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --excludes excludes.txt $(if $(UPGRADE),--upgrade) $$extra --output-file $$name.txt $$name.in; \
	done

.PHONY: clean
clean:  ## remove everything that the other targets made, except .secrets
	rm -rf .venv .serve .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/results $(BUILT)
