"""The package as it is installed."""

from importlib.metadata import distribution
from pathlib import Path

LICENSE = Path(__file__).parents[2] / "LICENSES/mtcnn.txt"


def test_the_package_holds_the_license_of_the_weights() -> None:
    """The weights come from the mtcnn package, whose license asks for its notice."""
    package = distribution("facet-inference")
    assert package.metadata.get_all("License-File") == ["LICENSES/mtcnn.txt"]
    assert package.read_text("licenses/LICENSES/mtcnn.txt") == LICENSE.read_text()
