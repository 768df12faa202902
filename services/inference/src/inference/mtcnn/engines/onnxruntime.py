"""The engine `onnxruntime`: the networks on ONNX Runtime, which runs nearly everywhere, accelerators included."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

# Since 1.32 ONNX Runtime reports each session to its makers, from the import on, unless it is told not to before.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from inference.mtcnn.networks import BadWeights, Floats, Port, Program

CPU = "CPUExecutionProvider"
# What a provider is told. TF32, CUDA's default, keeps ten bits of a number: too few for the same faces.
OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


class OnnxRuntimeModel:
    """See `networks.Model`. Without the provider that is asked for, or with none, it computes on the CPU."""

    def __init__(self, path: Path, provider: str) -> None:
        # One thread, since the workers share the CPUs: left alone it counts the host's, whatever the cgroup grants.
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # what matters is raised
        present = ort.get_available_providers()
        wanted = [(name, OPTIONS.get(name, {})) for name in dict.fromkeys((provider, CPU)) if name in present]
        try:
            self._session = ort.InferenceSession(path, options, providers=wanted)
        except Exception as error:  # its own errors share no base
            raise BadWeights(f"{path} cannot be read as an ONNX model") from error
        self.device = self._session.get_providers()[0]
        self.inputs = {port.name: _port(port) for port in self._session.get_inputs()}
        self.outputs = {port.name: _port(port) for port in self._session.get_outputs()}

    def compile(self, output: str, shape: tuple[int, ...]) -> Program:
        """See `networks.Model`."""
        return _Program(self._session, output, shape)


class _Program:
    """See `networks.Program`."""

    def __init__(self, session: ort.InferenceSession, output: str, shape: tuple[int, ...]) -> None:
        self.input: Floats = np.zeros(shape, np.float32)
        self._session = session
        self._output = [output]
        self._feed = {session.get_inputs()[0].name: self.input}

    def __call__(self) -> Floats:
        answer: Floats = self._session.run(self._output, self._feed)[0]
        return answer


def _port(port: ort.NodeArg) -> Port:
    shape = tuple(side if isinstance(side, int) else None for side in port.shape)
    return Port(shape, TYPES.get(port.type, port.type))
