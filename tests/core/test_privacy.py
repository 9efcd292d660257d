"""Who decides: what a list says, and what follows for a session."""

import itertools
import string
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.core.privacy.rules import (
    HEADER,
    REMOTE_UNKNOWN,
    PrivateRules,
    Rule,
    Subject,
    normalise_remote,
    parse_lines,
    parse_rule,
    parse_rules,
    render_folder,
    split_lines,
)
from agent.core.settings import Privacy
from agent.errors import PrivacyListError

ID = "0f3c2b1e-90ab-4cde-8f01-23456789abcd"
OTHER = "11111111-2222-4333-8444-555555555555"


def at(folder: str, remotes: frozenset[str] | None = frozenset()) -> Subject:
    return Subject(OTHER, folder, frozenset([folder]), remotes)


def is_private(rule: str, subject: Subject, *, fold_case: bool = False) -> bool:
    verdict = parse_rules(rule, fold_case=fold_case).decide(subject)
    assert bool(verdict.why) == verdict.private
    return verdict.private


# ---- the list ----


def test_a_list_is_read_as_it_is_meant() -> None:
    text = f"{HEADER}\nsession {ID}  # one\r\n\n  project\t~/work/my project # with a blank\nremote github.com/acme/*#1"
    found = [rule for rule in parse_lines(text) if rule is not None]
    assert [rule.text for rule in found] == [
        f"session {ID}",
        "project ~/work/my project",
        "remote github.com/acme/*#1",
    ]
    assert [rule.line for rule in found] == [9, 11, 12]
    assert not parse_rules(HEADER).sessions


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("sesion " + ID, "'sesion' is no kind of rule"),
        (ID, "no kind of rule"),
        ("Session " + ID, "no kind of rule"),
        ("session", "names nothing"),
        ("project   # where?", "names nothing"),
        ("session 0f3c2b1e", "no whole session id"),
        ("session 0f3c2b1e-90ab", "no whole session id"),
        ("session 0f3c2b1e-…", "no whole session id"),
        (f"session {ID} {OTHER}", "no whole session id"),
        ("session *", "no whole session id"),
        ("project work/secret", "no folder"),
        ("project $HOME/secret", "no folder"),
        ('project "/home/ada/my work"', "without quotes"),
        ("project /home/ada/../bob", "holds . or .."),
        ("project ~/C #1", "may belong to the name"),
        ("project ~/a\x07b", "can't be seen"),
        ("project ~/a\u202eb", "can't be seen"),
        ("remote acme/x", "no git remote"),
        ("remote acme", "no git remote"),
        ("remote https://", "no git remote"),
        ("remote github.com/acme x", "no git remote"),
    ],
)
def test_what_is_not_understood_names_its_line(line: str, word: str) -> None:
    with pytest.raises(PrivacyListError) as caught:
        parse_rules(f"# first\n\n{line}\n", "private.list")
    assert "line 3 of private.list: " in caught.value.message
    assert word in caught.value.message
    assert caught.value.exit_status == 78


@given(st.text(st.characters(codec=None)))
@example("\ufeff" + HEADER)
@example("project /a #\nsession " + ID)
def test_no_text_breaks_the_parser(text: str) -> None:
    assert "".join(split_lines(text)) == text
    try:
        rules = parse_lines(text)
    except PrivacyListError:
        return
    assert len(rules) == len(split_lines(text.removeprefix("\ufeff")))
    for rule in rules:
        if rule is not None:
            assert parse_rule(rule.kind, rule.value) == rule._replace(line=0)
    parse_rules(text).decide(Subject("s", "/", frozenset("/")))


names = st.text(st.sampled_from(string.ascii_letters + "#*?[]!- \t.\\\u00e4\u0308\u202e\n'~"), min_size=1, max_size=12)


@given(st.lists(names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=4))
@example(["C #1"])
@example(["a[1]"])
@example(["ends "])
@example(["[!a]*"])
def test_any_folder_can_be_named(parts: list[str]) -> None:
    folder = "/" + "/".join(parts)
    rule = parse_rule("project", render_folder(folder))
    [again] = [one for one in parse_lines(rule.text + "  # why\n") if one is not None]
    assert is_private(again.text, at(folder))
    assert is_private(again.text, at(folder + "/below"))
    assert not is_private(again.text, at("/elsewhere/" + "x" * 20))


def test_a_rule_that_would_be_two_lines_is_refused() -> None:
    for value in (f"{ID}\nproject /", f"{ID} # not said", "", " " + ID):
        with pytest.raises(PrivacyListError):
            parse_rule("session", value)


# ---- what a rule covers ----


@pytest.mark.parametrize("spelling", [ID, ID.upper()])
def test_a_session_is_its_id_and_what_is_a_copy_of_it(spelling: str) -> None:
    assert is_private(f"session {spelling}", Subject(ID))
    assert is_private(f"session {spelling}", Subject(OTHER, aliases=frozenset([ID])))
    assert not is_private(f"session {spelling}", Subject(OTHER))


@pytest.mark.parametrize(
    ("pattern", "folder", "covered"),
    [
        ("/home/ada/secret", "/home/ada/secret", True),
        ("/home/ada/secret", "/home/ada/secret/deep/er", True),
        ("/home/ada/secret/", "/home/ada/secret", True),
        ("/home/ada//secret", "/home/ada/secret/", True),
        ("/home/ada/secret", "/home/ada/secrets", False),
        ("/home/ada/secret", "/home/ada", False),
        ("/home/ada/secret-*", "/home/ada/secret-1/x", True),
        ("/home/ada/secret-?", "/home/ada/secret-12", False),
        ("*/secret", "/anywhere/secret/x", True),
        ("/home/ada/a[1]", "/home/ada/a[1]/x", True),
        ("/home/ada/a[1]", "/home/ada/a1", True),
        ("/", "/home", True),
        ("C:\\Users\\ada\\secret", "C:/Users/ada/secret/x", True),
        ("C:/Users/ada/secret", "C:\\Users\\ada\\secret\\x", True),
        ("/home/ada/caf\u00e9", "/home/ada/cafe\u0301", True),
        ("/home/ada/Secret", "/home/ada/secret", False),
    ],
)
def test_a_project_is_a_folder_and_what_is_below_it(pattern: str, folder: str, covered: bool) -> None:
    assert is_private(f"project {pattern}", at(folder)) is covered


def test_case_counts_only_where_the_file_system_tells_it_apart() -> None:
    for pattern, folder in (("/Home/SECRET-*", "/home/secret-1"), ("/home/[!a]x", "/home/Ax")):
        assert is_private(f"project {pattern}", at(folder), fold_case=True)
    assert not is_private("project /Home/SECRET-*", at("/home/secret-1"))


def test_any_folder_of_a_session_counts_and_every_spelling_of_a_rule() -> None:
    rules = parse_rules("project /link", spell=lambda pattern: (pattern, "/real"))
    assert rules.decide(Subject("s", "/a", frozenset(["/a", "/real/x"]))).rule == "project /link"
    assert rules.decide(Subject("s", "/a", project_spellings=frozenset(["/link"]))).private
    assert not rules.decide(at("/a")).private


SPELLINGS = [
    "github.com/acme/x",
    "https://github.com/acme/x",
    "https://github.com/Acme/X.git/",
    "https://user:secret@github.com/acme/x.git",
    "https://ssh.github.com:443/acme/x",
    "ssh://git@github.com/acme/x",
    "ssh://git@GitHub.com:22/acme/x.git",
    "git@github.com:acme/x.git",
    "git@github.com:/acme/x/",
    "github.com:acme/x",
    "git://github.com//acme/x.git//",
    "git+ssh://git@github.com/acme/x",
    "https://github.com/acme/%78",
]


def every_spelling() -> Iterator[str]:
    """All that git, ssh and the hosts take for one and the same."""
    hosts = ["github.com", "GitHub.COM", "github.com.", "www.github.com"]
    paths = [
        "acme/x",
        "/acme/x",
        "Acme/X.git",
        "acme//x",
        "./acme/./x",
        "acme/x/",
        "acme/y/../x",
        "acme/x.git//",
        "/acme/x/.",
    ]
    users = ["", "git@", "ada:secret@"]
    ports = {"https": ":443", "http": ":80", "ssh": ":22", "git": ":9418", "git+ssh": ":22", "ssh+git": ":2222"}
    for host, path, user in itertools.product(hosts, paths, users):
        for scheme, port in ports.items():
            yield from (f"{scheme}://{user}{host}{one}/{path}" for one in ("", port, ":"))
        if ":" not in user:  # ssh knows no passwords there
            yield from (f"{user}{host}:{path}", f"{user}[{host}]:{path}", f"[{user}{host}:22]:{path}")
    yield from (f"HTTPS://github.com/{one}" for one in ("%61cme/x", "acme%2Fx", " acme/x ".strip(), "acme/%78.git"))


def test_every_spelling_of_a_remote_is_one() -> None:
    spellings = list(every_spelling())
    assert len(spellings) > 2000
    assert {one: normalise_remote(one) for one in spellings if normalise_remote(one) != "github.com/acme/x"} == {}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ssh://git@[::1]:22/acme/x", "git@[::1]:acme/x"),
        ("ssh://[fe80::1]/x", "[git@fe80::1]:x.git"),
        ("/srv/./git//x.git", "file:///srv/git/x"),
        ("../x", "./../x.git"),
        ("C:\\git\\.\\x.git", "c:/git/x"),
    ],
)
def test_other_remotes_that_are_one(one: str, other: str) -> None:
    assert normalise_remote(one) == normalise_remote(other)


@pytest.mark.parametrize(
    "other",
    [
        "github.com/acme",
        "github.com/acme/x/y",
        "github.com/acme/xgit",
        "github.co/acme/x",
        "git@github.com:acme.x",
        "[a]:acme/x",
    ],
)
def test_other_remotes_stay_other_ones(other: str) -> None:
    assert normalise_remote(other) != "github.com/acme/x"


def test_folders_are_one_however_their_slashes_are_written() -> None:
    for written in ("/w/./x", "/w//x", "/w/x/.", "/w/././/x/"):
        assert is_private("project /w/x", at(written)), written
    assert not is_private("project /w/x", at("/w/.x"))


@pytest.mark.parametrize("written", SPELLINGS)
def test_a_remote_is_the_same_however_it_is_spelt(written: str) -> None:
    assert normalise_remote(written) == "github.com/acme/x"
    one = at("/a", remotes=frozenset([normalise_remote(written)]))
    for rule in [*SPELLINGS, "github.com/acme/*", "git@github.com:acme/*.git", "github.com/acme", "*/acme/x"]:
        assert is_private(f"remote {rule}", one), rule
    for rule in ("github.com/acme/y", "gitlab.com/acme/x", "github.com/acm", "github.com/acme/x/y"):
        assert not is_private(f"remote {rule}", one), rule


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("/srv/git/X.git", "/srv/git/x"),
        ("file:///srv/git/x.git/", "/srv/git/x"),
        ("C:\\git\\x.git", "c:/git/x"),
        ("codecommit::eu-west-1://team@repo", "repo"),
        ("/srv/x/.git", "/srv/x"),
    ],
)
def test_remotes_on_this_machine_and_behind_helpers(written: str, normal: str) -> None:
    assert normalise_remote(written) == normal


@given(st.text())
def test_a_normal_remote_stays_what_it_is(url: str) -> None:
    normalise_remote(url)
    host = normalise_remote("https://h.example/" + url.replace("%", ""))
    assert host.startswith("h.example")


# ---- what is not known, and sharing ----


def test_what_is_not_known_is_private_only_where_a_rule_asks_for_it() -> None:
    unknown = Subject("s", remotes=None)
    assert not is_private(f"session {ID}", unknown)
    for rule, why in (("project /a", "its project is not known yet"), ("remote h.x/a", REMOTE_UNKNOWN)):
        verdict = parse_rules(rule).decide(unknown)
        assert verdict == (True, why, "", False)
    both = parse_rules(f"remote h.x/a\nsession {ID}").decide(Subject(ID, remotes=None))
    assert both == (True, f"it is on the private list: session {ID}", f"session {ID}", True)


def test_only_what_is_listed_is_shared_if_so_wished() -> None:
    rules = parse_rules("project /oss/lib/secret", privacy=Privacy("listed", ("/oss/lib", "/oss/web-*")))
    assert not rules.decide(at("/oss/lib/x")).private
    assert not rules.decide(at("/oss/web-1")).private
    assert rules.decide(at("/oss/lib/secret")).rule
    assert rules.decide(at("/oss/other")) == (
        True,
        'its project is not one of shared_projects, and share = "listed"',
        "",
        True,
    )
    assert rules.decide(Subject("s")).why == "its project is not known yet"
    # The first folder decides, in every spelling: a link out of a shared folder leads to what is not shared.
    assert not rules.decide(Subject("s", "/oss/lib", frozenset(["/oss/lib", "/tmp"]))).private
    assert rules.decide(Subject("s", "/oss/lib/link", project_spellings=frozenset(["/oss/other"]))).private
    assert rules.decide(Subject("s", "", frozenset(["/oss/lib"]))).private


def test_nothing_is_shared_while_the_list_says_nothing() -> None:
    rules = parse_rules("").closed("it can't be read")
    assert rules.decide(at("/a")) == (True, "it can't be read", "", False)


def test_what_stood_there_before_counts_for_a_moment() -> None:
    before, now = parse_rules("project /a"), parse_rules("project /b")
    both = now._replace(before=before).sealed()
    assert [both.decide(at(folder)).private for folder in ("/a", "/b", "/c")] == [True, True, False]
    half = now.closed("line 1 is wrong")._replace(before=before)
    assert half.decide(at("/a")).certain
    assert half.decide(at("/c")) == (True, "line 1 is wrong", "", False)
    assert len({one.digest for one in (before, now, both)}) == 3


def test_the_digest_tells_every_change() -> None:
    texts = ["", "project /a", "project /b", "remote h.x/a", f"session {ID}", f"session {OTHER}"]
    made = [parse_rules(text) for text in texts]
    made += [parse_rules("", privacy=Privacy("listed", shared)) for shared in ((), ("/a",))]
    made += [parse_rules("", fold_case=True), made[0].closed("x"), made[0]._replace(missing=True).sealed()]
    assert len({one.digest for one in made}) == len(made)
    assert parse_rules("# only a comment\n").digest == made[0].digest == PrivateRules().sealed().digest
    assert Rule("session", ID).text == f"session {ID}"
