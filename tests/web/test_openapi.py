"""The description of the API agrees with the code."""

from typing import Any

import pytest
from flask import Flask
from google.protobuf.descriptor import Descriptor
from pydantic import BaseModel
from web import schemas
from web.errors import STATUS
from web.openapi import describe
from web.options import DRAWING, OPTIONS
from web.routes import api
from web.settings import Settings

from protos import infer_pb2


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The document for an application with the API."""
    app = Flask("described")
    app.config["SETTINGS"] = Settings(max_batch_images=7, deadline_seconds=9)
    app.register_blueprint(api)
    return describe(app)


def names(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (schemas.Point, infer_pb2.Point.DESCRIPTOR),
        (schemas.Box, infer_pb2.Box.DESCRIPTOR),
        (schemas.Landmarks, infer_pb2.Landmarks.DESCRIPTOR),
        (schemas.Face, infer_pb2.Result.DESCRIPTOR),
        (schemas.MetaData, infer_pb2.MetaData.DESCRIPTOR),
        (schemas.JsonOptions, infer_pb2.DetectOptions.DESCRIPTOR),
    ],
)
def test_a_model_has_the_fields_of_its_message(model: type[BaseModel], message: Descriptor) -> None:
    """By their JSON names."""
    assert names(model) == {field.json_name for field in message.fields}


def test_the_options_are_those_that_are_read() -> None:
    """For /predict and for /annotate."""
    assert names(schemas.PredictOptions) == {*OPTIONS, "image_id"}
    assert names(schemas.AnnotateOptions) == {*OPTIONS, *DRAWING}


def test_every_view_of_the_api_is_described(document: dict[str, Any]) -> None:
    """With a summary, its statuses, and references that exist."""
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {"/predict", "/predict/batch", "/annotate", "/healthz", "/readyz"}
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            for status, answer in operation["responses"].items():
                assert int(status) in {200, 207, 401, 408, 429, 431, *STATUS.values()}
                assert "$ref" not in answer or document["components"]["responses"][answer["$ref"].rpartition("/")[2]]


def test_a_form_made_from_it_sends_only_what_is_filled_in(document: dict[str, Any]) -> None:
    """There is no default that Swagger UI would fill in, in the query and in the form."""
    assert '"default"' not in str(document).replace("'", '"')


def test_the_limits_are_those_that_are_set(document: dict[str, Any]) -> None:
    """They are not the defaults."""
    assert document["components"]["schemas"]["BatchForm"]["properties"]["image"]["maxItems"] == 7
    (timeout,) = [p for p in document["paths"]["/predict"]["post"]["parameters"] if p["name"] == "X-Request-Timeout"]
    assert "at most 9." in timeout["description"]
