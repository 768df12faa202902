"""`python -m inference` starts the supervisor and its workers."""

import logging
import os
import sys

from pydantic import ValidationError

from inference.process.metrics_server import metrics_server
from inference.process.ports import PortInUse, check_ports, own_address
from inference.process.supervisor import Policy, Supervisor
from inference.settings import Settings
from telemetry import logs
from telemetry.settings import unknown_variables

EXIT_CANNOT_START = 2

# Variables that the libraries of a worker read when they are loaded.
WORKER_ENVIRONMENT = {
    "GRPC_ENABLE_FORK_SUPPORT": "0",  # no process forks after gRPC has started in it
    "GRPC_VERBOSITY": "NONE",  # a caller's bad header would make gRPC write a log line that is not JSON
    "OPENBLAS_NUM_THREADS": "1",  # by default NumPy's library starts a thread for each CPU of the host
    # Keeps the memory of an image's arrays in the process for the next image. By default glibc returns it to the system
    # and gets it back page by page, zeroed, which takes 2 of 30 ms for 640x480. After a large image glibc would raise
    # its limits to these by itself.
    "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=67108864",
}


def main() -> int:
    """Check settings and ports, then supervise until told to stop."""
    try:
        settings = Settings()
    except ValidationError as error:
        print(Settings.format_errors(error), file=sys.stderr)  # noqa: T201 - logging is not set up yet
        return EXIT_CANNOT_START
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
        return EXIT_CANNOT_START
    for name, value in WORKER_ENVIRONMENT.items():
        os.environ[name] = value
    policy = Policy(
        workers=workers,
        start_seconds=settings.start_seconds,
        hang_seconds=settings.hang_seconds,
        handover_seconds=settings.drain_seconds,
        grace_seconds=settings.grace_seconds,
    )
    supervisor = Supervisor(policy, worker_command)
    with metrics_server(supervisor, metrics_address, settings.metrics_port):
        return supervisor.run()


def worker_command(slot: int, heartbeat_fd: int, worker_id: str) -> list[str]:
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
