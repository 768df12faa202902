"""Makes certificates to try TLS with: `make certificates`.

An authority, and for each tier and the front door a folder with tls.crt, tls.key and ca.crt, as cert-manager and
Kubernetes call them. For anything else than trying, take those of your own authority.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
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
# Of a folder and its files. The tiers' are for the users of the containers, too: .secrets is what keeps others out.
ALL, OWNER = (0o755, 0o644), (0o700, 0o600)


class Authority:
    """Signs certificates; kept in a folder, so that others can be made later."""

    def __init__(self, folder: Path) -> None:
        if not _is_authority(folder):
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
        issuer = self._certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        made = (
            _blank(subject, self._certificate.subject, key, days)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
            .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage("digital_signature"), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .sign(self._key, SHA256())
        )
        _write(folder, key, made, self._certificate)


def _is_authority(folder: Path) -> bool:
    """Whether there is one that says what it may do: Python takes no other from 3.13 on."""
    if not (folder / "tls.key").exists():
        return False
    found = x509.load_pem_x509_certificate((folder / "tls.crt").read_bytes())
    return any(isinstance(each.value, x509.KeyUsage) and each.value.key_cert_sign for each in found.extensions)


def _make_authority(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "facet's own authority, to try TLS with")])
    made = (
        _blank(name, name, key, 10 * DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .sign(key, SHA256())
    )
    _write(folder, key, made, made, modes=OWNER)


def _blank(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))  # clocks differ
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(*uses: str) -> x509.KeyUsage:
    known = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{use: use in uses for use in known})


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


def _write(
    folder: Path,
    key: ec.EllipticCurvePrivateKey,
    made: x509.Certificate,
    authority: x509.Certificate,
    *,
    modes: tuple[int, int] = ALL,
) -> None:
    for_folder, for_files = modes
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(for_folder)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    contents = {
        "tls.key": pem,
        "tls.crt": made.public_bytes(Encoding.PEM),
        "ca.crt": authority.public_bytes(Encoding.PEM),
    }
    for name, content in contents.items():
        _write_file(folder / f"{name}.new", content, for_files)
    for name in contents:
        (folder / f"{name}.new").replace(folder / name)


def _write_file(file: Path, content: bytes, mode: int) -> None:
    """Write a file that nobody else can read before it has its mode, whatever the umask."""
    file.unlink(missing_ok=True)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)
    file.chmod(mode)


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
