"""How fast our own receiver takes batches, from a client that only sends."""

import http.client
import statistics
import time
import uuid
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from agent.core.wire import NDJSON, parse_head, session_path
from tests.bench.children import ChildFailed
from tests.bench.figures import Figure, spread
from tests.bench.servers import TOKEN, Server, free
from tests.bench.workshop import Workshop

_BATCH_BYTES = 1 << 20


def measure(shop: Workshop) -> list[Figure]:
    batches = list(_batches(shop, 24 if shop.quick else 128))
    size_mb = sum(map(len, batches)) / 1e6
    ours, fast = list[float](), list[float]()
    for number in range(shop.rounds):
        data = shop.fresh("data")
        with shop.our_server(data) as server:
            ours.append(size_mb / _send(server, batches))
        free(data)
        with shop.fast_server() as server:
            fast.append(size_mb / _send(server, batches))
        shop.say(f"intake {number + 1}/{shop.rounds}: ours {ours[-1]:,.0f} MB/s, in C {fast[-1]:,.0f} MB/s")
    note = f"{len(batches)} batches of 1 MiB, one stream, one connection; the server in C {spread(fast, 'MB/s')}"
    return [Figure("our receiver: intake", statistics.median(ours), "MB/s", None, note)]


def _batches(shop: Workshop, count: int) -> Iterator[bytes]:
    lines: list[bytes] = []
    size = 0
    for path in shop.backlog().paths:
        for line in path.read_bytes().splitlines(keepends=True):
            if len(line) > _BATCH_BYTES:
                continue
            lines.append(line)
            size += len(line)
            if size >= _BATCH_BYTES:
                yield b"".join(lines)
                lines, size, count = [], 0, count - 1
                if not count:
                    return


def _send(server: Server, batches: Sequence[bytes]) -> float:
    """Seconds for all of them, each behind the one before."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    session, generation = str(uuid.uuid4()), str(uuid.uuid4())
    count, last = 0, None
    began = time.monotonic()
    for batch in batches:
        headers = {
            "Authorization": f"Bearer {TOKEN}",
            "Content-Type": NDJSON,
            "Entry-Count": str(count),
            "Generation": generation,
            "Batch-Id": str(uuid.uuid4()),
        }
        if last is not None:
            headers["Last-Uuid"] = last
        connection.request("POST", session_path(session, "/entries", subpath=""), batch, headers)
        answer = connection.getresponse()
        body = answer.read()
        head = parse_head(body)
        if answer.status != 200 or head is None:
            raise ChildFailed(f"a batch is answered with {answer.status}: {body[:200]!r}")
        count, last = head.entry_count, head.last_uuid
    took = time.monotonic() - began
    connection.close()
    return took
