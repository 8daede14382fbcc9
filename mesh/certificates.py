"""A private authority for the bus's TLS, and the certificates that it issues.

The rule: private keys are readable by their owner alone, nothing is overwritten unless it is renewed, and a renewed
certificate takes the place of the old one at once, with a key of its own.
"""

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mesh import files
from mesh.clock import now
from mesh.errors import SettingsError

AUTHORITY: Final = "ca"
_AUTHORITY_DAYS = 3650
_SKEW = timedelta(minutes=5)  # a host whose clock is behind takes a fresh certificate all the same
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a certificate says of itself; ``names`` are the hosts and addresses that it stands for."""

    name: str
    kind: str
    names: tuple[str, ...]
    expires: datetime

    @property
    def days_left(self) -> int:
        """Whole days until it ends; below 0 it has ended."""
        return (self.expires - now()).days


class Authority:
    """The authority of a folder: ``ca.pem`` is for everybody, ``ca.key`` (mode 0600) for nobody else."""

    def __init__(self, folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.folder = folder
        self._key = key
        self._certificate = certificate

    @classmethod
    def opened(cls, folder: Path) -> "Authority":
        """The authority of this folder, made at the first time; raises ``SettingsError`` for files that are none."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key_path, path = folder / f"{AUTHORITY}.key", folder / f"{AUTHORITY}.pem"
        if not key_path.exists():
            if path.exists():
                raise SettingsError(f"{path} has lost its key {key_path}: bring it back, or begin in another folder")
            _make_authority(key_path, path)
        if key_path.stat().st_mode & _OTHERS:
            raise SettingsError(f"{key_path} can be read by others: run `chmod 600 {key_path}`")
        try:
            key = serialization.load_pem_private_key(key_path.read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError) as error:
            raise SettingsError(f"{folder} holds no authority that can be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise SettingsError(f"{key_path} is not the key of {path}")
        return cls(folder, key, certificate)

    def issue(self, name: str, hosts: Sequence[str], *, server: bool, days: int, renew: bool = False) -> Certificate:
        """A certificate for a server or a client, as ``<name>.pem`` with its key ``<name>.key``.

        ``hosts`` are names and addresses; a server shows its own to other servers too. It never outlives the authority.
        Raises ``SettingsError`` when there is one and ``renew`` is not said, or none and it is.
        """
        path = self.folder / f"{name}.pem"
        if name in ("", AUTHORITY) or Path(name).name != name or name.startswith("."):
            raise SettingsError(f"{name!r} is no name for a certificate: it is a file's name, and not {AUTHORITY}")
        if path.exists() and not renew:
            raise SettingsError(
                f"{path} exists already, until {read(path).expires:%Y-%m-%d}: say --renew to replace it"
            )
        if renew and not path.exists():
            raise SettingsError(f"{path} is not there: there is nothing to renew")
        key = ec.generate_private_key(ec.SECP256R1())
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if server else [])]
        ends = min(now() + timedelta(days=days), self._certificate.not_valid_after_utc)
        builder = (
            _builder(name, key, ends)
            .issuer_name(self._certificate.subject)
            .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts or (name,)]), False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
            .add_extension(_key_usage(authority=False), True)
            .add_extension(x509.ExtendedKeyUsage(usages), False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), False)
        )
        certificate = builder.sign(self._key, hashes.SHA256())
        files.put(self.folder / f"{name}.key", _pem(key), 0o600)
        files.put(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return read(path)


def read(path: Path) -> Certificate:
    """What the certificate in this file says; raises ``SettingsError`` when it is none."""
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} is no certificate: {error}") from error
    return Certificate(path.stem, _kind(found), _names(found), found.not_valid_after_utc)


def listed(folder: Path) -> tuple[Certificate, ...]:
    """All certificates of a folder, the first to end first."""
    return tuple(sorted(map(read, folder.glob("*.pem")), key=lambda found: (found.expires, found.name)))


def _make_authority(key_path: Path, path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = f"workmesh {secrets.token_hex(4)}"
    builder = (
        _builder(name, key, now() + timedelta(days=_AUTHORITY_DAYS))
        .issuer_name(_subject(name))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(_key_usage(authority=True), True)
    )
    certificate = builder.sign(key, hashes.SHA256())
    files.put(path, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    files.put(key_path, _pem(key), 0o600)


def _builder(name: str, key: ec.EllipticCurvePrivateKey, ends: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_subject(name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(now() - _SKEW, ends))
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise SettingsError(f"{host!r} is neither an address nor a host's name: {error}") from error


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _kind(certificate: x509.Certificate) -> str:
    try:
        usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return "authority"
    return "server" if ExtendedKeyUsageOID.SERVER_AUTH in usages else "client"


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found)
