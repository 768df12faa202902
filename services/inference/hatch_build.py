"""Builds the compiled kernels and the converted weights of the package.

`pip install services/inference` runs it. Without build isolation it needs the packages of requirements/build.txt.
"""

import platform
import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
BUILT = ROOT / "src/inference/mtcnn/built"


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - the hook's interface
        """Compile and convert, then tag the wheel for this kind of machine."""
        sys.path.insert(0, str(ROOT))
        from make_kernels import GLIBC, make_kernels  # noqa: PLC0415 - beside this file, outside a package
        from make_weights import make_weights  # noqa: PLC0415

        shutil.rmtree(BUILT, ignore_errors=True)
        make_weights(BUILT)
        make_kernels(BUILT)
        build_data["artifacts"].append("src/inference/mtcnn/built/*")
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_{GLIBC.replace('.', '_')}_{platform.machine()}"
