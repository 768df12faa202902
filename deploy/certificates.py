"""Makes certificates to try TLS with: `make certificates`.

An authority, and for each tier and the front door a folder with tls.crt, tls.key and ca.crt, as cert-manager and
Kubernetes call them. For anything else than trying, take those of your own authority.
"""

from __future__ import annotations

import argparse
import ipaddress
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

FOLDER = Path(__file__).parents[1] / ".secrets/tls"
TIERS = ("envoy", "web", "inference")
DAYS = 365


class Authority:
    """Signs certificates; kept in a folder, so that others can be made later."""

    def __init__(self, folder: Path) -> None:
        if not (folder / "tls.key").exists():
            _make_authority(folder)
        self._key = _private(folder)
        self._certificate = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())

    def signed(self, folder: Path) -> bool:
        """Say whether the certificate in a folder is of this authority, or there is none."""
        file = folder / "tls.crt"
        if not file.exists():
            return True
        try:
            x509.load_pem_x509_certificate(file.read_bytes()).verify_directly_issued_by(self._certificate)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True

    def sign(self, folder: Path, *names: str, days: float = DAYS) -> None:
        """Put a certificate for these names, or addresses, into a folder. Fewer days than none: it has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = (
            _blank(subject, self._certificate.subject, days)
            .public_key(key.public_key())
            .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(self._key, SHA256())
        )
        _write(folder, key, made, self._certificate)


def _make_authority(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "facet's own authority, to try TLS with")])
    made = (
        _blank(name, name, 10 * DAYS)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, SHA256())
    )
    _write(folder, key, made, made)


def _blank(subject: x509.Name, issuer: x509.Name, days: float) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
    )


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _private(folder: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key((folder / "tls.key").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{folder / 'tls.key'} is not one of ours")
    return key


def _write(folder: Path, key: ec.EllipticCurvePrivateKey, made: x509.Certificate, authority: x509.Certificate) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    contents = {
        "tls.key": pem,
        "tls.crt": made.public_bytes(Encoding.PEM),
        "ca.crt": authority.public_bytes(Encoding.PEM),
    }
    for name, content in contents.items():
        (folder / f"{name}.new").write_bytes(content)
    for name in contents:
        (folder / f"{name}.new").replace(folder / name)


def make_all(folder: Path, *edge_names: str) -> None:
    """Make what there is not yet, and new certificates for all; but leave the front door's if it is somebody else's."""
    authority = Authority(folder / "authority")
    for tier in TIERS:
        authority.sign(folder / tier, tier)
    if authority.signed(folder / "edge"):
        authority.sign(folder / "edge", *edge_names)
    else:
        print(f"{folder / 'edge'} has a certificate of another authority, which stays as it is", file=sys.stderr)


def main() -> None:
    """Make them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", action="append", help="of the front door, besides localhost", default=[])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    make_all(arguments.folder, "localhost", "127.0.0.1", "::1", *arguments.name)


if __name__ == "__main__":
    main()
