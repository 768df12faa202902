"""The engines: how they are loaded, and the errors when they cannot be."""

import shutil
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from inference.mtcnn.detector import DetectOptions, Detector, Face
from inference.mtcnn.engines import EngineNotInstalled, EngineSettings, UnknownEngine, load_detector
from inference.mtcnn.networks import OWN_WEIGHTS, BadWeights
from inference.mtcnn.steps import Abandoned, Steps
from onnx import TensorProto, helper
from PIL import Image

ONNX_ENGINES = ["openvino", "onnxruntime"]
RNET_INPUT: list[int | str] = ["n", 3, 24, 24]


@pytest.fixture
def own_weights(tmp_path: Path) -> Path:
    """A user's directory with three networks, at first copies of the installed ones."""
    for name in ("pnet", "rnet", "onet"):
        shutil.copy(OWN_WEIGHTS / f"{name}.onnx", tmp_path)
    return tmp_path


def write(
    path: Path,
    shape: list[int | str],
    *,
    source: str = "crops",
    wide: int = 5,
    type_: int = TensorProto.FLOAT,
) -> None:
    """Write a network that only averages, with the input crops (n, 3, side, side) and the output faces (n, wide)."""
    nodes = [
        helper.make_node("ReduceMean", [source], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["faces"]),
    ]
    weight = helper.make_tensor("weight", type_, [3, wide], [0.1] * 3 * wide)
    inputs = [helper.make_tensor_value_info(source, type_, shape)]
    outputs = [helper.make_tensor_value_info("faces", type_, [shape[0], wide])]
    graph = helper.make_graph(nodes, "other", inputs, outputs, [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


@pytest.mark.parametrize("engine", ONNX_ENGINES)
def test_each_part_of_the_cascade_is_a_step(
    engine: str, request: pytest.FixtureRequest, astronaut: Image.Image
) -> None:
    """Each is timed, and none begins after the deadline."""
    detector: Detector = request.getfixturevalue(engine)
    steps = Steps()
    (face,) = detector.detect(np.asarray(astronaut), DetectOptions(), steps)
    assert (round(face.box.up_left.x), round(face.box.up_left.y)) == (182, 64)
    assert (detector.engine, detector.device) == (engine, "CPU" if engine == "openvino" else "CPUExecutionProvider")
    assert set(steps.milliseconds) == {"pyramid", "pnet", "boxes", "nms", "crops", "rnet", "onet"}
    late = Steps(deadline=time.monotonic())
    with pytest.raises(Abandoned):
        detector.detect(np.asarray(astronaut), DetectOptions(), late)
    assert late.milliseconds == {}


def test_small_images_have_no_face_and_raise_nothing(openvino: Detector) -> None:
    """The pyramid of some of them has no level."""
    for height, width, size in product([1, 12, 19, 40], [1, 11, 12, 13, 20, 33], [12, 20, 50]):
        noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
        assert openvino.detect(noise, DetectOptions(min_face_size=size), Steps()) == [], (height, width, size)


def test_pixels_need_not_be_contiguous(openvino: Detector, astronaut: Image.Image) -> None:
    """A view of a larger array has the faces of its copy."""
    view = np.asarray(astronaut)[20:300, 120:400]
    assert not view.flags.c_contiguous
    found = openvino.detect(view, DetectOptions(), Steps())
    assert found == openvino.detect(view.copy(), DetectOptions(), Steps())
    assert len(found) == 1


def test_an_unknown_engine_is_explained() -> None:
    """The message lists the engines."""
    with pytest.raises(UnknownEngine, match="FACET_ENGINE can be: openvino, onnxruntime, tensorflow"):
        load_detector("caffe", EngineSettings())


@pytest.mark.parametrize(
    ("engine", "package"), [("openvino", "openvino"), ("onnxruntime", "onnxruntime"), ("tensorflow", "tensorflow")]
)
def test_an_engine_that_is_not_installed_is_explained(
    engine: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says how to install it."""
    monkeypatch.delitem(sys.modules, f"inference.mtcnn.engines.{engine}", raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(EngineNotInstalled, match=rf"{package}'.*: pip install 'facet-inference\[{engine}\]'"):
        load_detector(engine, EngineSettings())


@pytest.mark.parametrize("engine", ONNX_ENGINES)
def test_a_users_own_weights_are_used(engine: str, own_weights: Path, astronaut: Image.Image) -> None:
    """A copy of the installed ones finds the face; an O-Net that only averages does not."""
    pixels = np.asarray(astronaut.resize((256, 256)))

    def find() -> list[Face]:
        return load_detector(engine, EngineSettings(weights=own_weights)).detect(pixels, DetectOptions(), Steps())

    (face,) = find()
    write(own_weights / "onet.onnx", ["n", 3, 48, 48], wide=15)
    assert face not in find()


@pytest.mark.parametrize("engine", ONNX_ENGINES)
def test_the_first_layers_weights_may_be_computed(engine: str, own_weights: Path, astronaut: Image.Image) -> None:
    """The file may compute them from constants, as some exporters write it."""
    model = onnx.load(own_weights / "pnet.onnx")
    slope = next(node for node in model.graph.node if node.output[0] == "first_slope")
    slope.output[0] = "slope"
    model.graph.node.append(helper.make_node("Identity", ["slope"], ["first_slope"]))
    onnx.save(model, own_weights / "pnet.onnx")
    detector = load_detector(engine, EngineSettings(weights=own_weights))
    assert len(detector.detect(np.asarray(astronaut.resize((256, 256))), DetectOptions(), Steps())) == 1


@pytest.mark.parametrize("engine", ONNX_ENGINES)
class TestBadWeights:
    """The message names the file and what is wrong with it."""

    def load(self, engine: str, directory: Path) -> str:
        with pytest.raises(BadWeights) as raised:
            load_detector(engine, EngineSettings(weights=directory))
        return str(raised.value)

    def test_a_missing_file(self, engine: str, own_weights: Path) -> None:
        (own_weights / "rnet.onnx").unlink()
        assert self.load(engine, own_weights) == (
            f"there is no file {own_weights}/rnet.onnx; the weights are pnet.onnx, rnet.onnx and onet.onnx"
        )

    @pytest.mark.parametrize("content", [b"not ONNX", b"\x00" * 1000])
    def test_a_file_that_is_no_network(self, engine: str, own_weights: Path, content: bytes) -> None:
        (own_weights / "pnet.onnx").write_bytes(content)
        assert self.load(engine, own_weights) == f"{own_weights}/pnet.onnx cannot be read as an ONNX model"

    def test_an_empty_file(self, engine: str, own_weights: Path) -> None:
        (own_weights / "pnet.onnx").write_bytes(b"")
        assert self.load(engine, own_weights).startswith(f"{own_weights}/pnet.onnx ")

    def test_a_truncated_file(self, engine: str, own_weights: Path) -> None:
        file = own_weights / "onet.onnx"
        file.write_bytes(file.read_bytes()[:500_000])
        assert self.load(engine, own_weights) == f"{file} cannot be read as an ONNX model"

    def test_another_networks_file(self, engine: str, own_weights: Path) -> None:
        shutil.copy(own_weights / "rnet.onnx", own_weights / "onet.onnx")
        assert self.load(engine, own_weights) == (
            f"{own_weights}/onet.onnx: the input 'crops' is float32 (any, 3, 24, 24), "
            "and should be float32 (any, 3, 48, 48)"
        )

    def test_another_name(self, engine: str, own_weights: Path) -> None:
        write(own_weights / "rnet.onnx", RNET_INPUT, source="input")
        assert self.load(engine, own_weights) == f"{own_weights}/rnet.onnx has no input 'crops'; it has: input"

    def test_another_width(self, engine: str, own_weights: Path) -> None:
        write(own_weights / "rnet.onnx", RNET_INPUT, wide=6)
        assert self.load(engine, own_weights) == (
            f"{own_weights}/rnet.onnx: the output 'faces' is float32 (any, 6), and should be float32 (any, 5)"
        )

    def test_a_proposal_network_that_pads(self, engine: str, own_weights: Path) -> None:
        """It would find faces in other places, or none."""
        model = onnx.load(own_weights / "pnet.onnx")
        convolution = next(node for node in model.graph.node if node.op_type == "Conv")
        convolution.attribute.append(helper.make_attribute("pads", [1, 1, 1, 1]))
        onnx.save(model, own_weights / "pnet.onnx")
        assert "'cells' is (1, 5, 14, 94), and should be (1, 5, 12, 92)" in self.load(engine, own_weights)

    def test_another_type(self, engine: str, own_weights: Path) -> None:
        write(own_weights / "rnet.onnx", RNET_INPUT, type_=TensorProto.DOUBLE)
        assert "the input 'crops' is float64 (any, 3, 24, 24), and should be" in self.load(engine, own_weights)

    def test_a_fixed_batch(self, engine: str, own_weights: Path) -> None:
        write(own_weights / "rnet.onnx", [1, 3, 24, 24])
        assert "the input 'crops' is float32 (1, 3, 24, 24), and should be" in self.load(engine, own_weights)


def test_the_reference_refuses_other_weights(own_weights: Path) -> None:
    """The package always loads its own."""
    with pytest.raises(BadWeights, match="FACET_WEIGHTS needs another engine"):
        load_detector("tensorflow", EngineSettings(weights=own_weights))


def test_without_its_provider_the_engine_uses_the_cpu(astronaut: Image.Image) -> None:
    """The detector reports the CPU as its device."""
    detector = load_detector("onnxruntime", EngineSettings(provider="CUDAExecutionProvider"))
    assert detector.device == "CPUExecutionProvider"
    assert len(detector.detect(np.asarray(astronaut.resize((256, 256))), DetectOptions(), Steps())) == 1


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_no_engine_reports_to_its_makers(engine: str, tmp_path: Path) -> None:
    """ONNX Runtime would store a device id and its reports under the home directory."""
    program = (
        "import sys, numpy\n"
        "from inference.mtcnn.detector import DetectOptions\n"
        "from inference.mtcnn.engines import EngineSettings, load_detector\n"
        "from inference.mtcnn.steps import Steps\n"
        "detector = load_detector(sys.argv[1], EngineSettings())\n"
        "detector.detect(numpy.zeros((64, 64, 3), numpy.uint8), DetectOptions(), Steps())\n"
    )
    subprocess.run([sys.executable, "-c", program, engine], env={"HOME": str(tmp_path)}, cwd=tmp_path, check=True)
    assert [str(path) for path in tmp_path.rglob("*")] == []


def test_the_default_engine_imports_no_other_and_reports_to_nobody(tmp_path: Path) -> None:
    """OpenVINO's telemetry is not imported even if it is installed, as the stand-in is here."""
    (tmp_path / "openvino_telemetry").mkdir()
    (tmp_path / "openvino_telemetry/__init__.py").write_text("open('telemetry-was-here', 'w')\nclass Telemetry: ...\n")
    program = (
        "import sys\n"
        "from inference.mtcnn.engines import EngineSettings, load_detector\n"
        "load_detector('openvino', EngineSettings())\n"
        "print(*sorted({'tensorflow', 'keras', 'onnxruntime', 'onnx', 'mtcnn', 'cv2', 'joblib'} & sys.modules.keys()))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.split() == []
    assert [path.name for path in tmp_path.iterdir()] == ["openvino_telemetry"], "something was written or reported"
