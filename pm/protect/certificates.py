"""What signs pictures: a key and certificates from files or the environment, or a local chain that nobody trusts."""

import datetime
import functools
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pm.errors import ConfigError, WriteError, reason
from pm.files import write_text

CERTIFICATE, KEY = "PHOTOMAKER_C2PA_CERTIFICATE", "PHOTOMAKER_C2PA_KEY"  # files, or PEM itself
LOCAL = "PhotoMaker local test certificate"  # the organisation in certificates that we made
_DAYS = 730
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


@dataclass(frozen=True)
class SigningKey:
    """A private key, its certificates and the algorithm of C2PA (specification 2.2, section 13.2) that fits."""

    certificates: str  # PEM, the signer's first
    key: str  # PEM, PKCS 8
    algorithm: str
    local: bool  # made here: proves that a picture is unchanged, not who made it

    def __repr__(self) -> str:
        return f"SigningKey({self.algorithm}, local={self.local})"  # never the key


def signing_key(certificate: str | None, key: str | None) -> SigningKey:
    """The key that pictures are signed with.

    Args:
        certificate: PEM file; None: the environment's, else a local chain.
        key: PEM file; None likewise.

    Raises:
        ConfigError: a file cannot be read, is none, or key and certificate do not belong together.
    """
    names = ("protect.signature.certificate", "protect.signature.key")
    if certificate is None:
        certificate, key, names = os.environ.get(CERTIFICATE), os.environ.get(KEY), (CERTIFICATE, KEY)
        if (certificate is None) != (key is None):
            raise ConfigError(f"{names[key is None]} is not set; set {CERTIFICATE} and {KEY}, or neither")
    if certificate is None or key is None:
        return local_chain()
    return _checked(_pem(names[0], certificate), _pem(names[1], key), *names)


def _pem(name: str, value: str) -> str:
    if value.lstrip().startswith("-----BEGIN"):
        return value
    try:
        return Path(value).expanduser().read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}={value} cannot be read ({reason(error)}); name a PEM file") from error


def _checked(certificates: str, key: str, first: str, second: str) -> SigningKey:
    try:
        chain = x509.load_pem_x509_certificates(certificates.encode())
    except ValueError as error:
        raise ConfigError(f"{first} holds no certificate ({reason(error)}); give PEM, the signer's first") from error
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{second} holds no private key without a password ({reason(error)}); give PEM") from error
    if private.public_key() != chain[0].public_key():
        raise ConfigError(f"{second} is not the key of the first certificate in {first}; give the pair")
    if chain[0].not_valid_after_utc < _now():
        raise ConfigError(f"{first} has expired on {chain[0].not_valid_after_utc:%Y-%m-%d}; give a valid one")
    plain = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return SigningKey(certificates, plain.decode(), _algorithm(private, second), _is_local(chain[0]))


def _algorithm(key: object, name: str) -> str:
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return _CURVES[key.curve.name]
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048:
        return "PS256"
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ED25519"
    raise ConfigError(f"{name} cannot sign C2PA; it takes keys of P-256, P-384, P-521, Ed25519, or RSA from 2048 bits")


def _is_local(certificate: x509.Certificate) -> bool:
    return any(a.value == LOCAL for a in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))


def local_file() -> Path:
    """Where the local chain lies: the user's data folder (`XDG_DATA_HOME`, else `~/.local/share`)."""
    home = Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser()
    return home / "photomaker" / "signing" / "local.pem"


@functools.cache
def local_chain() -> SigningKey:
    """The local chain, made where there is none or it has expired; in memory alone where nothing can be written.

    Key and certificates lie in one file with mode 0600, so that processes that start together agree on a whole one.
    """
    file = local_file()
    try:
        return _split(file.read_text(encoding="ascii"))
    except (OSError, ValueError, ConfigError):
        pass  # none yet, damaged or expired
    content = _made()
    try:
        write_text(file, content, mode=0o600)
        content = file.read_text(encoding="ascii")
        print(f"note: pictures are signed with a local test certificate that nobody trusts, made now: {file}")
    except (OSError, WriteError):
        print(f"note: {file} cannot be written; pictures of this process are signed with a key that ends with it")
    return _split(content)


def _split(content: str) -> SigningKey:
    mark = "-----END PRIVATE KEY-----\n"
    key, found, certificates = content.partition(mark)
    return _checked(certificates, key + found, str(local_file()), str(local_file()))


def _made() -> str:
    """A root, whose key is forgotten at once, and a signer as C2PA's certificate profile asks (section 14.5)."""
    root, signer = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    issuer, subject = _name("local test root"), _name("local signer")
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only"), False
    ) | {"decipher_only": False}
    own_id = x509.SubjectKeyIdentifier.from_public_key
    top = (
        _builder(issuer, issuer, root.public_key())
        .add_extension(x509.BasicConstraints(True, None), True)
        .add_extension(x509.KeyUsage(digital_signature=False, key_cert_sign=True, crl_sign=True, **usage), True)
        .add_extension(own_id(root.public_key()), False)
        .sign(root, hashes.SHA256())
    )
    leaf = (
        _builder(subject, issuer, signer.public_key())
        .add_extension(x509.BasicConstraints(False, None), True)
        .add_extension(x509.KeyUsage(digital_signature=True, key_cert_sign=False, crl_sign=False, **usage), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), False)
        .add_extension(own_id(signer.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root.public_key()), False)
        .sign(root, hashes.SHA256())
    )
    key = signer.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return b"".join([key, *(each.public_bytes(serialization.Encoding.PEM) for each in (leaf, top))]).decode()


def _name(common: str) -> x509.Name:
    words = ((NameOID.ORGANIZATION_NAME, LOCAL), (NameOID.COMMON_NAME, f"PhotoMaker {common}"))
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in words])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    begin = _now() - datetime.timedelta(minutes=5)  # another machine's clock may be behind
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(begin)
    return builder.not_valid_after(begin + datetime.timedelta(days=_DAYS))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
