"""What may stand in config.toml, and what is said about what may not."""

import dataclasses
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.settings import (
    DESTINATION_FIELDS,
    EXAMPLE_TEXT,
    REQUIRED,
    SECTION_FIELDS,
    Destination,
    Field,
    FileLimits,
    Index,
    Log,
    Notify,
    Privacy,
    Push,
    Settings,
    Watch,
    check_url,
    is_loopback,
    parse_settings,
    render_settings,
)
from agent.errors import SettingsError

SECTIONS = {"push": Push, "watch": Watch, "privacy": Privacy, "limits": FileLimits}
SECTIONS |= {"index": Index, "notify": Notify, "log": Log}
URL = "https://transcripts.example.com"
ALL_FIELDS = [
    pytest.param(section, key, field, id=f"{section}.{key}")
    for section, table in [("destination", DESTINATION_FIELDS), *SECTION_FIELDS.items()]
    for key, field in table.items()
]


def toml_of(section: str, key: str, value: str) -> str:
    """A file in which `key` has `value` (already TOML) and everything else is as it must be."""
    if section != "destination":
        return f"[{section}]\n{key} = {value}\n"
    url = "" if key == "url" else f'url = "{URL}"\n'
    return f"[[destination]]\n{url}{key} = {value}\n"


def read(section: str, settings: Settings) -> Any:
    return settings.destinations[0] if section == "destination" else getattr(settings, section)


def refusal(text: str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        parse_settings(text, "config.toml")
    assert caught.value.exit_status == 78
    return caught.value


# --- the table is the truth --------------------------------------------------------------------------------------


def test_the_dataclasses_have_the_keys_and_defaults_of_the_table() -> None:
    for section, table in SECTION_FIELDS.items():
        assert {one.name for one in dataclasses.fields(SECTIONS[section])} == set(table)
        for key, field in table.items():
            default = getattr(getattr(Settings(), section), key)
            expected = tuple(field.default) if field.kind is list else field.default
            assert default == expected, f"{section}.{key}"
            assert type(default) is type(expected), f"{section}.{key}"
    for key, field in DESTINATION_FIELDS.items():
        if field.default is not REQUIRED:
            expected = tuple(field.default) if field.kind is list else field.default
            assert getattr(Destination(URL), key) == expected, f"destination.{key}"
    assert {one.name for one in dataclasses.fields(Destination)} == set(DESTINATION_FIELDS)
    assert set(SECTION_FIELDS) | {"destinations"} == {one.name for one in dataclasses.fields(Settings)}


@pytest.mark.parametrize(("section", "key", "field"), ALL_FIELDS)
def test_every_default_is_one_that_the_table_itself_allows(section: str, key: str, field: Field) -> None:
    if field.default is REQUIRED:
        return
    assert isinstance(field.default, field.kind)
    if field.kind is str and field.allowed is not None:
        assert field.default in field.allowed
    elif field.kind is list and field.allowed is not None:
        assert isinstance(field.default, list)
        assert set(field.default) <= set(field.allowed)
    elif field.allowed is not None:
        low, high = map(float, field.allowed)
        assert low <= float(str(field.default)) <= high
    assert field.meaning


def test_an_empty_file_is_the_defaults() -> None:
    for text in ("", "# only a comment\n"):
        assert parse_settings(text) == Settings()


def test_the_example_is_fine() -> None:
    settings = parse_settings(EXAMPLE_TEXT)
    assert [one.url for one in settings.destinations] == [URL]
    assert settings.push == Push()


# --- round trip ---------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?\.example", fullmatch=True)


def value_of(section: str, key: str, field: Field) -> st.SearchStrategy[Any]:
    if (section, key) == ("destination", "url"):
        return st.builds("https://{}/{}".format, HOSTS, st.from_regex(r"[a-z/]{0,9}", fullmatch=True))
    if field.kind is bool:
        return st.booleans()
    if field.kind is list:
        words = TEXT if field.allowed is None else st.sampled_from(field.allowed)
        return st.lists(words, max_size=4).map(tuple)
    if field.kind is str:
        return TEXT if field.allowed is None else st.sampled_from(field.allowed)
    assert field.allowed is not None
    low, high = map(float, field.allowed)
    return st.integers(int(low), int(high)) if field.kind is int else st.floats(low, high)


def any_of(section: str, table: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({key: value_of(section, key, field) for key, field in table.items()})


DESTINATIONS = st.lists(
    st.builds(lambda given: Destination(**given), any_of("destination", DESTINATION_FIELDS)),
    max_size=3,
    unique_by=lambda one: one.name,
).map(tuple)
ANY_SETTINGS = st.builds(
    lambda destinations, push, watch, privacy, limits, index, notify, log: Settings(
        destinations,
        Push(**push),
        Watch(**watch),
        Privacy(**privacy),
        FileLimits(**limits),
        Index(**index),
        Notify(**notify),
        Log(**log),
    ),
    DESTINATIONS,
    *(any_of(section, table) for section, table in SECTION_FIELDS.items()),
)


@given(ANY_SETTINGS)
def test_what_is_shown_reads_back_as_what_is_in_force(settings: Settings) -> None:
    assert parse_settings(render_settings(settings)) == settings


def test_what_is_shown_names_every_key() -> None:
    document = tomllib.loads(render_settings(Settings((Destination(URL),))))
    assert {section: set(keys) for section, keys in document.items() if section != "destination"} == {
        section: set(table) for section, table in SECTION_FIELDS.items()
    }
    assert set(document["destination"][0]) == set(DESTINATION_FIELDS)


@pytest.mark.parametrize(("section", "key", "field"), ALL_FIELDS)
def test_a_key_alone_changes_itself_alone(section: str, key: str, field: Field) -> None:
    value, words = {
        str: ("error", '"error"'),
        bool: (not field.default, str(not field.default).lower()),
        int: (4321, "4321") if section == "limits" else (3, "3"),
        float: (7.25, "7.25"),
        list: (("/a", "/b"), '["/a", "/b"]'),
    }[field.kind]
    if key in ("protocol", "share", "token", "keyring", "file"):
        value = str(field.allowed[1]) if field.allowed else ""
        words = f'"{value}"'
    if key == "agents":
        value, words = ("codex",), '["codex"]'
    if key == "url":
        value, words = f"{URL}/x", f'"{URL}/x"'
    settings = parse_settings(toml_of(section, key, words))
    before = Destination(URL) if section == "destination" else getattr(Settings(), section)
    assert read(section, settings) == dataclasses.replace(before, **{key: value})


def test_a_whole_number_will_do_where_seconds_are_asked() -> None:
    interval_s = parse_settings("[push]\ninterval_s = 60\n").push.interval_s
    assert interval_s == 60.0
    assert isinstance(interval_s, float)


# --- refused values ------------------------------------------------------------------------------------------------

WRONG = {
    str: ["1", "true", '["a"]', "{}", "1979-05-27"],
    bool: ["1", "0", '"true"', "[]"],
    int: ["true", "1.0", '"8"', "[]"],
    float: ["true", '"30"', "[]", "1979-05-27T07:32:00Z"],
    list: ['"/a"', "true", "1", "{}", "[1]", '["/a", true]', '[["/a"]]'],
}


@pytest.mark.parametrize(("section", "key", "field"), ALL_FIELDS)
def test_a_value_of_another_kind_is_refused_with_file_key_and_what_is_expected(
    section: str, key: str, field: Field
) -> None:
    for wrong in WRONG[field.kind]:
        error = refusal(toml_of(section, key, wrong))
        assert error.message.startswith(f"{section}.{key} in config.toml is "), error.message
        assert ", expected " in error.message


@pytest.mark.parametrize(
    ("section", "key", "field"),
    [one for one in ALL_FIELDS if isinstance(one.values[2], Field) and one.values[2].allowed],
)
def test_a_value_outside_its_range_is_refused_with_the_range(section: str, key: str, field: Field) -> None:
    assert field.allowed is not None
    if field.kind is str:
        outside, words = ['""', '"INFO"', '"upload "'], [str(one) for one in field.allowed]
    elif field.kind is list:
        outside, words = ['[""]', '["claude", "Codex"]'], [str(one) for one in field.allowed]
    else:
        low, high = map(float, field.allowed)
        whole = field.kind is int
        outside = [f"{low - 1:.0f}" if whole else f"{low - 0.001}", f"{high + 1:.0f}" if whole else f"{high + 0.5}"]
        outside += [] if whole else ["nan", "inf", "-inf"]
        words = [f"{low:g}", f"{high:g}"]
        for edge in (low, high):
            parse_settings(toml_of(section, key, f"{edge:.0f}" if whole else f"{edge}"))
    for value in outside:
        error = refusal(toml_of(section, key, value))
        assert f"{section}.{key} in config.toml" in error.message
        assert all(word in error.message for word in words), error.message


@pytest.mark.parametrize(
    ("text", "unknown", "near"),
    [
        ("[push]\nintervall_s = 30\n", "push.intervall_s", "push.interval_s"),
        ("[push]\nworker = 3\n", "push.worker", "push.workers"),
        ("[watch]\nscan_interval = 3\n", "watch.scan_interval", "watch.scan_interval_s"),
        ("[log]\nlvl = 'info'\n", "log.lvl", "log.level"),
        ("[pusch]\n", "pusch", "push"),
        ("[[destinations]]\nurl = 'https://a.example'\n", "destinations", "destination"),
        ("[[destination]]\nuri = 'https://a.example'\n", "destination.uri", "destination.url"),
        ("[Push]\n", "Push", "push"),
        ("interval_s = 30\n", "interval_s", ""),
        ('"" = 1\n', "", ""),
        ("zzzzzzz = 1\n", "zzzzzzz", ""),
    ],
)
def test_an_unknown_key_is_refused_and_the_nearest_known_one_named(text: str, unknown: str, near: str) -> None:
    error = refusal(text)
    assert error.message == f"{unknown} in config.toml is not a setting"
    assert near in error.hint
    assert error.hint.startswith("did you mean ")


@pytest.mark.parametrize("section", [*SECTION_FIELDS])
def test_a_section_that_is_no_table_is_refused(section: str) -> None:
    for value in ("1", '"text"', "[]", "[{}]"):
        assert f"[{section}]" in refusal(f"{section} = {value}\n").message


@pytest.mark.parametrize("text", ["destination = 1", "destination = 'https://a.example'", "destination = [1]"])
def test_destinations_that_are_no_tables_are_refused(text: str) -> None:
    assert "[[destination]]" in refusal(text).message


def test_one_pair_of_brackets_too_few_is_told_as_that() -> None:
    assert "[[destination]]" in refusal("[destination]\nurl = 'https://a.example'\n").message


def test_a_destination_without_an_address_is_refused() -> None:
    error = refusal("[[destination]]\nname = 'here'\n")
    assert error.message == "destination.url is missing in config.toml"
    assert "url" in error.hint


def test_two_destinations_need_two_names() -> None:
    one, other = "[[destination]]\nurl = 'https://a.example'\n", "[[destination]]\nurl = 'https://b.example'\n"
    assert "default" in refusal(one + other).message
    assert "a name that no other destination has" in refusal(one + "name = 'x'\n" + other + "name = 'x'\n").message
    assert len(parse_settings(one + other + "name = 'b'\n").destinations) == 2


@pytest.mark.parametrize(
    "text",
    [
        "[push",
        "a = ",
        "a = 1\na = 2\n",
        "[push]\n[push]\n",
        '"unfinished',
        "\x00",
        "a = 01",
        "a = 1979-99-99",
        "a = " + "[" * 20_000,
        "a = " + "[" * 20_000 + "]" * 20_000,
        "a = " + "9" * 5_000,
        ".".join("a" * 5_000) + " = 1",
    ],
    ids=range(12),
)
def test_what_is_no_toml_is_refused_in_one_line(text: str) -> None:
    error = refusal(text)
    assert error.message.startswith(("config.toml is not TOML: ", "a in config.toml is not a setting"))
    assert "\n" not in error.message
    assert len(error.message) < 300


# --- addresses ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "https://transcripts.example.com:8443/base/path/",
        "https://192.0.2.7",
        "https://[2001:db8::7]:443/x",
        "http://localhost:8787",
        "http://LOCALHOST",
        "http://127.0.0.1:1",
        "http://127.9.9.9",
        "http://[::1]:8787",
    ],
)
def test_https_to_anywhere_and_http_to_this_machine_may_be(url: str) -> None:
    check_url(url, insecure=False, where="url")


@pytest.mark.parametrize(
    "url",
    [
        "http://transcripts.example.com",
        "http://192.0.2.7:8787",
        "http://[2001:db8::7]",
        "http://127.0.0.1.example.com",
        "http://localhost.example.com",
        "http://0.0.0.1:80",
        "HTTP://transcripts.example.com",
    ],
)
def test_http_to_another_machine_needs_the_word_insecure(url: str) -> None:
    with pytest.raises(SettingsError, match="unencrypted") as caught:
        check_url(url, insecure=False, where="url")
    assert "insecure = true" in caught.value.hint
    check_url(url, insecure=True, where="url")
    assert parse_settings(f"[[destination]]\nurl = '{url}'\ninsecure = true\n").destinations[0].insecure


@pytest.mark.parametrize(
    "url",
    [
        "https://ada:secret@transcripts.example.com",
        "https://secret@transcripts.example.com",
        "https://:secret@transcripts.example.com",
        "https://transcripts.example.com/?token=secret",
        "https://transcripts.example.com/#secret",
        "https://transcripts.example.com/?",
        "https://transcripts.example.com/#",
        "https://@transcripts.example.com",
    ],
)
@pytest.mark.parametrize("insecure", [False, True])
def test_an_address_holds_nothing_but_an_address_and_the_refusal_does_not_repeat_it(url: str, insecure: bool) -> None:
    with pytest.raises(SettingsError, match="more than an address") as caught:
        check_url(url, insecure=insecure, where="url")
    assert "secret" not in caught.value.message + caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "",
        "transcripts.example.com",
        "//transcripts.example.com",
        "https://",
        "https:///path",
        "https://:443",
        "ftp://transcripts.example.com",
        "file:///etc/passwd",
        "https://[2001:db8::7",
        "https://[not-an-address]",
        "https://transcripts.example.com:port",
        "https://transcripts.example.com:99999",
        "https://transcripts example.com",
        "https://transcripts.example.com/a b",
        "https://transcripts.example.com\n",
        "https://transcripts.example.com/\tx",
        "https://transcripts.example.com/\x00",
        " https://transcripts.example.com",
    ],
)
@pytest.mark.parametrize("insecure", [False, True])
def test_what_is_no_address_is_refused(url: str, insecure: bool) -> None:
    with pytest.raises(SettingsError, match="url is no address"):
        check_url(url, insecure=insecure, where="url")


@given(TEXT)
def test_no_text_breaks_the_check_of_addresses(text: str) -> None:
    for url in (text, f"https://{text}", f"http://[{text}]/"):
        try:
            check_url(url, insecure=True, where="url")
        except SettingsError:
            continue


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.255.255.254", "::1"])
def test_this_machine_is_known_by_its_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "128.0.0.1", "::", "0.0.0.1", "localhost.example", "127.0.0.1.example", "fe80::1"]
)
def test_everything_else_is_another_machine(host: str) -> None:
    assert not is_loopback(host)
