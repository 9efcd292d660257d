"""Lines that make a redactor slow: prefixes without ends, escapes in escapes, nesting, more secrets than text."""

import base64
import json
import random
from collections.abc import Callable, Mapping

TOKEN = b"ghp_0a1B2c3D4e5F6g7H8i9J0kLmNoPqRsTuVwXy"


def _of(unit: bytes) -> Callable[[int], bytes]:
    return lambda size: (unit * (size // len(unit) + 1))[:size]


def _beside_a_token(unit: bytes) -> Callable[[int], bytes]:
    """In a string, so that it is looked at closely."""
    return lambda size: b'{"a":"' + TOKEN + b" " + unit * (size // len(unit)) + b'"}'


def _nested(size: int) -> bytes:
    text = json.dumps(TOKEN.decode())
    while len(text) * 2 < size:
        text = json.dumps([text, text])
    return text.encode()


def _blocks(size: int) -> bytes:
    unit = b'{"type":"text","text":"aa"},'
    return b'{"content":[' + unit * (size // len(unit)) + b'{"type":"text","text":"x"}]}'


def _signature(size: int) -> bytes:
    return b'{"d":"' + base64.urlsafe_b64encode(random.Random(1).randbytes(size * 3 // 4)) + b'"}'


def _picture(size: int) -> bytes:
    return b'{"d":"' + base64.b64encode(random.Random(1).randbytes(size * 3 // 4)) + b'"}'


HOSTILE: Mapping[str, Callable[[int], bytes]] = {
    "headers of keys": _of(b"-----BEGIN RSA PRIVATE KEY-----"),
    "keys without end": _of(b"-----BEGIN RSA PRIVATE KEY-----MIIEpAIBAAKCAQEA1234"),
    "one key without end": lambda size: b"-----BEGIN RSA PRIVATE KEY-----" + _of(b"MIIEpAIBAAKCAQEA1234")(size),
    "sk-": _of(b"sk-"),
    "a=": _of(b"a="),
    "token=": _of(b"token="),
    "://a:b": _of(b"://a:b"),
    "password: abcdefgh": _of(b"password: abcdefgh "),
    "[": _of(b"["),
    '{"a":': _of(b'{"a":'),
    '"': _of(b'"'),
    "short strings": _of(b'"aaaaaa",'),
    "secrets": _of(b"api_key=a1b2c3d4e5f6g7h8 "),
    "secrets in a string": _beside_a_token(TOKEN + b" "),
    "strings of secrets": lambda size: b"[" + _of(b'"' + TOKEN + b'",')(size),
    "backslashes": _of(b"\\"),
    "backslashes in a string": _beside_a_token(b"\\\\"),
    "escapes of letters": _beside_a_token(b"\\u0041"),
    "line ends": _beside_a_token(b"a\\n"),
    "line ends and secrets": _beside_a_token(b"a\\n" * 300 + TOKEN),
    "slashes": _of(b"\\/"),
    "JSON in JSON": _nested,
    "blocks of text": _blocks,
    "heads of JWTs": _of(b"eyJaaaaaaaaaaaaaaa."),
    "keys in base64": _of(b"LS0tLS1CRUdJTi"),
    "marks": _of(b"[redacted:secret:12345678]token="),
    "a picture": _picture,
    "base64 for addresses": _signature,
    "colours": _beside_a_token(b"\\u001b[32ma"),
    "percent": _of(b"a%3D%22"),
    "entities": _beside_a_token(b"a&#10;"),
    "names apart from values": _of(b"token: |\n  a1 "),
    "elements": _beside_a_token(b"<token>"),
    "names and tables": _of(b"api_key  | a1"),
}
"""What to call it, and a line of about so many bytes."""
