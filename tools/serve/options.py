"""Checks the files of API keys, the rate limit and TLS before anything starts, for `make serve` and `make up`.

`make up` runs this with any Python, so it needs the standard library alone.
"""

import argparse
import ssl
import stat
import sys
from pathlib import Path

from tools.serve.plan import CannotServe, Plan

MISSING = {
    "keys": "API keys are on, but there is no {file}; make a key with `make key NAME=alice`",
    "rate_limit": "the rate limit is on, but there is no {file}; envoy/rate-limit has one to start from",
    "edge_tls": "TLS is on, but there is no {file}; put a certificate there, or make one with `make certificates`",
}
FILES = {"keys": ("keys.yaml",), "rate_limit": ("rate-limit.yaml",), "edge_tls": ("tls.crt", "tls.key")}


def check_options(plan: Plan, *, containers: bool = False) -> None:
    """Check that the files of each option that is on exist and can be read. Raises CannotServe.

    In containers Envoy runs as another user, so everybody must be able to read them.
    """
    for option, names in FILES.items():
        if folder := getattr(plan, option):
            for name in names:
                _check_file(option, folder / name, containers=containers)
    if plan.edge_tls:
        _check_certificate(plan.edge_tls / "tls.crt", plan.edge_tls / "tls.key")


def _check_file(option: str, file: Path, *, containers: bool) -> None:
    try:
        file.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CannotServe(MISSING[option].format(file=_shown(file))) from error
    except OSError as error:
        raise CannotServe(f"{_shown(file)} cannot be read: {error.strerror}") from error
    for path, needed in ((file.parent, stat.S_IROTH | stat.S_IXOTH), (file, stat.S_IROTH)):
        if containers and needed & ~path.stat().st_mode:
            raise CannotServe(f"Envoy's user cannot read {_shown(path)}; run `chmod -R o+rX {_shown(file.parent)}`")


def _check_certificate(certificate: Path, key: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError; a password is never asked for
        pair = f"{_shown(certificate)} and {_shown(key)}"
        raise CannotServe(f"{pair} must be a certificate and its private key, as PEM without a password") from error


def _shown(file: Path) -> str:
    return str(file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for option in FILES:
        parser.add_argument(f"--{option.replace('_', '-')}", type=Path)
    try:
        check_options(Plan(**vars(parser.parse_args())), containers=True)
    except CannotServe as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
