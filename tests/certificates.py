"""An authority and what it has signed, made for one test."""

from __future__ import annotations

import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def _name(common: str) -> x509.Name:
    organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "showtell")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common), organisation])


def _made(common, key, *, issuer, issuer_key, authority, extensions=()) -> bytes:
    now = datetime.datetime.now(datetime.UTC)
    day = datetime.timedelta(days=1)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    theirs = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=not authority,
                key_cert_sign=authority,
                crl_sign=authority,
                **usage,
            ),
            critical=True,
        )
        .add_extension(own, critical=False)
        .add_extension(theirs, critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    signed = builder.sign(issuer_key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


def _key_text(key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _pair(common, extensions) -> tuple[bytes, bytes, bytes]:
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    top = _made("authority", keys[0], issuer="authority", issuer_key=keys[0], authority=True)
    leaf = _made(
        common,
        keys[1],
        issuer="authority",
        issuer_key=keys[0],
        authority=False,
        extensions=extensions,
    )
    return top, leaf, _key_text(keys[1])


def of_server(folder: Path, host: str) -> tuple[Path, Path]:
    """(the file of an authority, that of a server's leaf and key)"""
    top, leaf, key = _pair(host, [x509.SubjectAlternativeName([x509.DNSName(host)])])
    (folder / "authority.pem").write_bytes(top)
    (folder / "server.pem").write_bytes(leaf + key)
    return folder / "authority.pem", folder / "server.pem"


def chain(folder: Path, *, self_signed: bool = False) -> Path:
    """A file to sign photos with; ``self_signed``: one that C2PA refuses."""
    mail = [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])]
    top, leaf, key = _pair("showtell test", mail)
    if self_signed:
        own = ec.generate_private_key(ec.SECP256R1())
        leaf = _made("own", own, issuer="own", issuer_key=own, authority=True)
        top, key = b"", _key_text(own)
    path = folder / ("self.pem" if self_signed else "chain.pem")
    path.write_bytes(leaf + top + key)
    return path
