"""`python -m inference` starts the supervisor and its workers."""

from __future__ import annotations

import logging
import os
import sys

from pydantic import ValidationError
from telemetry.settings import unknown_variables

from inference.process.metrics_server import metrics_server
from inference.process.ports import PortInUse, check_ports, own_address
from inference.process.supervisor import Policy, Supervisor
from inference.settings import Settings
from telemetry import logs

EXIT_BAD_SETTINGS = 2
EXIT_PORT_IN_USE = 2

# What makes a picture cheaper, set before a worker's libraries are loaded.
WORKER_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",  # NumPy's library would start a thread for each of the host's CPUs
    # A picture's arrays stay with the process for the next one. glibc would give them back to the system each time, and
    # get them again page by page, all zeroed: 2 ms of 30 for 640x480. It comes to these limits by itself after a large
    # picture.
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=67108864",
}


def main() -> int:
    """Check settings and ports, then supervise until told to stop."""
    try:
        settings = Settings()
    except ValidationError as error:
        print(Settings.format_errors(error), file=sys.stderr)  # noqa: T201 - no log yet
        return EXIT_BAD_SETTINGS
    logs.configure(settings.log_level, tier="inference", part="supervisor")
    for sentence in unknown_variables():
        logging.getLogger(__name__).warning(sentence)
    workers = settings.worker_count
    ports = [settings.port, *(settings.worker_port + slot for slot in range(workers + 1))]
    try:
        check_ports(settings.host, ports)
        metrics_address = own_address(settings.metrics_host or settings.host, settings.metrics_port)
    except PortInUse as error:
        logging.getLogger(__name__).critical(str(error))
        return EXIT_PORT_IN_USE
    # gRPC is made after the start of each worker, so its fork handlers have nothing to do.
    os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
    # Any caller can have gRPC complain of a header, in a line that is no JSON.
    os.environ["GRPC_VERBOSITY"] = "NONE"
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ[name] = value
    policy = Policy(
        workers=workers,
        start_seconds=settings.start_seconds,
        silence_seconds=settings.hang_seconds,
        handover_seconds=settings.drain_seconds,
        grace_seconds=settings.grace_seconds,
    )
    supervisor = Supervisor(policy, worker_command)
    with metrics_server(supervisor, metrics_address, settings.metrics_port):
        return supervisor.run()


def worker_command(slot: int, heartbeat_fd: int, worker_id: str) -> list[str]:
    """Give the arguments that start a worker."""
    return [
        sys.executable,
        "-m",
        "inference.process.worker",
        f"--slot={slot}",
        f"--id={worker_id}",
        f"--heartbeat-fd={heartbeat_fd}",
        f"--supervisor={os.getpid()}",
    ]


if __name__ == "__main__":
    sys.exit(main())
