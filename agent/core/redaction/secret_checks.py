"""Whether what a rule matched is a secret: placeholders, names, hashes and paths look alike and are none.

What costs grow with a value is bounded: a value of some MB is judged by its beginning.
"""

import math
import re
from base64 import b64decode
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256

_LOOKED_AT_BYTES = 4096
"""A value says what it is in its beginning; what a check costs does not grow with its length."""

_PLACEHOLDER = re.compile(
    rb"x{4}|example|your|placeholder|dummy|changeme|change_me|replace|redacted|insert|\*{3}|\.{3}|<|\$\{|\$\(|\{\{|%\("
    rb"|1234567890ab|abcdefghijkl|0123456789|not[-_]?a[-_]?real|fake[-_]",
    re.IGNORECASE,
)
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_INNOCENT_NAME = re.compile(
    rb"public|hash|sha\d|commit|digest|checksum|integrity|cache|count|max_|num_|_id\b|tokenizer|tokens|version|fingerprint"
    rb"|pattern|regex|prefix|_url|endpoint|_path|_file|_name|algorithm|type|signature",
    re.IGNORECASE,
)
_WORDS = re.compile(rb"[A-Z]?[a-z]{2,}|[A-Z]{3,}(?![a-z])")
_NUMBERS = re.compile(rb"[0-9]+")
_PASSWORDS_OF_DOCS = frozenset(
    b"pass passwd password passwort pwd secret token user username root admin test guest foo bar xxx pw key".split()
)
_HEX_SIZES = (32, 40, 64, 128)


_DIGITS, _ODD_SIGNS = b"0123456789", b"!@#$%^&*~?+="
_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERS = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def _count(value: bytes, signs: bytes) -> int:
    return len(value) - len(value.translate(None, signs))


def is_placeholder(value: bytes) -> bool:
    head = value[:_LOOKED_AT_BYTES]
    if len(head) > 120:
        return len(set(head)) < 6
    return len(set(head[-16:])) < 5 or _PLACEHOLDER.search(head) is not None


def entropy(value: bytes) -> float:
    """Shannon's, in bits a byte."""
    size = len(value)
    return -sum(n / size * math.log2(n / size) for n in Counter(value).values()) if size else 0.0


def is_random(value: bytes) -> bool:
    """Whether it looks drawn by chance: no words, no number, no uuid."""
    head = value[:256]
    digits, letters = _count(head, _DIGITS), _count(head, _LETTERS)
    if not digits or letters < 2 or is_placeholder(head) or _UUID.fullmatch(head):
        return False
    wordy = sum(map(len, _WORDS.findall(head)))
    if wordy > 0.65 * len(head) and not _is_scattered(head):
        return False
    return entropy(head) >= min(3.3, 0.72 * math.log2(len(head)))


def _is_scattered(head: bytes) -> bool:
    """Letters that look like words by chance: with more numbers between them than names have, or hardly one twice."""
    numbers = len(_NUMBERS.findall(head)) if head.isalnum() else 0
    return numbers >= max(4, len(head) // 10) or (numbers > 1 and entropy(head) >= 4.3)


def _whatever(value: bytes) -> bool:
    return not is_placeholder(value)


def _example(value: bytes) -> bool:
    return not is_placeholder(value) and not value.endswith(b"EXAMPLE")


def _pem(value: bytes) -> bool:
    """At least one line of key material, not dots, a name in angle brackets, or words of a program."""
    head = value[:_LOOKED_AT_BYTES]
    return not is_placeholder(value) and any(
        len(line) >= 40 or _count(line, _LETTERS) < len(line) for line in _KEY_MATERIAL.findall(head)
    )


_KEY_MATERIAL = re.compile(rb"[A-Za-z0-9+/=]{16,}")


def _pem_in_base64(value: bytes) -> bool:
    """Certificates begin the same way and are meant to be seen."""
    head = re.sub(rb"[^A-Za-z0-9+/]", b"", value[:200])
    for shift in range(4):
        part = head[shift : shift + 96]
        if b"PRIVATE KEY" in b64decode(part[: len(part) // 4 * 4]):
            return True
    return False


def _jwt(value: bytes) -> bool:
    head = value.split(b".", 1)[0][:_LOOKED_AT_BYTES]
    try:
        decoded = b64decode(head + b"=" * (-len(head) % 4), altchars=b"-_")
    except ValueError:
        return False
    return b'"alg"' in decoded or b'"typ"' in decoded or b'"enc"' in decoded


def _basic(value: bytes) -> bool:
    head = value[:512].rstrip(b"=")
    try:
        decoded = b64decode(head + b"=" * (-len(head) % 4))
    except ValueError:
        return False
    _, colon, password = decoded.partition(b":")
    return bool(colon) and _password(password)


def _password(value: bytes) -> bool:
    head = value[:256]
    if head.lower() in _PASSWORDS_OF_DOCS or is_placeholder_password(head):
        return False
    return not head.startswith((b"$", b"{", b"%", b":", b"*"))


def is_placeholder_password(value: bytes) -> bool:
    return len(set(value)) < 3 or _PLACEHOLDER.search(value) is not None


def _prefixed(value: bytes) -> bool:
    """What begins as only such a secret does, and goes on as no word does."""
    head = value[:256]
    return not is_placeholder(head) and (_count(head, _DIGITS) > 1 or _count(head, _CAPITALS) > 3)


def _assigned(value: bytes) -> bool:
    if b"://" in value:
        return False
    return is_random(value) and not _is_path(value)


def _is_path(value: bytes) -> bool:
    parts = [part for part in value.split(b"/") if part]
    return len(parts) > 2 and sum(map(len, parts)) / len(parts) < 12 and b"+" not in value and not value.endswith(b"=")


def _assigned_password(value: bytes) -> bool:
    """Passwords are shorter than keys, and made by people: letters, and a digit or sign among them. Code that speaks of
    passwords assigns names, calls and members of objects."""
    head = value[:128]
    digits, letters, odd_signs = _count(head, _DIGITS), _count(head, _LETTERS), _count(head, _ODD_SIGNS)
    signs = len(head) - digits - letters
    if letters < 3 or not (digits or odd_signs) or not _password(head) or b"://" in head or _UUID.fullmatch(head):
        return False
    if signs and not odd_signs and not is_random(head):
        return False
    return entropy(head) >= 2.5 and not _CODE.search(head)


_CODE = re.compile(
    rb"^[A-Za-z_][A-Za-z0-9_]*\.[A-Za-z_]|\.\w+\.|->|::|[|&=?]{2}|\?\.|^[a-z]+[A-Z][a-z]+|_[a-z]+_|^\\|^/"
)


_CALL = re.compile(rb"[a-z0-9_]{1,24}(?:\.[a-z0-9_]{1,24})+")


def _cookie(value: bytes) -> bool:
    """A pair of name and value that looks drawn by chance."""
    return any(is_random(pair.partition(b"=")[2].strip()) for pair in value[:_LOOKED_AT_BYTES].split(b";"))


def _typed_password(value: bytes) -> bool:
    """On a command line no code stands in its place."""
    head = value[:128]
    return _password(head) and _count(head, _LETTERS) > 2 and _count(head, _DIGITS) > 0 and b"://" not in head


def _mixed(value: bytes) -> bool:
    """By chance, with large letters and small ones: hashes have one sort."""
    return is_random(value) and value.upper() != value != value.lower()


_BASE58 = {sign: number for number, sign in enumerate(b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}


def _wallet(value: bytes) -> bool:
    """Whether the checksum that such keys carry is right."""
    number = 0
    for sign in value:
        number = number * 58 + _BASE58[sign]
    try:
        raw = number.to_bytes(38 if len(value) == 52 else 37, "big")
    except OverflowError:
        return False
    return sha256(sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]


_NOBODYS_FOLDERS = frozenset((b"shared", b"public", b"default", b"guest", b"all users", b"user", b"username", b"you"))
_PSEUDONYM = re.compile(rb"user-[0-9a-f]{8}")

CHECKS: Mapping[str, Callable[[bytes], bool]] = {
    "": _whatever,
    "random": is_random,
    "mixed": _mixed,
    "wallet": _wallet,
    "prefixed": _prefixed,
    "example": _example,
    "pem": _pem,
    "pem64": _pem_in_base64,
    "jwt": _jwt,
    "basic": _basic,
    "cookie": _cookie,
    "typed-password": _typed_password,
    "header": lambda value: (
        not is_placeholder(value) and _count(value[:256], _DIGITS) > 0 and not _CALL.fullmatch(value[:64])
    ),
    "password": _password,
    "assigned": _assigned,
    "assigned-password": _assigned_password,
    "any": bool,
    "email": lambda value: not value.endswith((b".png", b".svg", b".jpg", b".gif")),
    "home": lambda value: value.lower() not in _NOBODYS_FOLDERS and not _PSEUDONYM.fullmatch(value),
}


def is_secret(check: str, before: bytes, value: bytes) -> bool:
    """`before`: what stands between the beginning of the match and the value, such as a name."""
    return CHECKS[check](value) and not (check in _NAMED and _INNOCENT_NAME.search(before[-_LOOKED_AT_BYTES:]))


_NAMED = ("assigned", "assigned-password")
