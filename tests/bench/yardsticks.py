"""Simple clients to compare with, each a process of its own: `python -m tests.bench.yardsticks NAME URL ROOT`.

    naive   what one writes first: every line parsed and PUT by itself, over one kept-alive requests.Session
    plain   every line read, joined to 1 MB and posted raw, without ids, heads, hashes or state: the least there is
    chained the plain one, computing each transcript's chain hash too: the least there is with proof of completeness
    watch   the naive one on watchdog's notices; says "synced" after the first pass and stays until stdin ends

All but the last print the seconds they took, from after their imports.
"""

import argparse
import http.client
import json
import queue
import sys
import threading
import time
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from urllib.parse import urlsplit

import requests
from watchdog.events import FileModifiedEvent, FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

_POST_BYTES = 1_000_000


class NaiveClient:
    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._offsets: dict[Path, int] = {}
        self._last: dict[str, str] = {}
        self.entries = 0

    def ship(self, path: Path) -> None:
        session_id = path.stem
        with path.open("rb") as file:
            file.seek(self._offsets.get(path, 0))
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._put(session_id, line)
                self._offsets[path] = self._offsets.get(path, 0) + len(line)

    def _put(self, session_id: str, line: bytes) -> None:
        headers = {"Content-Type": "application/json", "Authorization": "Bearer bench"}
        if session_id in self._last:
            headers["Last-Uuid"] = self._last[session_id]
        url = f"{self._url}/v1/session_ingress/session/{session_id}"
        self._session.put(url, data=line[:-1], headers=headers).raise_for_status()
        found = json.loads(line).get("uuid")
        if found:
            self._last[session_id] = found
        self.entries += 1


def send_naive(url: str, paths: Sequence[Path]) -> int:
    client = NaiveClient(url)
    for path in paths:
        client.ship(path)
    return client.entries


def send_plain(url: str, paths: Sequence[Path], *, chained: bool = False) -> int:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port)
    lines: list[bytes] = []
    size = entries = 0

    def post() -> None:
        connection.request("POST", "/raw", b"".join(lines), {"Content-Type": "application/x-ndjson"})
        connection.getresponse().read()

    for path in paths:
        chain = bytes(32)
        with path.open("rb", buffering=1 << 18) as file:
            for line in file:
                if chained:
                    link = blake2b(chain, digest_size=32)
                    link.update(memoryview(line)[:-1])
                    chain = link.digest()
                lines.append(line)
                size += len(line)
                entries += 1
                if size >= _POST_BYTES:
                    post()
                    lines, size = [], 0
    if lines:
        post()
    connection.close()
    return entries


class _Notices(FileSystemEventHandler):
    def __init__(self, into: "queue.SimpleQueue[Path | None]") -> None:
        self._into = into

    def on_modified(self, event: FileSystemEvent) -> None:
        if not event.is_directory:
            self._into.put(Path(str(event.src_path)))


def watch(url: str, root: Path) -> None:
    client = NaiveClient(url)
    changed: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
    observer = Observer()
    observer.schedule(_Notices(changed), str(root), recursive=True, event_filter=[FileModifiedEvent])
    observer.start()
    for path in transcripts(root):
        client.ship(path)
    print("synced", flush=True)

    def end_with_stdin() -> None:
        sys.stdin.read()
        changed.put(None)

    threading.Thread(target=end_with_stdin, daemon=True).start()
    while (path_or_end := changed.get()) is not None:
        client.ship(path_or_end)
    observer.stop()


def transcripts(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.jsonl"))


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("name", choices=("naive", "plain", "chained", "watch"))
    arguments.add_argument("url")
    arguments.add_argument("root", type=Path)
    given = arguments.parse_args()
    if given.name == "watch":
        watch(given.url, given.root)
        return
    began = time.monotonic()
    paths = transcripts(given.root)
    if given.name == "naive":
        entries = send_naive(given.url, paths)
    else:
        entries = send_plain(given.url, paths, chained=given.name == "chained")
    print(json.dumps({"seconds": time.monotonic() - began, "entries": entries}))


if __name__ == "__main__":
    main()
