"""Remotes, as git itself tells them: with git, and without."""

import os
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.privacy.rules import normalise_remote
from agent.system.git import GitRemotes, asking
from agent.system.git.config import Unreadable, find_addresses, parse_config
from tests.conftest import require_tool
from tests.system.privileges import needs_posix, open_folder, unprivileged


@pytest.fixture(params=["with git", "without git"])
def program(request: pytest.FixtureRequest) -> str:
    return require_tool("git") if request.param == "with git" else ""


@pytest.fixture
def remotes(home: Path, program: str) -> GitRemotes:
    home.mkdir(exist_ok=True)
    return GitRemotes({}, str(home), program)


def told(remotes: GitRemotes, *folders: Path | str) -> set[str] | None:
    found = remotes.of([str(one) for one in folders])
    return None if found is None else set(found)


def run(folder: Path, *words: str) -> str:
    command = [require_tool("git"), "-c", "user.name=a", "-c", "user.email=a@example.org", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


def make(folder: Path, url: str = "git@github.com:acme/x.git") -> Path:
    folder.mkdir(parents=True)
    run(folder, "init", "-q")
    run(folder, "remote", "add", "origin", url)
    return folder


def test_a_folder_belongs_to_the_checkouts_around_it(remotes: GitRemotes, tmp_path: Path) -> None:
    outer = make(tmp_path / "outer")
    run(outer, "remote", "add", "fork", "https://ada@gitlab.com/ada/x")
    run(outer, "remote", "set-url", "--push", "origin", "ssh://push.example/x")
    inner = make(outer / "vendor" / "inner", "https://h.example/inner.git")
    (inner / "deep").mkdir()
    own = {"github.com/acme/x", "gitlab.com/ada/x", "push.example/x"}
    assert told(remotes, outer) == own
    assert told(remotes, inner / "deep") == own | {"h.example/inner"}
    assert told(remotes, outer / ".git" / "refs") == own
    assert told(remotes, tmp_path) == set()
    assert told(remotes) == set()
    assert told(remotes, tmp_path, outer) == own


def test_worktrees_submodules_and_bare_repositories(remotes: GitRemotes, tmp_path: Path) -> None:
    main = make(tmp_path / "main")
    run(main, "commit", "-q", "--allow-empty", "-m", "x")
    run(main, "worktree", "add", "-q", str(tmp_path / "tree"))
    assert told(remotes, tmp_path / "tree") == {"github.com/acme/x"}
    run(main, "config", "extensions.worktreeConfig", "true")
    run(tmp_path / "tree", "config", "--worktree", "remote.own.url", "https://h.example/own")
    assert told(remotes, tmp_path / "tree") == {"github.com/acme/x", "h.example/own"}
    part = make(tmp_path / "part", "https://h.example/part")
    run(part, "commit", "-q", "--allow-empty", "-m", "x")
    run(main, "-c", "protocol.file.allow=always", "submodule", "add", "-q", str(part), "sub")
    assert told(remotes, main / "sub") == {"github.com/acme/x", normalise_remote(str(part))}
    run(tmp_path, "clone", "-q", "--bare", str(part), "bare")
    assert told(remotes, tmp_path / "bare") == {normalise_remote(str(part))}


def test_each_change_is_seen(remotes: GitRemotes, tmp_path: Path) -> None:
    folder = make(tmp_path / "x")
    assert told(remotes, folder) == {"github.com/acme/x"}
    run(folder, "remote", "set-url", "origin", "https://github.com/acme/y")
    assert told(remotes, folder) == {"github.com/acme/y"}


def test_short_names_of_servers_are_told_at_length(remotes: GitRemotes, home: Path, tmp_path: Path) -> None:
    folder = make(tmp_path / "x", "gh:acme/x.git")
    (home / ".gitconfig").write_text('[url "git@github.com:"]\n\tinsteadOf = gh:\n')
    assert told(remotes, folder) == {"gh/acme/x", "github.com/acme/x"}
    (home / ".gitconfig").unlink()
    run(folder, "config", "url.https://h.example/.insteadOf", "gh:")
    assert told(remotes, folder) == {"gh/acme/x", "h.example/acme/x"}


@pytest.mark.parametrize(
    ("config", "url", "also"),
    [
        ("Host work\n  HostName github.com\n", "git@work:acme/x.git", "github.com/acme/x"),
        ("Host github.com-work other\nHostname=GitHub.com\n", "git@github.com-work:acme/x", "github.com/acme/x"),
        ('host "w*" !web\n\tHostName "ssh.github.com" # 443\n', "ssh://git@work:443/acme/x", "github.com/acme/x"),
        ("Host *\nHostName %h.example.org\n", "git:acme/x", "git.example.org/acme/x"),
        ("Match originalhost work,other user ada\nHostName github.com", "work:acme/x", "github.com/acme/x"),
        ("Match exec true\nHostName github.com", "work:acme/x", "github.com/acme/x"),
        ("Include config.d/*\n", "included:acme/x", "github.com/acme/x"),
        ("Include ~/.ssh/config.d/one\n", "included:acme/x", "github.com/acme/x"),
        ("Host wo\nHostName github.com", "git@work:acme/x.git", ""),
        ("Host w* !work\nHostName github.com", "git@work:acme/x.git", ""),
        ("# Host work\nHost home\nHostName github.com\nUser", "git@work:acme/x.git", ""),
        ("Host office\nHostName github.com\n", "https://office/acme/x.git", ""),
    ],
)
def test_hosts_that_ssh_knows_by_other_names(home: Path, tmp_path: Path, config: str, url: str, also: str) -> None:
    (home / ".ssh" / "config.d").mkdir(parents=True)
    (home / ".ssh" / "config").write_text(config)
    (home / ".ssh" / "config.d" / "one").write_text("Host included\nHostName github.com\n")
    assert told(GitRemotes({}, str(home)), make(tmp_path / "x", url)) == {normalise_remote(url), *filter(None, [also])}


def test_a_circle_in_the_configuration_of_ssh_can_not_be_told(remotes: GitRemotes, home: Path, tmp_path: Path) -> None:
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text("Include config\n")
    assert told(remotes, make(tmp_path / "x", "work:acme/x")) is None
    assert told(remotes, make(tmp_path / "y", "https://h.example/x")) == {"h.example/x"}


def test_a_remote_beside_the_checkout(remotes: GitRemotes, tmp_path: Path) -> None:
    folder = make(tmp_path / "x", "../srv/y.git")
    assert normalise_remote(str(tmp_path / "srv" / "y")) in (told(remotes, folder) or ())


def test_a_remote_below_the_home(remotes: GitRemotes, home: Path, tmp_path: Path) -> None:
    assert normalise_remote(str(home / "srv" / "y")) in (told(remotes, make(tmp_path / "x", "~/srv/y.git")) or ())


@pytest.mark.parametrize(
    "text",
    [
        "[remote",
        "url = x",
        "[a]\nb = \\q",
        '[a]\nb = "x',
        "[include]\npath = config",
        "[include]\npath = ~somebody/config",
        "[include]\npath = %(prefix)/config",
        "[include]\npath = /dev/zero",
        "[include]\npath = .",
        "\xff",
        "",
    ],
)
def test_what_is_no_plain_configuration_can_not_be_told(remotes: GitRemotes, tmp_path: Path, text: str) -> None:
    folder = make(tmp_path / "x")
    (folder / ".git" / "config").write_text(text)
    assert told(remotes, folder) is None


@needs_posix
def test_what_is_gone_or_may_not_be_read_can_not_be_told() -> None:
    with open_folder() as place, unprivileged():
        remotes = GitRemotes({}, str(place))
        assert told(remotes, place / "gone") is None
        assert told(remotes, "/\0") is None
        checkout, config = place / "x", place / "x" / ".git" / "config"
        (checkout / ".git").mkdir(parents=True)
        (checkout / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
        config.write_text("[core]\n")
        assert told(remotes, checkout) == set()
        config.write_text('[remote "o"]\nurl = https://h.example/x\n')
        config.chmod(0)
        assert told(remotes, checkout) is None
        (checkout / ".git").chmod(0)
        assert told(remotes, checkout) is None
        (checkout / ".git").chmod(0o700)
        config.chmod(0o600)
        assert told(remotes, checkout) == {"h.example/x"}
        (place / "y").mkdir()
        (place / "y" / ".git").write_text("gitdir: ../nowhere\n")
        assert told(remotes, place / "y") is None


@needs_posix
def test_links_are_walked_both_ways(remotes: GitRemotes, tmp_path: Path) -> None:
    make(tmp_path / "one", "https://h.example/one")
    two = make(tmp_path / "two", "https://h.example/two")
    (two / "below").mkdir()
    (tmp_path / "one" / "link").symlink_to(two / "below")
    assert told(remotes, tmp_path / "one" / "link") == {"h.example/one", "h.example/two"}


# --- settings that stand elsewhere ----------------------------------------------------------------------------------

ELSEWHERE: dict[str, tuple[str, dict[str, str]]] = {
    # the repository's settings, and files below HOME
    "a file included": ("[include]\npath = ~/one", {"one": '[remote "o"]\nurl = https://h.example/x'}),
    "beside it": ("[include]\npath = {beside}/one", {"one": '[remote "o"]\nurl = https://h.example/x'}),
    "twice": ("[include]\npath = ~/one", {"one": "[include]\npath = two", "two": '[remote "o"]\nurl = h.example:x'}),
    "where a condition holds": (
        '[includeIf "gitdir:**/x/.git"]\npath = ~/one',
        {"one": '[remote "o"]\nurl = https://h.example/x'},
    ),
    "short names in an included file": (
        '[remote "o"]\nurl = s:x\n[include]\npath = ~/one',
        {"one": '[url "https://h.example/"]\ninsteadOf = s:'},
    ),
    "short names of the user's included file": (
        '[remote "o"]\nurl = s:x',
        {".gitconfig": "[include]\npath = one", "one": '[url "https://h.example/"]\npushInsteadOf = s:'},
    ),
    "of the user, where a condition holds": (
        '[remote "o"]\nurl = s:x',
        {
            ".gitconfig": '[includeIf "hasconfig:remote.*.url:s:*"]\npath = one',
            "one": '[url "https://h.example/"]\ninsteadOf = s:',
        },
    ),
    "of the other place": (
        '[remote "o"]\nurl = s:x',
        {".config/git/config": '[url "https://h.example/"]\ninsteadOf = s:'},
    ),
    "an address in a branch": ('[branch "b"]\nremote = https://h.example/x\nmerge = refs/heads/b', {}),
    "an address that a branch is pushed to": ('[branch "b"]\nremote = .\npushRemote = h.example:x', {}),
    "where all is pushed to": ("[remote]\npushDefault = ssh://h.example/x", {}),
    "as it was written before": ("[remote.o]\nurl = https://h.example/x", {}),
}


@pytest.mark.parametrize(("config", "files"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_settings_are_found_wherever_they_stand(
    remotes: GitRemotes, home: Path, tmp_path: Path, config: str, files: dict[str, str]
) -> None:
    folder = make(tmp_path / "x")
    config = config.replace("{beside}", os.path.relpath(home, folder / ".git"))
    (folder / ".git" / "config").write_text(f"[core]\nrepositoryformatversion = 0\n{config}\n")
    for name, text in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(text)
    assert "h.example/x" in (told(remotes, folder) or ())
    for name, text in files.items():
        (home / name).write_text(text.replace("h.example", "other.example"))
    if files:
        assert "other.example/x" in (told(remotes, folder) or ()), "each change is seen"


GIVEN = {
    "a remote": {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "remote.o.url", "GIT_CONFIG_VALUE_0": "h.example:x"},
    "a short name": {
        "GIT_CONFIG_COUNT": "2",
        "GIT_CONFIG_KEY_0": "core.editor",
        "GIT_CONFIG_VALUE_0": "true",
        "GIT_CONFIG_KEY_1": "url.https://h.example/.insteadOf",
        "GIT_CONFIG_VALUE_1": "git@github.com:acme/",
    },
    "a file of the system": {"GIT_CONFIG_SYSTEM": "{home}/one"},
    "a file of the user": {"GIT_CONFIG_GLOBAL": "{home}/one"},
    "a file included": {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "include.path",
        "GIT_CONFIG_VALUE_0": "{home}/one",
    },
}


@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN)
def test_settings_of_the_environment_count(given: dict[str, str], home: Path, tmp_path: Path, program: str) -> None:
    home.mkdir(exist_ok=True)
    (home / "one").write_text('[url "https://h.example/"]\ninsteadOf = git@github.com:acme/\n')
    environment = {name: value.replace("{home}", str(home)) for name, value in given.items()}
    found = told(GitRemotes(environment, str(home), program), make(tmp_path / "x"))
    assert found == {"github.com/acme/x", "h.example/x"}


@pytest.mark.parametrize("given", [{"GIT_CONFIG_COUNT": "x"}, {"GIT_CONFIG_COUNT": "1"}, {"GIT_CONFIG_COUNT": "9" * 9}])
def test_an_environment_that_git_would_not_take_can_not_be_told(
    given: dict[str, str], home: Path, tmp_path: Path
) -> None:
    assert told(GitRemotes(given, str(home)), make(tmp_path / "x")) is None


def test_settings_that_only_git_finds_are_asked_of_it(home: Path, tmp_path: Path) -> None:
    """Where the system's settings stand is its makers' affair; here those of another command's options."""
    given = {"GIT_CONFIG_PARAMETERS": "'url.https://h.example/.insteadof'='git@github.com:acme/'"}
    folder = make(tmp_path / "x")
    assert told(GitRemotes(given, str(home)), folder) == {"github.com/acme/x", "h.example/x"}
    assert told(GitRemotes(given, str(home), ""), folder) is None


def test_remotes_of_old_repositories_are_seen(remotes: GitRemotes, tmp_path: Path) -> None:
    folder = make(tmp_path / "x")
    for name, text in (
        ("remotes/one", "URL: h.example:one.git\nPull: a:b\n"),
        ("branches/two", "https://h.example/two#b\n"),
    ):
        (folder / ".git" / name).parent.mkdir(exist_ok=True)
        (folder / ".git" / name).write_text(text)
    known = {"github.com/acme/x", "h.example/one", "h.example/two"}
    assert told(remotes, folder) == known
    (folder / ".git" / "branches" / "three").write_text("https://h.example/three")
    assert told(remotes, folder) == known | {"h.example/three"}


@pytest.mark.parametrize(
    ("missing", "known"),
    [
        (["HEAD"], True),
        (["HEAD", "objects", "refs"], True),
        (["objects"], True),
        (["HEAD", "config"], False),
        (["HEAD", "config", "objects"], False),
    ],
)
def test_a_damaged_checkout_is_known_by_its_settings_or_not_at_all(
    remotes: GitRemotes, tmp_path: Path, missing: list[str], known: bool
) -> None:
    folder = make(tmp_path / "x")
    for name in missing:
        (folder / ".git" / name).rename(tmp_path / name)
    assert told(remotes, folder) == ({"github.com/acme/x"} if known else None)


def test_a_hidden_checkout_can_not_be_told(remotes: GitRemotes, tmp_path: Path) -> None:
    """As containers hide it, behind an empty folder."""
    (tmp_path / "x" / ".git").mkdir(parents=True)
    assert told(remotes, tmp_path / "x") is None


@needs_posix
def test_nothing_of_a_hostile_repository_is_run(home: Path, tmp_path: Path) -> None:
    folder, mark = make(tmp_path / "x"), tmp_path / "ran"
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ntouch {mark}\n")
    script.chmod(0o755)
    keys = ("core.fsmonitor", "core.pager", "pager.config", "core.editor", "core.sshCommand", "alias.config")
    for key in (
        *keys,
        "core.askPass",
        "credential.helper",
        "core.gitProxy",
        "diff.external",
        "uploadpack.packObjectsHook",
    ):
        run(folder, "config", key, f"!{script}" if key == "alias.config" else str(script))
    run(folder, "config", "core.hooksPath", str(tmp_path))
    run(folder, "config", "trace2.eventTarget", str(mark))
    run(folder, "config", "include.path", str(tmp_path / "missing"))
    assert told(GitRemotes({}, str(home)), folder) == {"github.com/acme/x"}
    assert not mark.exists()


@needs_posix
def test_a_checkout_of_somebody_else_is_read_as_any_other(home: Path, tmp_path: Path) -> None:
    """git takes no settings from one that it is not told to trust; whom its remotes belong to is the same question."""
    folder = make(tmp_path / "x")
    run(folder, "config", "include.path", "other")
    (folder / ".git" / "other").write_text('[remote "o"]\nurl = h.example:x\n')
    if os.geteuid() == 0:
        for one in (folder, folder / ".git", folder / ".git" / "config"):
            os.chown(one, 4242, 4242)
    assert told(GitRemotes({}, str(home)), folder) == {"github.com/acme/x", "h.example/x"}


FAILING = {
    "fails": "exit 3",
    "says too much": "head -c 5000000 /dev/zero",
    "says nothing that is a setting": "printf 'x\\ny\\0'",
    "is none": "",
    "takes too long": "exec sleep 60",
}


@needs_posix
@pytest.mark.parametrize("what", FAILING.values(), ids=FAILING)
def test_where_git_fails_nothing_can_be_told(
    what: str, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir(exist_ok=True)
    folder, program = make(tmp_path / "x"), tmp_path / "git"
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/asked\n{what}\n" if what else "")
    program.chmod(0o755)
    monkeypatch.setattr(asking, "WAIT_S", 0.5)
    now_s = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    remotes = GitRemotes({"PATH": str(tmp_path)}, str(home))
    assert [told(remotes, folder) for _ in range(3)] == [None] * 3
    asked = tmp_path / "asked"
    assert not what or asked.read_text() == "\n", "a program that fails is not asked for each request"
    now_s = 61.0
    assert told(remotes, folder) is None
    assert not what or asked.read_text() == "\n\n"


@needs_posix
def test_git_is_asked_once_until_a_file_changes(home: Path, tmp_path: Path) -> None:
    home.mkdir(exist_ok=True)
    folder, program = make(tmp_path / "x"), tmp_path / "git"
    program.write_text(f'#!/bin/sh\necho >> {tmp_path}/asked\nexec {require_tool("git")} "$@"\n')
    program.chmod(0o755)
    remotes = GitRemotes({}, str(home), str(program))
    (folder / "deep").mkdir()
    for count, change in enumerate(("", ".gitconfig", ".config/git/config", "one"), 1):
        if change:
            (home / change).parent.mkdir(parents=True, exist_ok=True)
            (home / change).write_text("[include]\npath = ~/one\n" if change != "one" else "")
        for _ in range(3):
            assert told(remotes, folder, folder / "deep") == {"github.com/acme/x"}
        assert (tmp_path / "asked").read_text() == "\n" * count, change


VALUES = st.text(st.sampled_from("ab/:.@ \t#;\"\\'="), max_size=12)


@settings(max_examples=15, deadline=None)  # each runs git
@given(VALUES)
def test_values_are_read_as_git_writes_them(value: str) -> None:
    path = Path(os.environ["HOME"]) / "config"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    run(path.parent, "config", "-f", "config", "remote.o.url", value)
    assert find_addresses(parse_config(path.read_text())).urls == (value,)


@given(st.text(st.sampled_from('[]"\\=#;\n ab-.remote url'), max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        parse_config(text)
    except Unreadable:
        return
