"""The description of the API (OpenAPI 3.1), made from the views: their docstrings and their `Operation`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version
from typing import Any, TypeVar

from apispec import APISpec
from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, models_json_schema

from web.schemas import Error
from web.settings import Settings

View = TypeVar("View", bound=Callable[..., Any])
Schema = dict[str, Any]

REFERENCE = "#/components/schemas/{model}"
BARE_IMAGE = dict.fromkeys(("image/jpeg", "image/png", "image/webp", "application/octet-stream"))
# The failures of any request with an image; 401, 408, 429 and 431 come from Envoy.
FAILURES = (400, 401, 408, 413, 415, 422, 429, 431, 500, 503, 504)
SHORTEST_SECONDS = 0.001  # the shortest X-Request-Timeout
INTRODUCTION = """
Send an image and get its faces with bounding boxes, landmarks and confidences. Coordinates are pixels of the upright
image, from its top left corner. An image without faces gets 200 and no results; an error is never a 200.

The same port serves gRPC, with reflection.
"""

REQUEST_ID = {"description": "The request's id in the logs of all tiers.", "schema": {"type": "string"}}
# Envoy requires a key if API keys are on; {} stands for a service without keys.
KEYS = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
RETRY_AFTER = {"description": "Try again after this many seconds.", "schema": {"type": "integer"}}


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What a view's docstring does not describe; used as the view's decorator."""

    answers: Mapping[int, type[BaseModel] | tuple[str, ...]]  # by status: a model of the JSON, or the media types
    options: type[BaseModel] | None = None
    bodies: Mapping[str, type[BaseModel] | None] = field(default_factory=dict)  # by media type; None for a bare file
    failures: tuple[int, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)  # of the answer, in addition to X-Request-ID

    def __call__(self, view: View) -> View:
        """Describe a view."""
        vars(view)["operation"] = self
        return view


def describe(app: Flask) -> Schema:
    """Create the document for all views of an application that have an operation."""
    settings: Settings = app.config["SETTINGS"]
    spec = APISpec(
        title="facet",
        version=version("facet-web"),
        openapi_version="3.1.0",
        info={
            "summary": "Face detection as a service",
            "description": INTRODUCTION.strip(),
            "license": {"name": "MIT"},
        },
    )
    for name, scheme in KEYS.items():
        spec.components.security_scheme(name, scheme)
    rules = [(rule, app.view_functions[rule.endpoint]) for rule in app.url_map.iter_rules()]
    views = [(rule, view, vars(view)["operation"]) for rule, view in rules if "operation" in vars(view)]
    schemas = _schemas([operation for _, _, operation in views])
    schemas["BatchForm"]["properties"]["image"]["maxItems"] = settings.max_batch_images
    for name, schema in schemas.items():
        spec.components.schema(name, schema)
    for status in sorted({status for _, _, operation in views for status in operation.failures}):
        spec.components.response(str(status), _response(status, _content(Error), {}))
    for rule, view, operation in views:
        (method,) = (rule.methods or set()) - {"HEAD", "OPTIONS"}
        spec.path(rule.rule, operations={method.lower(): _operation(view, operation, settings)})
    return spec.to_dict()


class _Plain(GenerateJsonSchema):
    """Omits titles, and defaults too: a form made from the description would send every default."""

    def default_schema(self, schema: Any) -> Schema:
        return self.generate_inner(schema["schema"])

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's hook
        return False


def _schemas(operations: list[Operation]) -> dict[str, Schema]:
    """Collect the models of all bodies and answers, and the models that they refer to."""
    models: dict[type[BaseModel], JsonSchemaMode] = {Error: "serialization"}
    for operation in operations:
        models |= {model: "validation" for model in operation.bodies.values() if model}
        models |= {model: "serialization" for model in operation.answers.values() if not isinstance(model, tuple)}
    _, schemas = models_json_schema(list(models.items()), ref_template=REFERENCE, schema_generator=_Plain)
    return dict(schemas["$defs"])


def _operation(view: Callable[..., Any], operation: Operation, settings: Settings) -> Schema:
    summary, _, details = (view.__doc__ or "").partition("\n\n")
    described: Schema = {
        "operationId": view.__name__,
        "tags": ["pictures" if operation.bodies else "state"],
        "summary": _line(summary).rstrip("."),
        "description": _line(details),
    }
    if operation.options:
        described["parameters"] = [*_query(operation.options), *_request_headers(settings.deadline_seconds)]
    if operation.bodies:
        content = {kind: {"schema": _refer(model) if model else {}} for kind, model in operation.bodies.items()}
        described["security"] = [{}, *({name: []} for name in KEYS)]
        described["requestBody"] = {"required": True, "content": content}
    answers = {
        status: _response(status, _content(body), operation.headers) for status, body in operation.answers.items()
    }
    references = {status: str(status) for status in operation.failures}
    described["responses"] = {str(status): answer for status, answer in sorted((answers | references).items())}
    return described


def _line(text: str) -> str:
    return " ".join(text.split())


def _query(options: type[BaseModel]) -> list[Schema]:
    properties = options.model_json_schema(schema_generator=_Plain)["properties"]
    return [
        {"name": name, "in": "query", "description": schema.pop("description"), "schema": schema}
        for name, schema in properties.items()
    ]


def _request_headers(deadline_seconds: float) -> list[Schema]:
    wait = f"How many seconds the client waits, at most {deadline_seconds:g}. The service stops working after that."
    own_id = "Your id for the request, 1 to 128 visible ASCII characters. The service replaces any other."
    return [
        {
            "name": "X-Request-Timeout",
            "in": "header",
            "description": wait,
            "schema": {"type": "number", "minimum": SHORTEST_SECONDS},
        },
        {"name": "X-Request-ID", "in": "header", "description": own_id, "schema": {"type": "string"}},
    ]


def _response(status: int, content: Schema, names: Mapping[str, str]) -> Schema:
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in names.items()}
    headers["X-Request-ID"] = REQUEST_ID
    if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
        headers["Retry-After"] = RETRY_AFTER
    return {"description": HTTPStatus(status).phrase, "headers": headers, "content": content}


def _content(body: type[BaseModel] | tuple[str, ...]) -> Schema:
    if isinstance(body, tuple):
        return {kind: {"schema": {}} for kind in body}
    return {"application/json": {"schema": _refer(body)}}


def _refer(model: type[BaseModel]) -> Schema:
    return {"$ref": REFERENCE.format(model=model.__name__)}
