"""The tools of the bench: transcripts that are what they claim to be, and a server that counts right."""

import http.client
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from agent.core.transcripts.transcript import entry_uuid, split_lines
from tests.bench.corpus import Corpus, LineMaker, Shape, write_corpus, write_long_line, write_long_transcript
from tests.bench.figures import Figure, at_least, at_most, median_ratio
from tests.bench.servers import Server, compile_receiver, start_fast
from tests.conftest import require_tool

_SESSION = "/v1/session_ingress/session"


def _contents(corpus: Corpus) -> dict[str, bytes]:
    return {str(path.relative_to(corpus.root)): path.read_bytes() for path in corpus.paths}


@pytest.mark.parametrize("shape", [Shape(5, 300_000), Shape(30, 0, projects=3)], ids=["backlog", "small"])
def test_the_same_seed_gives_the_same_transcripts(tmp_path: Path, shape: Shape) -> None:
    one, again = (_contents(write_corpus(tmp_path / name, shape, seed=3)) for name in ("one", "again"))
    assert one == again
    assert one != _contents(write_corpus(tmp_path / "other", shape, seed=4))


def test_a_corpus_is_what_it_says(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, Shape(20, 10_000_000, pictures=1))
    data = [path.read_bytes() for path in corpus.paths]
    assert corpus.size == sum(map(len, data))
    assert 9_000_000 < corpus.size < 14_000_000
    lines = [line for one in data for line in split_lines(one)]
    assert corpus.entries == len(lines)
    assert sum(len(line) > 1_000_000 for line in lines) == 1
    assert {type(msgspec.json.decode(line)) for line in lines} == {dict}


def test_lines_have_the_sizes_of_real_ones() -> None:
    maker = LineMaker(1)
    made = maker.lines("session", "/home/dev/project")
    lines = [next(made) for _ in range(6_000)]
    sizes = sorted(map(len, lines))
    assert 1_200 < sizes[3_000] < 1_800
    assert 45_000 < sizes[5_940] < 75_000
    without = sum(entry_uuid(line) is None for line in lines) / len(lines)
    assert 0.04 < without < 0.12


def test_long_transcripts_and_long_lines_have_their_length(tmp_path: Path) -> None:
    long = write_long_transcript(tmp_path / "long", 25_000_000)
    assert abs(long.size - 25_000_000) < 6_000_000
    assert long.entries == long.paths[0].read_bytes().count(b"\n")
    line = write_long_line(tmp_path / "line", 3_000_000)
    lines = split_lines(line.paths[0].read_bytes())
    assert len(lines) == line.entries
    assert 3_000_000 < max(map(len, lines)) < 3_001_000
    assert entry_uuid(max(lines, key=len)) is not None


def test_a_figure_knows_whether_it_is_good_enough() -> None:
    assert Figure("a", 8.0, "x", at_least(8)).verdict() == "met"
    assert Figure("a", 7.9, "x", at_least(8)).verdict() == "missed"
    assert Figure("a", 3.1, "x", at_most(3)).verdict() == "missed"
    assert Figure("a", 3.1, "x").verdict() == ""
    assert median_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 1.0]) == 3.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    require_tool("cc")
    with start_fast(compile_receiver(tmp_path)) as running:
        yield running


def test_the_fast_server_counts_entries_and_guards_the_end(server: Server) -> None:
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)

    def send(method: str, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, object]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, msgspec.json.decode(answer.read())

    try:
        generation = "11111111-2222-3333-4444-555555555555"
        append = f"{_SESSION}/a/entries?subpath="
        status, head = send("POST", append, b"{}\n{}\n{}\n", Entry_Count="0", Generation=generation)
        assert (status, head["entry_count"], head["generation"], head["chain_hash"]) == (200, 3, generation, None)
        long = b'{"text":"' + b"x" * 2_000_000 + b'"}\n'
        assert send("POST", append, long, Entry_Count="3", Generation=generation)[1]["entry_count"] == 4
        status, head = send("POST", append, b"{}\n", Entry_Count="3", Generation=generation)
        assert (status, head["entry_count"]) == (409, 4)
        other = f"{_SESSION}/a/entries?subpath=subagents%2Fx"
        assert send("POST", other, b"{}\n", Entry_Count="0", Generation=generation)[1]["entry_count"] == 1
        assert send("PUT", f"{_SESSION}/b", b'{"text":"BENCHMARK:17;"}')[0] == 200
        assert send("PUT", f"{_SESSION}/b/meta", b"{}")[0] == 200
    finally:
        connection.close()
    stats = server.stats()
    assert (stats["entries"], stats["conflicts"], stats["posts"], stats["puts"]) == (6, 1, 4, 2)
    assert list(server.marks()) == [17]
