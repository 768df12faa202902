"""`python -m inference.process.healthcheck [TARGET]` asks for the service's health; 0: it serves.

For container engines, which know no gRPC; Kubernetes asks by itself.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TARGET = "127.0.0.1:50051"  # the port that the serving workers share
TIMEOUT_SECONDS = 2


def main() -> int:
    """Ask once, and say on stderr what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", default=TARGET)
    target = parser.parse_args().target
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service="Inference"), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            print(f"{target}: {error.details()}", file=sys.stderr)  # noqa: T201 - for who reads the engine's records
            return 1
    return int(answer.status != health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(main())
