"""The engine `onnxruntime`: the networks on ONNX Runtime, which supports nearly every platform and accelerator."""

import os
from pathlib import Path

import numpy as np

# From version 1.32 on, ONNX Runtime reports each session to its makers unless this is set before the import.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime as ort

from inference.mtcnn.networks import BadWeights, Floats, Program, TensorType

CPU = "CPUExecutionProvider"
# Options of the providers. TF32, CUDA's default, has a mantissa of ten bits: too few for the same faces.
OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}


class OnnxRuntimeModel:
    """See `networks.Model`. It computes on the CPU if `provider` is empty or not available."""

    def __init__(self, path: Path, provider: str) -> None:
        # One thread, because the workers share the CPUs. The default is one per CPU of the host and ignores the cgroup.
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 4  # errors are raised as exceptions
        present = ort.get_available_providers()
        wanted = [(name, OPTIONS.get(name, {})) for name in dict.fromkeys((provider, CPU)) if name in present]
        try:
            self._session = ort.InferenceSession(path, options, providers=wanted)
        except Exception as error:  # its errors share no base class
            raise BadWeights(f"{path} cannot be read as an ONNX model") from error
        self.device = self._session.get_providers()[0]
        self.inputs = {argument.name: _tensor_type(argument) for argument in self._session.get_inputs()}
        self.outputs = {argument.name: _tensor_type(argument) for argument in self._session.get_outputs()}

    def compile(self, output: str, shape: tuple[int, ...]) -> Program:
        return _Program(self._session, output, shape)


class _Program:
    def __init__(self, session: ort.InferenceSession, output: str, shape: tuple[int, ...]) -> None:
        self.input: Floats = np.zeros(shape, np.float32)
        self._session = session
        self._output = [output]
        self._feed = {session.get_inputs()[0].name: self.input}

    def __call__(self) -> Floats:
        output: Floats = self._session.run(self._output, self._feed)[0]
        return output


def _tensor_type(argument: ort.NodeArg) -> TensorType:
    shape = tuple(side if isinstance(side, int) else None for side in argument.shape)
    return TensorType(shape, TYPES.get(argument.type, argument.type))
