"""The page that shows sessions: static files of the package, which hold no data and so need no token."""

from starlette.routing import Route


def page_routes() -> list[Route]:
    return []
