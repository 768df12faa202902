"""`python -m inference.process.healthcheck [TARGET] [--tls FOLDER]` asks for the service's health; 0: it serves.

For container engines, which know no gRPC; Kubernetes asks by itself.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from inference.tls import channel_credentials

TARGET = "127.0.0.1:50051"  # the port that the serving workers share
TIMEOUT_SECONDS = 2


def main() -> int:
    """Ask once, and say on stderr what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", default=TARGET)
    parser.add_argument("--tls", type=Path, help="folder of the certificate with which the workers are asked")
    arguments = parser.parse_args()
    target = arguments.target
    with _channel(target, arguments.tls) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service="Inference"), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            print(f"{target}: {error.details()}", file=sys.stderr)  # noqa: T201 - for who reads the engine's records
            return 1
    return int(answer.status != health_pb2.HealthCheckResponse.SERVING)


def _channel(target: str, folder: Path | None) -> grpc.Channel:
    options = [("grpc.enable_http_proxy", 0)]
    if folder is None:
        return grpc.insecure_channel(target, options)
    named = [*options, ("grpc.ssl_target_name_override", "inference")]
    return grpc.secure_channel(target, channel_credentials(folder), named)


if __name__ == "__main__":
    sys.exit(main())
