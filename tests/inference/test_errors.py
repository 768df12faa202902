"""The table of gRPC statuses."""

from __future__ import annotations

from grpc import StatusCode
from inference.rpc import errors


def test_every_error_for_the_sender_has_a_status_and_a_reason_of_its_own() -> None:
    """Nobody adds an error and forgets the table."""
    assert set(errors.STATUS) == set(errors.RequestError.__subclasses__())
    reasons = [reason for _, reason in errors.STATUS.values()]
    assert len(set(reasons)) == len(reasons)


def test_the_text_of_an_unforeseen_error_stays_inside() -> None:
    """INTERNAL, in words that do not tell what broke."""
    status, reason, message = errors.describe(KeyError("password"))
    assert (status, reason) == (StatusCode.INTERNAL, "INTERNAL")
    assert "password" not in message
