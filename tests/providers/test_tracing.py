"""What the corpus says of the descent of its sessions."""

from collections import Counter

import pytest

from agent.core.sessions.lineage import LinkKind, Trace, conversations, link
from agent.providers.tracing import Tracer
from tests.conftest import CORPUS


def read_trace(provider: str, session_id: str, lines: list[bytes]) -> Trace:
    tracer = Tracer(provider, session_id)
    for line in lines:
        tracer.add(line)
    return tracer.trace()


def corpus_traces(provider: str) -> list[Trace]:
    found = []
    for path in sorted((CORPUS / provider).rglob("*.jsonl")):
        if path.name.startswith("agent-") or "subagents" in path.parts:
            continue
        name = {"codex": path.stem[-36:], "copilot": path.parent.name}.get(provider, path.stem)
        found.append(read_trace(provider, name, path.read_bytes().split(b"\n")))
    return found


def test_claudes_resumes_forks_and_branches() -> None:
    traces = corpus_traces("claude")
    links = link(traces)

    assert {(child[:8], one.kind, one.parent[:8], one.shared_entries) for child, one in links.items()} == {
        # 1.0.100 copied a session into a new file to go on with it
        ("673f6528", LinkKind.RESUME, "35c4e9c9", 25),
        ("aa284cfa", LinkKind.RESUME, "673f6528", 31),
        ("e89c1808", LinkKind.RESUME, "35c4e9c9", 25),
        ("0ac8fdcc", LinkKind.RESUME, "35c4e9c9", 25),
        ("0fab8f1e", LinkKind.RESUME, "55b40b23", 35),
        ("af962ea4", LinkKind.FORK, "965e2218", 2),
        ("09e0a9b2", LinkKind.FORK, "26d2ef69", 34),
        ("336c052b", LinkKind.FORK, "4ce388e0", 36),
        ("8847dac9", LinkKind.FORK, "82910d74", 48),
        ("b3dad0ad", LinkKind.FORK, "82910d74", 48),
        ("f10e2b87", LinkKind.FORK, "82910d74", 23),  # after a compaction: what came behind it
        ("fd2e514c", LinkKind.BRANCH, "79188635", 106),
    }
    assert not any(one.is_missing for one in links.values())
    groups = conversations([one.session_id for one in traces], links)
    assert sum(len(one.members) for one in groups) == len(traces)
    assert Counter(len(one.members) for one in groups if len(one.members) > 1) == {5: 1, 4: 1, 2: 5}


def test_codex_refers_instead_of_copying() -> None:
    traces = corpus_traces("codex")

    (linked,) = link(traces).items()

    assert linked[0] == "01a1fb4c-9316-7173-ac04-7a240a41ecfd"
    assert linked[1].kind is LinkKind.FORK
    assert linked[1].parent == "01a1fb4c-70ce-72f1-958d-9b3e8c4f8d1a"
    assert linked[1].shared_entries == 74
    assert len(traces) == 11
    assert all(one.cwd and one.started_at_s for one in traces)


@pytest.mark.parametrize("provider", ["gemini", "copilot"])
def test_others_of_the_corpus_descend_from_nobody(provider: str) -> None:
    traces = corpus_traces(provider)

    assert len(traces) == 8
    assert link(traces) == {}
    assert all(one.entry_count and one.started_at_s for one in traces)


def test_a_codex_subagent_names_who_started_it() -> None:
    head = b'{"timestamp":"2026-11-20T23:31:02.046Z","type":"session_meta","payload":{"cwd":"/p","source":{"subagent":'
    found = read_trace("codex", "child", [head + b'{"thread_spawn":{"parent_thread_id":"parent","depth":1}}}}}'])

    assert (found.parent_session_id, found.parent_kind) == ("parent", LinkKind.SUBAGENT)


def test_claudes_background_copies_are_known() -> None:
    found = read_trace(
        "claude", "bg", [b'{"type":"user","uuid":"a","sessionKind":"bg","forkedFrom":{"sessionId":"first"}}']
    )

    assert (found.parent_session_id, found.parent_kind, found.is_background) == ("first", LinkKind.BACKGROUND, True)


@pytest.mark.parametrize("provider", ["claude", "codex", "gemini", "copilot", "another"])
@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b'{"uuid":' + b"[" * 100_000,
        b'{"uuid":[],"id":{},"type":7,"timestamp":"9999-99-99","forkedFrom":[1],"payload":3,"data":null}',
        b'{"type":"session_meta","payload":{"source":7,"forked_from_id":"x","forked_from_ordinal_exclusive":1e999}}',
        b'{"type":"session_meta","payload":{"source":{"subagent":{"thread_spawn":{"parent_thread_id":'
        b'"' + b"x" * 100_000 + b'"}}}}}',
        b'{"type":"session.start","data":{"context":7,"parentSessionId":{}}}',
        b'{"uuid":"a","id":"a","forkedFrom":{"sessionId":"self"},"sessionKind":["bg"],"timestamp":"0001-01-01T00:00:00Z"}',
    ],
    ids=range(9),
)
def test_hostile_lines_name_nobody(provider: str, line: bytes) -> None:
    found = read_trace(provider, "self", [line, b"{}", line])

    assert found.parent_session_id in ("", "x")
    link([found, found])
