"""`python -m inference.process.healthcheck [TARGET]` checks the service's health and exits with 0 if it serves.

Container engines need it because they do not speak gRPC. Kubernetes has its own gRPC probes.
"""

import argparse
import sys
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TARGET = "127.0.0.1:50051"  # the port that all serving workers share
TIMEOUT_SECONDS = 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", default=TARGET)
    target = parser.parse_args().target
    with grpc.insecure_channel(target, [("grpc.enable_http_proxy", 0)]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(service="Inference"), timeout=TIMEOUT_SECONDS)
        except grpc.RpcError as error:
            print(f"{target}: {error.details()}", file=sys.stderr)  # noqa: T201 - the container engine records it
            return 1
    return int(answer.status != health_pb2.HealthCheckResponse.SERVING)


if __name__ == "__main__":
    sys.exit(main())
