"""Every error as RFC 9457 `application/problem+json`: what is wrong, measured against what is allowed, and never
anything of what was sent."""

import logging
from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from agent.core.wire import PROBLEM, Problem
from agent.errors import AgentError, DiskFull, SessionDeleted

_log = logging.getLogger(__name__)


def render_problem(status: int, detail: str = "", headers: Mapping[str, str] | None = None) -> Response:
    problem = Problem(HTTPStatus(status).phrase, status, detail)
    return Response(msgspec.json.encode(problem), status, headers, PROBLEM)


def bad_request(detail: str) -> HTTPException:
    return HTTPException(400, detail)


async def answer_http(_request: Request, exc: Exception) -> Response:
    """Also for what the router refuses by itself: 404 and 405."""
    if not isinstance(exc, HTTPException):
        raise exc
    phrase = HTTPStatus(exc.status_code).phrase
    detail = "" if exc.detail == phrase else exc.detail
    return render_problem(exc.status_code, detail, exc.headers)


async def answer_agent_error(_request: Request, exc: Exception) -> Response:
    """What the store could not do: 507 without room, 503 where trying again may help; and 410 for what is deleted."""
    if not isinstance(exc, AgentError):
        raise exc
    if isinstance(exc, SessionDeleted):
        return render_problem(410, exc.message)
    _log.error("%s", exc.message)
    if isinstance(exc, DiskFull):
        return render_problem(507, exc.message, {"Retry-After": "60"})
    return render_problem(503, exc.message, {"Retry-After": "5"}) if exc.retry else render_problem(500, exc.message)


async def answer_defect(_request: Request, _exc: Exception) -> Response:
    return render_problem(500)
