"""What every measurement shares: a folder that goes away with the run, corpora made once, homes, servers."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.corpus import Corpus, Shape, write_corpus
from tests.bench.servers import TOKEN, Server, compile_receiver, start_fast, start_ours

_OURS = ("TRANSCRIPTD_", "CLAUDE_", "CODEX_", "COPILOT_", "GEMINI_", "XDG_")


class Workshop:
    """`quick`: smaller corpora and shorter waits, for a look."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.rounds = 3
        self._began_s = time.monotonic()
        self._corpora: dict[str, Corpus] = {}
        self._count = 0

    def say(self, words: str) -> None:
        print(f"{time.monotonic() - self._began_s:6.1f} s  {words}", file=sys.stderr, flush=True)

    def fresh(self, name: str) -> Path:
        """A folder's name that was not given before; the folder is not made."""
        self._count += 1
        return self.folder / f"{name}-{self._count}"

    def home(self) -> Path:
        home = self.fresh("home")
        home.mkdir(mode=0o700)
        return home

    def environment(self, home: Path) -> dict[str, str]:
        """That of a user whose home is `home` and who has set nothing else."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return {**kept, "HOME": str(home), "TRANSCRIPTD_HOME": str(home), "TRANSCRIPTD_TOKEN": TOKEN}

    def fast_server(self) -> Server:
        return start_fast(compile_receiver(self.folder))

    def our_server(self, data: Path) -> Server:
        return start_ours(data, self.environment(self.home()))

    def backlog(self) -> Corpus:
        """Half a gigabyte in a thousand sessions."""
        shape = Shape(120, 30_000_000, pictures=1) if self.quick else Shape(1_000, 500_000_000, pictures=12)
        return self._once("backlog", lambda root: write_corpus(root, shape))

    def backlog_tenth(self) -> Corpus:
        """Each tenth session of the backlog; the same files under second names."""
        whole = self.backlog()

        def link(root: Path) -> Corpus:
            paths, entries = [], 0
            for path in whole.paths[::10]:
                linked = root / path.parent.name / path.name
                linked.parent.mkdir(parents=True, exist_ok=True)
                linked.hardlink_to(path)
                paths.append(linked)
                entries += path.read_bytes().count(b"\n")
            return Corpus(root, tuple(paths), entries, sum(path.stat().st_size for path in paths))

        return self._once("tenth", link)

    def small_sessions(self, count: int, *, own: bool = False) -> Corpus:
        """So many transcripts of a few short lines. `own`: not shared, so that they may be appended to."""
        shape = Shape(count, 0, projects=max(1, count // 20))
        if own:
            return write_corpus(self.fresh("sessions"), shape)
        return self._once(f"small-{count}", lambda root: write_corpus(root, shape))

    def _once(self, name: str, make: Callable[[Path], Corpus]) -> Corpus:
        if name not in self._corpora:
            made = make(self.fresh(name))
            self.say(f"made {name}: {len(made.paths):,} transcripts, {made.entries:,} lines, {made.size / 1e6:,.0f} MB")
            self._corpora[name] = made
        return self._corpora[name]
