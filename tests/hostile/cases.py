"""The cases of the fuzz test: each is the bytes of one connection, generated from a seed and a number."""

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from protos import infer_pb2
from tests.hostile.http2 import Headers, data_frames, grpc_headers, grpc_message, headers_frame, opening
from tests.hostile.mutations import MUTATIONS, mutated, samples

BOUNDARY = "facet-fuzz"
OPTIONS = (
    "min_face_size",
    "minFaceSize",
    "min_confidence",
    "max_faces",
    "image_id",
    "labels",
    "style",
    "width",
    "nope",
)
VALUES: tuple[Any, ...] = (0, 1, 20, -1, 1.5, 10**30, 1e308, True, None, "", "0.5", "blur", "\0", "é", "\ud800", [], {})


@dataclass(frozen=True)
class Case:
    """The bytes that are sent on one connection; if it is `whole`, there must be an answer."""

    name: str
    kind: str
    wire: bytes
    whole: bool = True
    http2: bool = False


def make_case(seed: int, number: int) -> Case:
    """Generate a case, the same each time."""
    name = f"{seed}-{number}"
    chance = random.Random(name)
    (kind,) = chance.choices(list(KINDS), [weight for weight, _ in KINDS.values()])
    _, make = KINDS[kind]
    return make(name, chance)


def request(method: str, path: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    """Return an HTTP/1.1 request with Connection: close."""
    lines = {"Host": "facet", "Connection": "close", "Content-Length": str(len(body)), **headers}
    head = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in lines.items())]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def part(name: str, data: bytes, more: str = '; filename="a"') -> bytes:
    """Return one part of a form."""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
JSON = {"Content-Type": "application/json"}


def image(name: str, chance: random.Random) -> Case:
    """Return a mutated image in a valid request of any form."""
    data, path = mutated(chance), chance.choice(("/predict", "/predict", "/predict", "/annotate"))
    match chance.randrange(4):
        case 0:
            text = base64.b64encode(data).decode()
            wire = request("POST", path, JSON, json.dumps({"image": text, "max_faces": 1}).encode())
        case 1:
            wire = request("POST", path, FORM, form(part("image", data), part("max_faces", b"1", "")))
        case 2:
            parts = (part("image", mutated(chance)) for _ in range(chance.randrange(4)))
            wire = request("POST", "/predict/batch", FORM, form(part("image", data), *parts))
        case _:
            kind = chance.choice(("image/jpeg", "image/png", "image/webp", "application/octet-stream"))
            wire = request("POST", f"{path}?min_face_size=20", {"Content-Type": kind}, data)
    return Case(name, "image", wire)


def json_body(name: str, chance: random.Random) -> Case:
    """Return JSON with wrong fields, or invalid JSON."""
    encoded = base64.b64encode(chance.choice(samples())).decode()
    body: dict[str, Any] = {chance.choice(("image", "rawData", "raw_data", "imag")): chance.choice((encoded, *VALUES))}
    for _ in range(chance.randrange(4)):
        body[chance.choice(OPTIONS)] = chance.choice(VALUES)
    if chance.random() < 0.3:
        body["options"] = chance.choice(({chance.choice(OPTIONS): chance.choice(VALUES)}, *VALUES))
    data = json.dumps(body, ensure_ascii=chance.random() < 0.8).encode(errors="surrogatepass")
    if chance.random() < 0.5:
        data = chance.choice(MUTATIONS)(data, chance)
    if chance.random() < 0.1:
        data = chance.choice((b"[", b'{"a":', b"[[{}],")) * chance.randrange(1, 20_000)
    return Case(name, "json", request("POST", chance.choice(("/predict", "/annotate")), JSON, data))


def form_body(name: str, chance: random.Random) -> Case:
    """Return a mutated form with unexpected parts."""
    parts = [part(chance.choice(("image", "file", *OPTIONS)), mutated(chance), chance.choice(MORE)) for _ in range(3)]
    body = form(part("image", chance.choice(samples())), *parts[: chance.randrange(4)])
    for _ in range(chance.randrange(3)):
        body = chance.choice(MUTATIONS)(body, chance)
    kind = chance.choice(
        (FORM["Content-Type"], FORM["Content-Type"], "multipart/form-data", "multipart/form-data; boundary=")
    )
    path = chance.choice(("/predict", "/predict/batch", "/annotate"))
    return Case(name, "form", request("POST", path, {"Content-Type": kind}, body))


MORE = (
    "",
    '; filename="a"',
    '; filename=""',
    "; filename*=UTF-8''%ff",
    '; filename="' + "x" * 300 + '"',
    "\r\nContent-Type: a/b",
)


def bad_bytes(name: str, chance: random.Random) -> Case:
    """Return a valid request with one mutation, mostly in its head."""
    body = chance.choice(samples())[:200]
    wire = request("POST", "/predict", {"Content-Type": "image/png"}, body)
    head = len(wire) - len(body)
    fault = chance.choice(MUTATIONS)
    wire = fault(wire, chance) if chance.random() < 0.3 else fault(wire[:head], chance) + wire[head:]
    return Case(name, "bytes", wire, whole=False)


def odd_head(name: str, chance: random.Random) -> Case:
    """Return unusual methods, paths and headers."""
    method = chance.choice(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "X"))
    path = chance.choice(PATHS)
    headers = dict(chance.sample(HEADERS, chance.randrange(4)))
    headers |= {f"X-{index}": "x" * chance.choice((0, 9, 2000)) for index in range(chance.choice((0, 1, 5, 70)))}
    body = chance.choice((b"", b"", chance.choice(samples())))
    whole = method != "CONNECT" and not headers.keys() & FRAMING_HEADERS
    return Case(name, "head", request(method, path, headers, body), whole=whole)


FRAMING_HEADERS = {"Content-Length", "Transfer-Encoding", "Expect"}
PATHS = (
    *(
        "/",
        "/predict",
        "/predict/batch",
        "/annotate",
        "/docs",
        "/openapi.json",
        "/healthz",
        "/readyz",
        "/static/page.js",
    ),
    *("*", "//", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/static/..%2f..%2fapp.py", "/%00", "/predict%00"),
    *(
        "/predict?max_faces=%ff",
        "/predict?" + "a=1&" * 500,
        "/" + "x" * 9000,
        "http://elsewhere/predict",
        "predict",
        "/\xe9",
    ),
    *(
        "/metrics",
        "/Inference/Predict",
        "/predict/",
        "/predict?max_faces=1&max_faces=2",
        "/annotate?style=%F0%9F%98%80",
    ),
)
HEADERS = (
    ("Content-Type", "image/png; charset=\xff"),
    ("Content-Type", "application/json"),
    ("Content-Type", ";;;"),
    ("Content-Length", "0"),
    ("Content-Length", "-1"),
    ("Content-Length", "99999999999999999999"),
    ("Transfer-Encoding", "chunked"),
    ("Transfer-Encoding", "gzip"),
    ("Content-Encoding", "gzip"),
    ("Expect", "100-continue"),
    ("Expect", "200-ok"),
    ("Upgrade", "websocket"),
    ("Upgrade", "h2c"),
    ("Connection", "Upgrade, HTTP2-Settings"),
    ("Host", ""),
    ("Host", "a b"),
    ("Accept", "text/plain"),
    ("Accept", "image/png;q=nan, */*;q=2"),
    ("Cookie", "a" * 5000),
    ("Range", "bytes=0-1,5-"),
    ("If-Modified-Since", "yesterday"),
    ("X-Request-ID", "\x7f"),
    ("X-Request-ID", "x" * 5000),
    ("X-Forwarded-For", "1.2.3.4, ::1, x"),
    ("Authorization", "Basic ===="),
    ("traceparent", "00-zz-zz-01"),
    ("grpc-timeout", "1Z"),
)


def grpc_call(name: str, chance: random.Random) -> Case:
    """Return a gRPC call with a wrong header, prefix or message, or with a stream that ends too early."""
    message = infer_pb2.Image(raw_data=mutated(chance), image_id="a").SerializeToString()
    if chance.random() < 0.3:
        message = chance.choice(MUTATIONS)(message, chance)
    stated, prefix = len(message), {}
    if chance.random() < 0.25:
        prefix = {"length": chance.choice((0, 1, stated - 1 if stated else 0, stated + 1, 2**24, 2**32 - 1))}
    if chance.random() < 0.15:
        prefix["compressed"] = chance.choice((1, 2, 255))
    data = grpc_message(message, **prefix)
    if chance.random() < 0.15:
        data = chance.choice(MUTATIONS)(data, chance)
    if chance.random() < 0.1:
        data *= 2
    headers = grpc_headers(chance.choice(METHODS), *chance.sample(GRPC_HEADERS, chance.choice((0, 0, 0, 1, 2))))
    if chance.random() < 0.1:
        headers = _with(
            headers, "content-type", chance.choice(("application/grpc+json", "application/grpc-web", "text/plain"))
        )
    end = chance.random() < 0.9
    # gRPC does not answer a stream that ends within its first message, until a timeout.
    whole = end and len(data) >= 5 and len(data) >= 5 + int.from_bytes(data[1:5])
    wire = opening() + headers_frame(headers) + data_frames(data, end=end)
    return Case(name, "grpc", wire, whole=whole, http2=True)


def grpc_frames(name: str, chance: random.Random) -> Case:
    """Return a valid gRPC call with one mutation after the preface."""
    start = opening()
    message = grpc_message(infer_pb2.Image(raw_data=chance.choice(samples())).SerializeToString())
    wire = headers_frame(grpc_headers("/Inference/Predict")) + data_frames(message)
    keep = chance.choice((0, 0, 9, 60))
    return Case(
        name, "frames", start + wire[:keep] + chance.choice(MUTATIONS)(wire[keep:], chance), whole=False, http2=True
    )


def _with(headers: Headers, name: str, value: str) -> Headers:
    return [(known, value if known == name else old) for known, old in headers]


METHODS = (
    *("/Inference/Predict",) * 6,
    *("/Inference/PredictStream",) * 2,
    "/Inference/Nothing",
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
GRPC_HEADERS = (
    ("grpc-encoding", "gzip"),
    ("grpc-encoding", "nonsense"),
    ("grpc-timeout", "15S"),
    ("grpc-timeout", "-1S"),
    ("grpc-timeout", "99999999999S"),
    ("x-request-id", "two words"),
    ("content-length", "7"),
    ("bytes-bin", "%%%"),
    ("grpc-status", "x"),
    ("grpc-internal-encoding-request", "x"),
    ("grpc-previous-rpc-attempts", "x"),
    ("grpc-retry-pushback-ms", "x"),
    ("grpc-accept-encoding", "%%"),
    ("lb-token", "%"),
    ("x-long", "x" * 7000),
)
# The weight and the generator of each kind.
KINDS: dict[str, tuple[int, Callable[[str, random.Random], Case]]] = {
    "image": (45, image),
    "json": (10, json_body),
    "form": (10, form_body),
    "bytes": (5, bad_bytes),
    "head": (8, odd_head),
    "grpc": (18, grpc_call),
    "frames": (4, grpc_frames),
}
