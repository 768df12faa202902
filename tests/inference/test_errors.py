"""The table of gRPC statuses."""

from grpc import StatusCode
from inference.examination import InvalidOption
from inference.imaging.errors import ImageError
from inference.rpc import errors


def test_every_error_for_the_sender_has_a_status_and_its_own_reason() -> None:
    """An error that is missing from the table would be reported as INTERNAL."""
    assert set(errors.STATUS) == {*errors.RequestError.__subclasses__(), *ImageError.__subclasses__(), InvalidOption}
    reasons = [reason for _, reason in errors.STATUS.values()]
    assert len(set(reasons)) == len(reasons)


def test_the_message_of_an_unexpected_error_stays_inside() -> None:
    """The sender gets INTERNAL and a message that does not tell what broke."""
    status, reason, message = errors.describe(KeyError("password"))
    assert (status, reason) == (StatusCode.INTERNAL, "INTERNAL")
    assert "password" not in message
