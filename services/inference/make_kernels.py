"""Compile the kernels once for each instruction set. hatch_build.py calls it.

The compiler is Zig's clang, which is a Python package, so a machine without a C compiler builds the same kernels.
"""

import os
import platform
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

SOURCE = Path(__file__).parent / "src/inference/mtcnn/kernels.c"
# The name of each library and the processor it is compiled for. kernels.py chooses one when it loads.
PROCESSORS = {
    "x86_64": {"x86_64_v4": "x86_64_v4", "x86_64_v3": "x86_64_v3", "x86_64_v2": "x86_64_v2"},
    "aarch64": {"aarch64": "generic"},
}
# The oldest C library that the kernels run with, as for the manylinux wheels that the worker depends on.
GLIBC = "2.28"
FLAGS = (
    "-std=c17",
    "-O3",
    "-mprefer-vector-width=512",
    "-ffp-contract=on",  # fuse within an expression, unless the source forbids it
    "-fno-math-errno",
    "-fno-sanitize=all",  # Zig adds sanitizers by default
    "-fvisibility=hidden",
    "-fPIC",
    "-Wall",
    "-Wextra",
    "-Werror",
)


def make_kernels(directory: Path) -> None:
    """Write kernels-<instruction set>.so for this machine's architecture."""
    machine = platform.machine()
    if machine not in PROCESSORS:
        sys.exit(f"the kernels can be built on {' and '.join(PROCESSORS)}; this machine is {machine}")
    directory.mkdir(parents=True, exist_ok=True)
    zig = [sys.executable, "-m", "ziglang"]
    compiler = [*zig, "cc", "-target", f"{machine}-linux-gnu.{GLIBC}", *FLAGS, "-c", str(SOURCE)]
    with tempfile.TemporaryDirectory() as scratch:
        # The compiler's caches are temporary, unless the environment names directories for them.
        environment = {"ZIG_GLOBAL_CACHE_DIR": scratch, "ZIG_LOCAL_CACHE_DIR": scratch} | os.environ
        run = partial(subprocess.run, check=True, env=environment)
        for name, processor in PROCESSORS[machine].items():
            compiled = f"{scratch}/{name}.o"
            run([*compiler, f"-mcpu={processor}", "-o", compiled])
            # Without libraries: Zig would compile them first, at 4 s of CPU time each. malloc, calloc, free and memcpy
            # are in the process that loads the kernels.
            library = str(directory / f"kernels-{name}.so")
            run([*zig, "ld.lld", "-shared", "-z", "now", "-o", library, compiled])
