"""The engine `openvino`: the networks on OpenVINO's CPU plug-in, the fastest of the runtimes."""

import sys
from pathlib import Path

from inference.mtcnn.networks import BadWeights, Floats, Program, TensorType

# If this package is installed, importing openvino reports to its makers; without it openvino uses a stub.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino as ov  # noqa: E402
from openvino.frontend import FrontEndManager  # noqa: E402

# One thread, because the workers share the CPUs; full precision, so that the faces are the same on all engines.
SETTINGS = {
    "PERFORMANCE_HINT": "LATENCY",
    "NUM_STREAMS": 1,
    "INFERENCE_NUM_THREADS": 1,
    "INFERENCE_PRECISION_HINT": "f32",
    "ENABLE_CPU_PINNING": False,
}
_core = ov.Core()
# Named explicitly: `Core.read_model` tries every format and writes messages to stderr.
_onnx = FrontEndManager().load_by_framework("onnx")


class OpenVinoModel:
    """See `networks.Model`."""

    device = "CPU"

    def __init__(self, path: Path) -> None:
        try:
            self._model = _onnx.convert(_onnx.load(path))
        except Exception as error:  # its errors share no base class
            raise BadWeights(f"{path} cannot be read as an ONNX model") from error
        self.inputs = {port.any_name: _tensor_type(port) for port in self._model.inputs}
        self.outputs = {port.any_name: _tensor_type(port) for port in self._model.outputs}

    def compile(self, output: str, shape: tuple[int, ...]) -> Program:
        whole = self._model.clone()
        model = ov.Model([whole.output(output).node], whole.get_parameters())
        model.reshape(shape)
        return _Program(_core.compile_model(model, "CPU", SETTINGS))


class _Program:
    def __init__(self, compiled: ov.CompiledModel) -> None:
        self._request = compiled.create_infer_request()
        self.input: Floats = self._request.get_input_tensor().data
        self.input[...] = 0
        self._output: Floats = self._request.get_output_tensor().data

    def __call__(self) -> Floats:
        self._request.infer()
        return self._output


def _tensor_type(port: ov.Output) -> TensorType:
    shape = tuple(None if side.is_dynamic else side.get_length() for side in port.partial_shape)
    return TensorType(shape, port.element_type.to_dtype().name)
