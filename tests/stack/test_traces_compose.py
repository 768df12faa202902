"""Traces of the compose stack: every tier finds the collector in its network."""

import secrets
from pathlib import Path

import httpx

from tests.stack.compose import ComposeStack, compose_stack
from tests.stack.running import ROOT, wait_for
from tests.stack.test_traces import OVER_HTTP, STEPS

FOLDER = Path(__file__).parent
FILES = [str(ROOT / "deploy/docker-compose.traces.yml"), str(FOLDER / "collector.compose.yml")]


def test_a_request_is_one_trace_over_all_containers(compose: ComposeStack, face_file: bytes) -> None:
    """With the override, and a collector in the networks of the gateway and the workers."""
    del compose  # it says that there is an engine
    trace = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace}-{'cd' * 8}-01"}
    printer = str(FOLDER / "print_spans.py")
    with compose_stack("traces", FILES, FACET_WORKERS="1", PRINT_SPANS=printer) as stack:
        assert httpx.post(f"{stack.url}/predict", content=face_file, headers=headers, timeout=60).status_code == 200

        def spans() -> list[str]:
            return sorted(line["span"] for line in stack.log_lines("collector") if line["trace"] == trace)

        wanted = sorted([*OVER_HTTP, *(f"facet-inference: {step}" for step in STEPS)])
        wait_for(lambda: spans() == wanted, "the whole trace")
