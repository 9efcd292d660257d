"""Remotes, as git itself tells them, without running it."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.core.privacy import normalise_remote
from agent.system import git as git_files
from agent.system.git import GitRemotes
from tests.conftest import require_tool
from tests.system.privileges import needs_posix, open_folder, unprivileged


@pytest.fixture
def remotes(home: Path) -> GitRemotes:
    home.mkdir(exist_ok=True)
    return GitRemotes({}, str(home))


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


@pytest.mark.parametrize(
    "text",
    [
        "[remote",
        "url = x",
        "[a]\nb = \\q",
        '[a]\nb = "x',
        "[include]\npath = other",
        '[includeIf "x"]\npath = y',
        "\xff",
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


VALUES = st.text(st.sampled_from("ab/:.@ \t#;\"\\'="), max_size=12)


@settings(max_examples=15, deadline=None)  # each runs git
@given(VALUES)
def test_values_are_read_as_git_writes_them(value: str) -> None:
    path = Path(os.environ["HOME"]) / "config"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    run(path.parent, "config", "-f", "config", "remote.o.url", value)
    assert git_files._parse_config(path.read_text()).urls == (value,)


@given(st.text(st.sampled_from('[]"\\=#;\n ab-.remote url'), max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        git_files._parse_config(text)
    except git_files._Unreadable:
        return
