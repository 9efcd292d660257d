"""The receiver as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from agent.core.wire import CODE_SESSIONS, INGRESS
from agent.errors import AgentError
from agent.receiver.api import Api, Endpoint, OwnedEndpoint
from agent.receiver.auth import Auth
from agent.receiver.blobs import Blobs
from agent.receiver.bodies import Limits
from agent.receiver.files import FileApi
from agent.receiver.problems import answer_agent_error, answer_defect, answer_http
from agent.receiver.store import Store
from agent.receiver.viewer import page_routes

_SESSION = INGRESS + "/session/{session_id}"


def build_app(
    store: Store,
    *,
    blobs: Blobs | None = None,
    limits: Limits | None = None,
    extra_token: str | None = None,
    auth: Auth | None = None,
) -> Starlette:
    """The application over `store`, which stays the caller's to close. Without `blobs` it takes no side files.
    `extra_token` may write until the process ends, as owner "local"; `auth` is handed in by those who admit more than
    that."""
    auth = auth or Auth(store)
    limits = limits or Limits()
    if extra_token is not None:
        auth.accept(extra_token, "write")
    files = FileApi(store, blobs, limits.max_file_bytes) if blobs is not None else None
    api = Api(store, auth, limits, files)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        api.close()
        if files is not None:
            files.close()

    return Starlette(
        routes=[*_routes(api), *(_file_routes(api, files) if files is not None else []), *page_routes()],
        middleware=[Middleware(_EncodedPath)],
        exception_handlers={
            HTTPException: answer_http,
            AgentError: answer_agent_error,
            Exception: answer_defect,
        },
        lifespan=lifespan,
    )


def _file_routes(api: Api, files: FileApi) -> list[Route]:
    one = _SESSION + "/files/{path:path}"
    return [
        Route(_SESSION + "/files", api.guarded("read", files.get_files), methods=["GET"]),
        Route(one, api.guarded("read", files.head_file), methods=["HEAD"]),  # before GET, which would take it
        Route(one, api.guarded("read", files.get_file), methods=["GET"]),
        Route(one, api.guarded("write", files.put_file), methods=["PUT"]),
    ]


def _routes(api: Api) -> list[Route]:
    def route(method: str, path: str, endpoint: Endpoint) -> Route:
        return Route(path, endpoint, methods=[method])

    def reading(path: str, endpoint: OwnedEndpoint) -> Route:
        return route("GET", path, api.guarded("read", endpoint))

    def writing(method: str, path: str, endpoint: OwnedEndpoint) -> Route:
        return route(method, path, api.guarded("write", endpoint))

    return [
        writing("PUT", _SESSION, api.put_entry),
        reading(_SESSION, api.get_loglines),
        writing("DELETE", _SESSION, api.delete_session),
        writing("POST", _SESSION + "/restore", api.restore_session),
        reading(CODE_SESSIONS + "/{session_id}/teleport-events", api.get_events),
        reading(INGRESS + "/capabilities", api.get_capabilities),
        route("GET", INGRESS + "/sessions", api.get_sessions),
        writing("POST", _SESSION + "/entries", api.append),
        reading(_SESSION + "/entries", api.get_entries),
        writing("POST", _SESSION + "/generations", api.post_generation),
        reading(_SESSION + "/head", api.get_head),
        reading(_SESSION + "/streams", api.get_streams),
        writing("PUT", _SESSION + "/meta", api.put_meta),
        reading(_SESSION + "/meta", api.get_meta),
        route("GET", "/openapi.json", api.get_openapi),
        route("GET", "/healthz", api.get_health),
    ]


class _EncodedPath:
    """Routes by the path as it was sent, so that a slash inside a session id (`%2F`) separates nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (raw := scope.get("raw_path")):
            scope["path"] = raw.decode("latin-1")
        await self._app(scope, receive, send)
