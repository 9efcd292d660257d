"""Certificates of every kind, made by the openssl program: valid, expired, of tomorrow, for another name."""

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple

from tests.conftest import require_tool

ALWAYS = ("20200101000000Z", "20990101000000Z")
EXPIRED = ("20200101000000Z", "20210101000000Z")
NOT_YET = ("20980101000000Z", "20990101000000Z")

_CONFIG = """\
[ca]
default_ca = own
[own]
new_certs_dir = {folder}
database = {folder}/index
serial = {folder}/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = none
[none]
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
[leaf]
subjectAltName = {names}
basicConstraints = CA:FALSE
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


class Certificate(NamedTuple):
    key: Path
    chain: Path

    def server_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        return context


class Authority:
    """Vouches for whatever it is asked to. `bundle`: what a client trusts that trusts it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0
        self._openssl = require_tool("openssl")
        (folder / "index").touch()
        (folder / "serial").write_text("01\n")
        self._write_config("DNS:nobody")
        self._key, self.bundle = folder / "ca.key", folder / "ca.pem"
        self._new_key(self._key)
        named = ("-key", self._key, "-subj", "/CN=tests", "-extensions", "authority", "-out", self.bundle)
        self._run("req", "-x509", "-new", "-days", "36500", *named)

    def issue(self, names: str = "IP:127.0.0.1", times: tuple[str, str] = ALWAYS) -> Certificate:
        """`names` as in subjectAltName."""
        self._made += 1
        key, request, made = (self._folder / f"{self._made}.{kind}" for kind in ("key", "csr", "pem"))
        self._write_config(names)
        self._new_key(key)
        self._run("req", "-new", "-key", key, "-subj", "/CN=server", "-out", request)
        signed = ("-in", request, "-out", made, "-startdate", times[0], "-enddate", times[1])
        self._run(
            "ca", "-batch", "-notext", "-extensions", "leaf", "-cert", self.bundle, "-keyfile", self._key, *signed
        )
        return Certificate(key, made)

    def _new_key(self, path: Path) -> None:
        self._run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-out", path)

    def _write_config(self, names: str) -> None:
        (self._folder / "config").write_text(_CONFIG.format(folder=self._folder, names=names))

    def _run(self, command: str, *arguments: str | Path) -> None:
        config = () if command == "genpkey" else ("-config", str(self._folder / "config"))
        subprocess.run([self._openssl, command, *config, *map(str, arguments)], check=True, capture_output=True)
