"""A real `systemd --user` of a user who is not root, in a world of its own: mounts, processes and control group are
its alone, and end with it. Nothing of the machine's own systemd is touched.

The user can read the repository and Python although they may lie in somebody's private home: whatever they can't enter
on the way there is covered by an empty folder, with only these in it.
"""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY, require_tool
from tests.waiting import wait_for

UID = 12345
HOME = "/home/ada"
READY_S = 20.0

_SET_UP = r"""
set -eu
uid=$1 group=$2; shift 2
as_user() { setpriv --reuid=$uid --regid=$uid --clear-groups "$@"; }
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /run
mkdir /run/stash
number=0
for folder in "$@"; do
  number=$((number + 1)); mkdir /run/stash/$number; mount --rbind "$folder" /run/stash/$number
done
mount -t tmpfs -o mode=755 none /home
for folder in "$@"; do
  as_user test -x "$folder" && continue
  way=
  IFS=/; for part in ${folder#/}; do
    way=$way/$part
    as_user test -x "$way" && continue
    test ! -d "$way" || mount -t tmpfs -o mode=755 none "$way"
    break
  done; unset IFS
done
number=0
for folder in "$@"; do
  number=$((number + 1))
  as_user test -x "$folder" || { mkdir -p "$folder"; mount --rbind /run/stash/$number "$folder"; }
done
{ cat /etc/passwd; echo "ada:x:$uid:$uid::/home/ada:/bin/sh"; } >/run/stash/passwd  # a bus serves nobody unknown
mount --bind /run/stash/passwd /etc/passwd
mkdir -p /run/systemd/system /run/user/$uid /home/ada
chown $uid:$uid /run/user/$uid /home/ada; chmod 700 /run/user/$uid /home/ada
mount -t cgroup2 none /sys/fs/cgroup
mkdir /sys/fs/cgroup/$group
chown -R $uid:$uid /sys/fs/cgroup/$group
echo 0 >/sys/fs/cgroup/$group/cgroup.procs
setpriv --reuid=$uid --regid=$uid --clear-groups env -i HOME=/home/ada USER=ada LANG=C.UTF-8 \
  PATH=/usr/local/bin:/usr/bin:/bin XDG_RUNTIME_DIR=/run/user/$uid \
  "$SYSTEMD" --user --log-target=console --log-level=notice
exit $?  # not exec: a systemd that is process 1 is the machine's, whatever it is told
"""

_UNSHARE = ("unshare", "--mount", "--pid", "--fork")

_CLEAN_UP = r"""
mount --make-rprivate / && mount -t cgroup2 none /sys/fs/cgroup || exit 0
test ! -d "/sys/fs/cgroup/$1" || find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +
"""


class Manager:
    """`home`: its user's, as seen from here."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.home = Path(f"/proc/{pid}/root{HOME}")

    def run(self, *command: str, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """A command of the user."""
        variables = {
            "HOME": HOME,
            "USER": "ada",
            "LANG": "C.UTF-8",
            "PATH": f"{HOME}/.local/bin:/usr/local/bin:/usr/bin:/bin",
            "XDG_RUNTIME_DIR": f"/run/user/{UID}",
            **more,
        }
        user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        return subprocess.run(
            ["nsenter", f"--target={self._pid}", "--mount", "--pid", *user, "env", "-i", "-C", HOME]
            + [f"{name}={value}" for name, value in variables.items()]
            + list(command),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def systemctl(self, *arguments: str) -> str:
        return self.run("systemctl", "--user", *arguments).stdout.strip()

    def show(self, unit: str, name: str) -> str:
        return self.systemctl("show", unit, f"--property={name}", "--value")

    def write(self, name: str, text: str, mode: int = 0o600) -> Path:
        """A file of the user's, below their home."""
        path = self.home / name
        for folder in reversed([one for one in path.parents if self.home in one.parents]):
            if not folder.exists():
                folder.mkdir(mode=0o700)
                os.chown(folder, UID, UID)
        path.write_text(text, encoding="utf-8")
        os.chown(path, UID, UID)
        path.chmod(mode)
        return path

    def files(self) -> set[str]:
        """Everything below the home, relative to it."""
        return {str(one.relative_to(self.home)) for one in self.home.rglob("*")}


def _refuse(why: str) -> None:
    """What this machine can't do is no failure of the service, but never goes by in silence."""
    pytest.skip(f"no user manager of systemd can be started here: {why}")


@contextmanager
def user_manager() -> Iterator[Manager]:
    for tool in ("systemctl", "unshare", "nsenter", "setpriv"):
        require_tool(tool)
    if os.getuid() != 0:
        _refuse("only root may give another user a control group")
    program = next((one for one in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd") if os.path.exists(one)), "")
    if not program:
        _refuse("there is no systemd beside systemctl")
    group = f"td-{uuid.uuid4().hex[:12]}"
    folders = dict.fromkeys([str(REPOSITORY), sys.prefix, os.path.realpath(sys.base_prefix)])
    holder = subprocess.Popen(
        [*_UNSHARE, "--kill-child", "--mount-proc", "bash", "-c", _SET_UP, "set-up", str(UID), group, *folders],
        env={"PATH": os.environ["PATH"], "SYSTEMD": program},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield _wait_for_manager(holder)
    finally:
        holder.kill()  # and with it, by --kill-child, the first process of that world and so all of them
        assert holder.stdout is not None
        holder.stdout.close()
        holder.wait()
        clean_up = ["unshare", "--mount", "bash", "-c", _CLEAN_UP, "clean-up", group]
        wait_for(lambda: not subprocess.run(clean_up, capture_output=True, check=False).returncode, "the end", READY_S)


def _wait_for_manager(holder: subprocess.Popen[str]) -> Manager:
    children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children")
    found: list[Manager] = []

    def is_up() -> bool:
        if holder.poll() is not None:
            return True
        if pids := children.read_text().split():
            one = Manager(int(pids[0]))
            if (one.home.parent.parent / f"run/user/{UID}/systemd/private").exists() and one.systemctl(
                "is-system-running"
            ) in {"running", "degraded"}:
                found.append(one)
        return bool(found)

    wait_for(is_up, "the user's systemd", READY_S)
    if not found:
        assert holder.stdout is not None
        _refuse(" ".join(holder.stdout.read().split())[-300:])
    return found[0]


def last_json(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


__all__ = ["HOME", "UID", "Manager", "Mapping", "Sequence", "last_json", "user_manager"]
