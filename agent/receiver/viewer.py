"""The page that shows sessions: static files of the package. They hold no data, so they need no token."""

from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    "index.html": "text/html; charset=utf-8",
    "viewer.css": "text/css; charset=utf-8",
    "viewer.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
PAGE_HEADERS = {
    # Transcripts hold whatever a model or a web page said; should one ever become markup, it still may do nothing.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[Route]:
    folder = resources.files("agent.receiver") / "pages"
    routes = [_page_route(f"/pages/{name}", folder.joinpath(name).read_bytes(), name) for name in _TYPES]
    return [_page_route("/", folder.joinpath("index.html").read_bytes(), "index.html"), *routes]


def _page_route(path: str, content: bytes, name: str) -> Route:
    async def answer(_request: Request) -> Response:
        return Response(content, 200, PAGE_HEADERS, _TYPES[name])

    return Route(path, answer, methods=["GET"], include_in_schema=False)
