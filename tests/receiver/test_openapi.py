"""The description holds every route, and is a valid document by structure."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route

from agent.receiver.app import build_app
from agent.receiver.blobs import Blobs
from agent.receiver.openapi import describe_api
from agent.receiver.sqlite import SqliteStore
from tests.receiver.harness import Receiver


@pytest.fixture(scope="module")
def document(receiver: Receiver) -> Any:
    with receiver.client(None) as client:
        return client.ask("GET", "/openapi.json").json()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def test_every_route_is_described_and_no_other(document: Any, tmp_path: Any) -> None:
    store = SqliteStore(tmp_path / "db")
    app = build_app(store, blobs=Blobs(tmp_path / "files"))
    routes = [route for route in app.routes if isinstance(route, Route) and route.include_in_schema]
    store.close()
    served = {
        (route.path_format, method)
        for route in routes
        for method in route.methods or ()
        if method != "HEAD" or route.methods == {"HEAD"}
    }
    assert served == {(path, method) for path, method, _ in operations(document)}


def test_the_document_is_whole(document: Any) -> None:
    assert document["openapi"].startswith("3.1.")
    assert {"title", "version"} <= document["info"].keys()
    schemas = document["components"]["schemas"]
    for path, method, operation in operations(document):
        assert operation["summary"]
        named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
        assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}, path
        for parameter in operation["parameters"]:
            assert parameter["in"] in {"path", "query", "header"}
            assert parameter["schema"]
            assert parameter["description"]
        assert operation["responses"], (path, method)
        for status, answer in operation["responses"].items():
            assert status.isdigit()
            assert answer["description"]
        if operation.get("security") != []:
            assert "401" in operation["responses"]
            assert ("403" in operation["responses"]) == (method in {"PUT", "POST", "DELETE"})
        assert ("requestBody" in operation) == (method in {"PUT", "POST"} and not path.endswith("/restore"))
    assert all(reference.rpartition("/")[2] in schemas for reference in references(document))


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_the_served_document_is_the_described_one(document: Any) -> None:
    assert document.keys() == describe_api().keys()
