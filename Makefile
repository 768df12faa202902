# The one list of tasks; CI calls only these. `make help` prints it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
PORT ?= 8080
WORKERS ?=
BASE_PORT ?=
BIN := .venv/bin
# Each is on or off. What is to hold for all commands stands in .env: what one of them leaves out, it switches off.
OPTIONS := TRACES KEYS RATE_LIMIT TLS
$(foreach option,$(OPTIONS),$(eval $(option) ?= $(shell sed -n 's/^$(option)=//p' .env 2>/dev/null)))
$(foreach option,$(OPTIONS),$(if $(filter-out on off,$($(option))),$(error $(option)=$($(option)) makes no sense: on, or off)))
$(foreach option,$(OPTIONS),$(eval override $(option) := $(filter on,$($(option)))))
PACKAGES := protos telemetry services/inference services/web client
LOCKS := uv serve inference onnxruntime tensorflow web grpcio grpcio-build build dev
BUILT := services/inference/src/inference/mtcnn/built
# What protoc makes; -Iprotos=protos gives the file the import path protos.infer_pb2 whatever the folder is called.
PROTOC = $(BIN)/python -m grpc_tools.protoc -Iprotos=protos --python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) \
	--mypy_grpc_out=quiet:$(1) --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc protos/infer.proto

.PHONY: help
help:  ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# What installing the worker's package compiles and converts (its hatch_build.py).
BUILDS := $(wildcard services/inference/*.py) services/inference/src/inference/mtcnn/kernels.c

# One virtual environment for everything on this machine; made again when a lock, a package's metadata or what it builds
# from changes.
.venv/ready: .venv/uv requirements/dev.txt $(addsuffix /pyproject.toml,$(PACKAGES)) $(BUILDS)
	@echo "setting up .venv (about a minute the first time)" >&2
	@$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements/dev.txt
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(addprefix --editable ,$(PACKAGES))
	@touch $@

# The installer alone, which is all that making the locks needs.
.venv/uv: requirements/uv.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "facet needs Python 3.11 or newer: make PYTHON=/path/to/python3")'
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

.PHONY: serve
serve: .venv/ready  ## run the whole stack on this machine without containers (PORT=8080, WORKERS=one per CPU, BASE_PORT=for all other ports; KEYS=on, RATE_LIMIT=on, TLS=on)
	@set -a; [ ! -f .env ] || . ./.env; exec $(BIN)/python -m tools.serve --port $(PORT) \
	  $(if $(WORKERS),--workers $(WORKERS)) $(if $(BASE_PORT),--base-port $(BASE_PORT)) \
	  $(if $(KEYS),--keys .secrets/keys) $(if $(RATE_LIMIT),--rate-limit envoy/rate-limit) \
	  $(if $(TLS),--edge-tls .secrets/tls/edge)

# The folder alone keeps others from the keys in it, which the users of the containers read. The umask is for them.
SECRETS = umask 022; mkdir -p -m 700 .secrets; chmod 700 .secrets

.PHONY: certificates
certificates: .venv/ready  ## make an authority and certificates to try TLS=on with (NAME=, besides localhost)
	@$(SECRETS); $(BIN)/python -m tools.certificates $(if $(NAME),--name '$(NAME)')

.PHONY: key
key: .venv/ready  ## make an API key and print it (NAME=, DAYS=), or take one back (REMOVE=); else name them
	@$(SECRETS); $(BIN)/python -m tools.keys $(if $(NAME),--add '$(NAME)') $(if $(DAYS),--days $(DAYS)) \
	  $(if $(REMOVE),--remove '$(REMOVE)')

# All of them in three processes, each with a stack of its own: much of the time is waiting. A file's tests stay together.
.PHONY: test
test: .venv/ready  ## run all tests that need no container engine (ARGS= goes to pytest)
	@exec $(BIN)/python -m pytest $(or $(ARGS),--numprocesses=3 --dist=loadfile --no-loadscope-reorder)

.PHONY: test-fast
test-fast: .venv/ready  ## run the tests that need no running stack, within a minute (ARGS= is added)
	@exec $(BIN)/python -m pytest --numprocesses=3 --dist=loadfile --no-loadscope-reorder --ignore=tests/stack --ignore=tests/hostile $(ARGS)

.PHONY: fuzz
fuzz: .venv/ready  ## send damaged pictures, requests and frames to a stack of its own (N=100000, SEED=, ARGS=--case=N for one of them)
	@exec $(BIN)/python -m tests.hostile.fuzz $(if $(N),--cases $(N)) $(if $(SEED),--seed $(SEED)) $(ARGS)

# The compose stack; .env is given to it by name, since compose would look for it in deploy/.
COMPOSE = docker compose $(if $(wildcard .env),--env-file .env) --file deploy/docker-compose.yml \
  $(if $(TRACES),--file deploy/docker-compose.traces.yml) \
  $(if $(KEYS),--file deploy/docker-compose.keys.yml) \
  $(if $(RATE_LIMIT),--file deploy/docker-compose.rate-limit.yml) \
  $(if $(TLS),--file deploy/docker-compose.tls.yml)

# Envoy's configuration with TLS; without it, Envoy reads the one in its image.
.PHONY: .secrets/envoy.yaml
.secrets/envoy.yaml:
	@$(SECRETS); $(PYTHON) tools/edge_tls.py > $@

# Under a tag of its own, and without anybody's .env.
BUILD_FOR_TESTS = FACET_TAG=test docker compose --file deploy/docker-compose.yml build

.PHONY: up
up: $(if $(TLS),.secrets/envoy.yaml)  ## build and start the compose stack, and wait until it answers (GRPCIO=wheel: without compiling gRPC; TRACES=on, KEYS=on, RATE_LIMIT=on, TLS=on)
	@$(COMPOSE) up --build --wait --wait-timeout 300 $(ARGS) || \
	  { $(COMPOSE) logs --no-log-prefix --tail 20 inference web | grep -v '"level": "INFO"' >&2; exit 1; }

.PHONY: down
down:  ## stop the compose stack and remove its containers and networks
	@$(COMPOSE) --profile observability down

# New containers, of the images as they are now, join the old ones; these drain when Envoy knows the others: after at most
# 2 s for the name and 1 s for the health check. Envoy itself is one container, so `make up` is what replaces it.
.PHONY: upgrade
upgrade:  ## replace the running containers of inference and web by new ones, losing no request
	@for service in inference web; do \
	  old=$$($(COMPOSE) ps --quiet $$service); count=$$(wc -w <<< "$$old"); \
	  [ "$$old" ] || { echo "$$service does not run: make up" >&2; exit 1; }; \
	  $(COMPOSE) up --wait --no-deps --no-recreate --no-build --scale $$service=$$((2 * count)) $$service || \
	    { docker rm --force $$($(COMPOSE) ps --all --quiet $$service | grep -vF "$$old"); exit 1; }; \
	  sleep 5; \
	  docker stop $$old >/dev/null; docker rm $$old >/dev/null; \
	done

.PHONY: images
images:  ## build the images of the three services (GRPCIO=wheel: without compiling gRPC)
	@$(COMPOSE) build $(ARGS)

.PHONY: test-stack
test-stack: .venv/ready  ## the end-to-end tests against a compose stack of their own (ARGS= goes to pytest)
	@$(BUILD_FOR_TESTS)
	@exec $(BIN)/python -m pytest --compose tests/stack $(ARGS)

# The long forms of the tests that measure, by processes or, with CONTAINERS=on, in containers.
# $(1): options of pytest, $(2): section of docs/figures.md, $(3): the command that stands there. What fails (pytest's
# status 1) is reported, too; a run that was broken off, or of which ARGS= may have picked a part, is only printed.
MEASURE = status=0; rm -f benchmarks/results/$(2).jsonl; \
  $(BIN)/python -m pytest --figures=benchmarks/results/$(2).jsonl $(1) $(ARGS) || status=$$?; \
  $(if $(ARGS),,[ $$status -gt 1 ] || $(BIN)/python benchmarks/report.py $(2) benchmarks/results/$(2).jsonl "$(3)";) exit $$status

.PHONY: faults
faults: .venv/ready  ## kill, stop, overload and restart parts under load for half an hour; writes docs/figures.md (CONTAINERS=on)
	@$(if $(CONTAINERS),$(BUILD_FOR_TESTS) --quiet)
	@$(call MEASURE,--long $(if $(CONTAINERS),--compose) tests/stack,$(if $(CONTAINERS),containers,faults),make faults$(if $(CONTAINERS), CONTAINERS=on))

.PHONY: hostile
hostile: .venv/ready  ## the fuzz with 100,000 cases, and bombs; writes docs/figures.md
	@$(call MEASURE,--long tests/hostile,hostile,make hostile)

.PHONY: soak
soak: .venv/ready  ## load, bad input and kills for half an hour, or for MINUTES=; only the former writes docs/figures.md
	@$(if $(MINUTES),exec $(BIN)/python -m pytest --soak=$(MINUTES) tests/stack/test_soak.py $(ARGS),$(call MEASURE,--soak=30 tests/stack/test_soak.py,soak,make soak))

.PHONY: bench
bench: .venv/ready  ## the whole path beside the stack of a tutorial, its overhead, its growth; writes docs/figures.md (15 minutes)
	@exec $(BIN)/python benchmarks/path.py $(ARGS)

.PHONY: bench-detector
bench-detector: .venv/ready  ## what a picture costs, beside the mtcnn package and a peer (ARGS=--quick: two pictures)
	@exec $(BIN)/python benchmarks/detector.py $(ARGS)

.PHONY: bench-containers
bench-containers: .venv/ready  ## what the compose stack takes: sizes, time to start and to change, memory
	@$(BUILD_FOR_TESTS) --quiet
	@exec $(BIN)/python benchmarks/containers.py

.PHONY: bench-tiers
bench-tiers: .venv/ready  ## what one picture costs in each tier: CPU time, pictures per second, idle memory
	@exec $(BIN)/python benchmarks/tiers.py $(ARGS)

.PHONY: bench-tuning
bench-tuning: .venv/ready  ## what min_face_size costs and finds; writes the plot of docs/tuning.md
	@exec $(BIN)/python benchmarks/tuning.py $(ARGS)

.PHONY: check
check: .venv/ready  ## format, lint, types, generated code, settings' documents, envoy.yaml, Kubernetes manifests, secrets and locks
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
	  { echo "protos/src/protos differs from what protoc makes: run make protos" >&2; exit 1; }
	@$(MAKE) --no-print-directory secrets
	@$(MAKE) --no-print-directory lock OUT=$$(mktemp -d) CHECK=1

.PHONY: secrets
secrets: .venv/ready  ## look for keys and passwords in the files that git knows, and in all earlier commits
	@git ls-files -z --cached --others --exclude-standard | xargs -0 $(BIN)/betterleaks --no-banner --log-level warn
	@$(BIN)/betterleaks git --no-banner --log-level warn .

.PHONY: audit
audit: .venv/ready  ## ask for known vulnerabilities of all that is locked; needs an index that knows them (ARGS=--where-possible: says so without one)
	@$(BIN)/python tools/audit.py $(ARGS)

.PHONY: protos
protos: .venv/ready  ## make the Python modules and stubs from protos/infer.proto
	$(call PROTOC,protos/src)

.PHONY: settings
settings: .venv/ready  ## write .env.example and docs/settings.md from the settings classes
	$(BIN)/python tools/settings.py

.PHONY: screenshots
screenshots: .venv/ready  ## take the pictures of the documents; needs Chromium and Prometheus (ARGS=page: one of them)
	@exec $(BIN)/python -m tools.screenshots $(ARGS)

# dev is solved first and constrains the rest, so that all images and this machine run the same versions. Existing pins are
# kept where they still fit: UPGRADE=1 takes the newest.
.PHONY: lock
lock: .venv/uv  ## write requirements/*.txt from requirements/*.in (UPGRADE=1: newest versions)
	@out=$(or $(OUT),requirements); [ $$out = requirements ] || cp requirements/*.in requirements/*.txt $$out/; \
	for name in dev $(filter-out dev,$(LOCKS)); do \
	  (cd $$out && $(abspath $(BIN))/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	    --excludes excludes.txt $$([ $$name != grpcio ] || echo --no-deps) \
	    $(if $(UPGRADE),--upgrade) $$(case $$name in dev|grpcio-build) ;; *) echo --constraints dev.txt ;; esac) --output-file $$name.txt $$name.in); \
	done; \
	if [ -n "$(CHECK)" ]; then diff -r requirements $$out || { echo "the locks are behind requirements/*.in: run make lock" >&2; exit 1; }; rm -rf $$out; fi

.PHONY: clean
clean:  ## remove what the other targets made
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis benchmarks/results $(BUILT)
