"""Names that must not reach strangers, in the shapes in which they stand in status, logs and settings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.privacy.pseudonyms import Pseudonyms, hide

HOME = "/home/ada"
BLANKS = "/home/ada/Kunde Meier AG/site"
MASK = Pseudonyms(b"key", {BLANKS: "folder", "acme-*": "rule", "short-session": "session"}, HOME, "ada")
SESSION = "28cccd80-67c1-494b-86bd-e80b30fc85ba"
NAMES = ("meier", "kunde", "acme", "ada", "28cccd80", "short-session", "secret")


@pytest.mark.parametrize(
    "text",
    [
        f"{HOME}/src/acme/web",
        f"~/acme/{SESSION}.jsonl",
        f"{HOME}/.claude/projects/-home-ada-acme-web/{SESSION}.jsonl can't be read: Permission denied",
        f"two claim {SESSION}: /srv/acme/x.jsonl, /srv/acme/y.jsonl",
        f"{BLANKS} is not there yet",
        f'"{BLANKS}"',
        "it is on the private list: project acme-*",
        "session short-session is refused",
        r"C:\Users\ada\acme\x.jsonl",
        r"\\server\acme\x",
        "(/srv/acme), [/srv/acme] '/srv/acme'",
        "destination of ada",
        "file:///srv/acme/x",
        "path=/srv/acme",
    ],
)
def test_no_name_is_left(text: str) -> None:
    masked = MASK.mask(text).lower()
    assert not [name for name in NAMES if name in masked], masked


def test_what_is_the_same_for_everybody_stays() -> None:
    for text in (
        "https://transcripts.example.com/v1/tenant answers in 3 ms",
        "/usr/lib/python3 and /etc/hosts",
        "12/3 and and/or",
        "~/.claude/projects",
        "the server answers 413",
    ):
        assert MASK.mask(text) == text
    assert MASK.mask(f"{HOME}/.config/transcriptd/config.toml") == "~/.config/transcriptd/config.toml"


def test_equal_names_have_equal_pseudonyms_and_other_machines_other_ones() -> None:
    other = Pseudonyms(b"other", {}, HOME)
    one, two = MASK.mask("/srv/acme/a.jsonl"), MASK.mask("/srv/acme/b.jsonl")
    assert one.split("/")[:3] == two.split("/")[:3]
    assert one != two
    assert one.endswith(".jsonl")
    assert other.mask("/srv/acme/a.jsonl") != one


def test_everything_in_a_document_is_masked_names_of_members_too() -> None:
    masked = MASK.mask_all({f"under {BLANKS}": [1, None, "/srv/acme", {"x": f"{HOME}/acme"}], "n": 2.5})
    assert "acme" not in repr(masked)
    assert "Meier" not in repr(masked)
    assert masked["n"] == 2.5


@given(st.text(max_size=200))
def test_whatever_the_text_masking_ends_and_changes_nothing_twice(text: str) -> None:
    masked = MASK.mask(text)
    assert MASK.mask(masked) == masked or "/" in text or "\\" in text or "~" in text


def test_known_secrets_are_hidden_the_longer_ones_first() -> None:
    assert hide("token tsd_abcdef and tsd_abc", ["tsd_abc", "tsd_abcdef", "ab"]) == "token [secret] and [secret]"
