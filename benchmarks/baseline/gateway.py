"""Flask's development server in front of processes with the `mtcnn` package, as in a tutorial.

python benchmarks/baseline/gateway.py --port 8090 --grpc-port 50151 --processes 3
"""

import argparse
import base64
import multiprocessing
import sys

import grpc
from flask import Flask, Response, jsonify, request
from google.protobuf.json_format import MessageToDict

from protos import infer_pb2, infer_pb2_grpc


def work(port: int) -> None:
    """Serve in a new process, which imports TensorFlow."""
    from worker import serve  # noqa: PLC0415 - after the fork

    serve(port)


def create_app(target: str) -> Flask:
    """Return the gateway for the workers at `target`."""
    app = Flask(__name__)

    @app.post("/predict")
    def predict() -> Response:
        image = infer_pb2.Image(raw_data=base64.b64decode(request.get_json()["image"]))
        with grpc.insecure_channel(target) as channel:
            answer = infer_pb2_grpc.InferenceStub(channel).Predict(image)
        return jsonify(MessageToDict(answer, always_print_fields_with_no_presence=True))

    return app


def main() -> int:
    """Start the processes and serve until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=8090)
    parser.add_argument("--grpc-port", type=int, default=50151)
    parser.add_argument("--processes", type=int, default=3)
    arguments = parser.parse_args()
    for _ in range(arguments.processes):
        multiprocessing.Process(target=work, args=(arguments.grpc_port,), daemon=True).start()
    create_app(f"127.0.0.1:{arguments.grpc_port}").run("127.0.0.1", arguments.port, threaded=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
