"""Runs the whole stack on this machine without containers: `make serve`.

The parts are the real ones: the supervisor with its workers, gunicorn with the gateway, and Envoy with
envoy/envoy.yaml. All of them listen on loopback. They end together: on Ctrl-C, when all replicas of a part have ended,
or when this process is killed.
"""

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from telemetry.settings import unknown_variables
from tools.serve.options import check_options
from tools.serve.plan import LOGS, CannotServe, Plan, Ports
from tools.serve.processes import Stack
from tools.serve.validation import check_engine, check_extensions


def read_plan() -> Plan:
    parser = argparse.ArgumentParser(
        prog="make serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=Ports.edge, help="the port for clients")
    parser.add_argument("--base-port", type=int, help="the first of the ports for everything else")
    parser.add_argument("--workers", type=int, help="worker processes (default: one per CPU)")
    parser.add_argument("--inference-replicas", type=int, default=1, help="inference services, on 127.0.0.1, .2, ...")
    parser.add_argument("--web-replicas", type=int, default=1, help="gateways, likewise")
    parser.add_argument("--keys", type=Path, help="folder of keys.yaml, for API keys")
    parser.add_argument("--rate-limit", type=Path, help="folder of rate-limit.yaml, for the rate limit")
    parser.add_argument("--edge-tls", type=Path, help="folder of tls.crt and tls.key, for TLS at the edge")
    parser.add_argument("--logs", type=Path, help="folder for the logs (default: .serve/PORT)")
    parser.add_argument("--inference", default="inference", help="the module to run as the inference service")
    arguments = parser.parse_args()
    base = arguments.base_port
    ports = Ports.from_base(arguments.port, base) if base else replace(Ports(), edge=arguments.port)
    folders = {name: getattr(arguments, name) for name in ("keys", "rate_limit", "edge_tls")}
    return Plan(
        ports,
        arguments.workers,
        inference_replicas=arguments.inference_replicas,
        web_replicas=arguments.web_replicas,
        logs=(arguments.logs or LOGS / str(ports.edge)).resolve(),
        inference=arguments.inference,
        **{name: folder and folder.resolve() for name, folder in folders.items()},
    )


def main() -> int:
    plan = read_plan()
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT is ignored when a shell started this in the background
        signal.signal(number, signal.default_int_handler)
    stack, failed = Stack(plan), False
    for sentence in unknown_variables():
        print(f"warning: {sentence}", file=sys.stderr, flush=True)
    try:
        check_engine()
        check_options(plan)
        check_extensions(plan)
        print("starting, a few seconds ...", file=sys.stderr, flush=True)
        stack.start()
        where = f"{plan.scheme}://localhost:{plan.ports.edge}"
        print(f"facet answers at {where} (logs in {os.path.relpath(plan.logs)}/, Ctrl-C stops it)", flush=True)
        stack.wait()
    except KeyboardInterrupt:
        print("stopping ...", file=sys.stderr, flush=True)
    except CannotServe as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        failed = True
    finally:
        unclean = stack.stop()
    if unclean and not failed:
        print(f"error: these parts did not exit cleanly: {', '.join(unclean)}", file=sys.stderr, flush=True)
    return int(failed or bool(unclean))


if __name__ == "__main__":
    sys.exit(main())
