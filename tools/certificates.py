"""Makes an authority and a certificate to try TLS with: `make certificates`. For production, use your own authority."""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from trustme import CA

FOLDER = Path(__file__).parents[1] / ".secrets/tls"
VALID = timedelta(days=365)


def make_certificate(folder: Path, *names: str) -> None:
    """Write `edge` for these host names or addresses, signed by `authority`, which is made the first time."""
    issued = _authority(folder / "authority").issue_cert(*names, not_after=datetime.now(UTC) + VALID)
    edge = folder / "edge"
    # Envoy's user reads the key, whatever the umask. Nobody else on this machine can enter .secrets.
    _write(edge / "tls.key", issued.private_key_pem.bytes(), 0o644)
    _write(edge / "tls.crt", issued.cert_chain_pems[0].bytes(), 0o644)


def _authority(folder: Path) -> CA:
    key, certificate = folder / "tls.key", folder / "tls.crt"
    if key.exists():
        return CA.from_pem(certificate.read_bytes(), key.read_bytes())
    made = CA()
    _write(key, made.private_key_pem.bytes(), 0o600)
    _write(certificate, made.cert_pem.bytes(), 0o644)
    return made


def _write(file: Path, content: bytes, mode: int) -> None:
    """Replace a file at once; its mode never depends on the umask, and nobody else reads it before it has its mode."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.parent.chmod(0o755)
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    new.touch(0o600, exist_ok=False)
    new.write_bytes(content)
    new.chmod(mode)
    new.replace(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", action="append", help="a host name of the service, besides localhost", default=[])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    certificate = arguments.folder / "edge/tls.crt"
    if certificate.exists():
        sys.exit(f"{certificate} exists; delete it to make a new certificate")
    make_certificate(arguments.folder, "localhost", "127.0.0.1", "::1", *arguments.name)


if __name__ == "__main__":
    main()
