"""Where configuration, state, logs and the control socket live."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from agent.errors import DiskError
from agent.system.files.own_files import check_own, check_own_folder

_NAME = "transcriptd"

_SQLITE = ("-wal", "-shm")

_SOCKET_NAME_BYTES = 100
"""sockaddr_un takes 104 bytes on macOS and 108 on Linux, with the zero behind it."""


@dataclass(frozen=True, slots=True)
class Paths:
    """`config`: the settings file. `state` and `logs` are folders; `state` holds lock and socket too. `instance`: the
    home that was named, empty for the user's own. `rules`: whose private list holds, where it is not the one beside the
    settings."""

    config: Path
    state: Path
    logs: Path
    instance: str = ""
    rules: Path | None = None

    @property
    def private_list(self) -> Path:
        """Beside the settings: people edit both."""
        return self.rules or self.config.with_name("private.list")

    @property
    def known_rules(self) -> Path:
        """The private list as it was last seen."""
        return self.state / "known-rules.json"

    @property
    def known_sharing(self) -> Path:
        """What the settings last said of sharing."""
        return self.state / "known-sharing.json"

    @property
    def redaction_key(self) -> Path:
        """Beside the settings: what it names would look changed if it went with a lost state."""
        return self.config.with_name("redaction.key")

    @property
    def redaction_key_in_state(self) -> Path:
        """Where the settings' folder takes no file."""
        return self.state / "redaction.key"

    @property
    def database(self) -> Path:
        return self.state / "state.db"

    @property
    def index(self) -> Path:
        """What transcripts say of themselves, counted; made anew when it is lost."""
        return self.state / "index.db"

    @property
    def index_lock(self) -> Path:
        return self.state / "index.lock"

    @property
    def annotations(self) -> Path:
        """What people set of sessions: labels and the like. Nobody else knows it."""
        return self.state / "annotations.json"

    @property
    def lock(self) -> Path:
        return self.state / "daemon.lock"

    @property
    def lives(self) -> Path:
        """How the last runs ended."""
        return self.state / "lives.json"

    @property
    def runs(self) -> Path:
        """Which runs of sessions are on, and which ended lately."""
        return self.state / "runs.jsonl"

    @property
    def kept(self) -> Path:
        """Transcripts that are held until they are sent."""
        return self.state / "kept"

    @property
    def spool(self) -> Path:
        """What hooks append to; `system.state.spool.spool_path` finds it without importing this module."""
        return self.state / "spool"

    def own_files(self) -> tuple[Path, ...]:
        """Every file that we make below these folders under a name that is known before, with what stands beside it
        while it is written or locked. `kept` and what hooks spooled have names of their own. The list is the one that
        is checked before a daemon begins; whoever adds a file, adds it here."""
        beside = {
            self.lock: (".pid",),
            self.annotations: (".before.json", ".lock"),
        }
        databases = [one.with_name(one.name + end) for one in (self.database, self.index) for end in ("", *_SQLITE)]
        plain = (
            self.redaction_key,
            self.redaction_key_in_state,
            self.index_lock,
            self.annotations,
            self.lock,
            self.lives,
            self.runs,
            self.known_rules,
            self.known_sharing,
            self.spool,
            self.spool.with_name(f"{self.spool.name}.lock"),
            self.private_list.with_name(f"{self.private_list.name}.lock"),
        )
        logs = [self.logs / name for name in ("transcriptd.log", *(f"transcriptd.log.{one}" for one in range(1, 5)))]
        named = [one.with_suffix(end) for one, ends in beside.items() for end in ends]
        return (*plain, *named, *databases, *logs)

    def own_folders(self) -> tuple[Path, ...]:
        return (self.state, self.kept, self.logs)

    @property
    def socket(self) -> Path:
        """In the state folder, where any shell finds it (one may lack XDG_RUNTIME_DIR), or in a private folder for
        temporary files where that name is too long for a socket."""
        path = self.state / "control.sock"
        if os.name == "nt" or len(os.fsencode(path)) <= _SOCKET_NAME_BYTES:
            return path
        import hashlib  # rarely needed, and `status` has to answer fast
        import tempfile

        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"{_NAME}-{os.getuid()}" / f"{name}.sock"


def default_paths(environment: Mapping[str, str]) -> Paths:
    """The platform's folders, or all of them below `TRANSCRIPTD_HOME` when it is set."""
    if home := environment.get("TRANSCRIPTD_HOME"):
        return paths_below(Path(home).expanduser().absolute())
    state = Path(platformdirs.user_state_dir(_NAME, appauthor=False))
    return Paths(
        config=Path(platformdirs.user_config_dir(_NAME, appauthor=False)) / "config.toml",
        state=state,
        logs=Path(platformdirs.user_log_dir(_NAME, appauthor=False)),
    )


def paths_below(home: Path) -> Paths:
    return Paths(home / "config.toml", home / "state", home / "logs", str(home))


def refuse_planted(paths: Paths) -> None:
    """Raises NotOurs for the first thing in our folders that is none of ours, so that a daemon says so before it begins
    instead of stumbling over it later. Databases are left out: what is wrong with one is renamed aside. Raises
    DiskError where that can't be told."""
    try:
        for folder in paths.own_folders():
            check_own_folder(folder)
        for path in paths.own_files():
            if not path.name.startswith((paths.database.name, paths.index.name)):
                check_own(path)
    except OSError as exc:
        raise DiskError(f"{exc.filename or paths.state} can't be looked at: {exc.strerror}") from exc


def make_private_folder(folder: Path) -> None:
    """Makes `folder` with mode 0700, and narrows one that others may read. Raises DiskError, also when it is
    somebody else's, or a link of somebody else's leads to it."""
    try:
        check_own_folder(folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        seen = folder.stat()
        if os.name == "posix" and seen.st_uid == os.getuid() and seen.st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as exc:
        raise DiskError(f"folder {folder} can't be made: {exc.strerror}") from exc
    if os.name == "posix" and seen.st_uid != os.getuid():
        raise DiskError(f"folder {folder} belongs to user {seen.st_uid}, not to {os.getuid()}")


def make_private_files(folder: Path) -> None:
    """Narrows what others may read below a folder of ours: files to 0600, folders to 0700. A file that has another
    name elsewhere (a held transcript) keeps its mode, which is the other one's too. Raises DiskError, also when
    something there is somebody else's."""
    if os.name != "posix":
        return
    try:
        for base, folders, files in os.walk(folder, onerror=_raise):
            for name in folders + files:
                _make_private(Path(base) / name)
    except OSError as exc:
        raise DiskError(f"{exc.filename or folder} can't be made private: {exc.strerror}") from exc


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):  # whoever uses the folder beside us removed it
        raise error


def _make_private(path: Path) -> None:
    try:
        seen = path.lstat()
        is_folder = stat.S_ISDIR(seen.st_mode)
        if stat.S_ISLNK(seen.st_mode) or (not is_folder and seen.st_nlink > 1):
            return
        if seen.st_uid != os.getuid():
            hint = f"remove it, or: sudo chown -R {os.getuid()} {path.parent}"
            raise DiskError(f"{path} belongs to user {seen.st_uid}, not to {os.getuid()}", hint=hint)
        if seen.st_mode & 0o077:
            path.chmod(0o700 if is_folder else 0o600)
    except FileNotFoundError:
        return  # whoever uses the folder beside us removed it


def find_open_files(paths: Paths) -> list[tuple[str, str]]:
    """What others may read or change of what people write themselves: what is wrong, and what to do."""
    found: list[tuple[str, str]] = []
    if os.name != "posix":
        return found
    for path in (paths.config, paths.private_list):
        try:
            mode, around = path.stat().st_mode, path.parent.stat().st_mode
        except OSError:
            continue  # whoever needs it says so
        if around & 0o011 and mode & 0o066:
            what = "change" if mode & 0o022 else "read"
            found.append((f"others on this machine may {what} {path}", f"chmod 600 {path}"))
    return found
