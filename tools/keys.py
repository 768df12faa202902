"""Makes, revokes and lists API keys: `make key NAME=alice`, `make key REMOVE=alice`, `make key`.

A key is printed once and stored nowhere. The file that Envoy reads holds the public half of each key, by name.
"""

import argparse
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

ROOT = Path(__file__).parents[1]
FILE = ROOT / ".secrets/keys/keys.yaml"
SECONDS_PER_DAY = 86400
NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")  # it appears in a header and in the log
# A placeholder: Envoy rejects an empty list, and would keep accepting the previous keys.
NOBODY = "nobody: all keys are revoked"

Jwk = dict[str, str]


class CannotChange(Exception):
    """The keys are unchanged; the message says why."""


def add_key(file: Path, name: str, days: float | None = None) -> str:
    """Make a key that is valid for a number of days, or until it is revoked, and return it. Raises CannotChange."""
    known = read_keys(file)
    if not NAME.fullmatch(name):
        raise CannotChange(f"{name!r} is not a valid name for a key; use 1 to 64 letters, digits and . _ @ -")
    if name in names(file):
        raise CannotChange(f"there is already a key named {name}; choose another name")
    private = Ed25519PrivateKey.generate()
    write_keys(file, [*known, _public_half(private, name)])
    ends = {} if days is None else {"exp": int(time.time() + days * SECONDS_PER_DAY)}
    return jwt.encode({"iss": "facet", "sub": name, **ends}, private, algorithm="EdDSA", headers={"kid": name})


def remove_key(file: Path, name: str) -> None:
    """Revoke the key of that name. Raises CannotChange."""
    if name not in names(file):
        raise CannotChange(f"there is no key named {name}")
    write_keys(file, [key for key in read_keys(file) if key["kid"] != name])


def names(file: Path) -> list[str]:
    return [key["kid"] for key in read_keys(file)]


def read_keys(file: Path) -> list[Jwk]:
    """Read the public halves of the keys; without a file there are none."""
    if not file.exists():
        return []
    keys: list[Jwk] = json.loads(_jwks(yaml.safe_load(file.read_text()))["inline_string"])["keys"]
    return [key for key in keys if key["kid"] != NOBODY]


def write_keys(file: Path, keys: list[Jwk]) -> None:
    """Replace the file at once: Envoy watches for a move into its folder."""
    config = yaml.safe_load((ROOT / "envoy/keys.yaml").read_text())
    _jwks(config)["inline_string"] = json.dumps({"keys": keys or [_public_half(Ed25519PrivateKey.generate(), NOBODY)]})
    file.parent.mkdir(parents=True, exist_ok=True)
    new = file.with_suffix(".new")
    new.write_text(yaml.safe_dump(config, sort_keys=False))
    new.chmod(0o644)  # Envoy's user must read it, whatever the umask; it holds no secret
    new.replace(file)


def _public_half(private: Ed25519PrivateKey, name: str) -> Jwk:
    return OKPAlgorithm.to_jwk(private.public_key(), as_dict=True) | {"kid": name, "alg": "EdDSA"}


def _jwks(config: Any) -> dict[str, str]:
    found: dict[str, str] = config["resources"][0]["typed_config"]["providers"]["keys"]["local_jwks"]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--add", metavar="NAME", help="make a key and print it")
    parser.add_argument("--days", type=float, help="days for which the key is valid (default: until it is revoked)")
    parser.add_argument("--remove", metavar="NAME", help="revoke a key")
    parser.add_argument(
        "--file", type=Path, default=FILE, help="the file that Envoy reads (default: .secrets/keys/keys.yaml)"
    )
    arguments = parser.parse_args()
    try:
        if arguments.remove:
            remove_key(arguments.file, arguments.remove)
        if arguments.add:
            print(add_key(arguments.file, arguments.add, arguments.days))
    except CannotChange as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not arguments.add:
        print("\n".join(names(arguments.file)) or "there are no keys", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
