"""What the control socket answers, once `core.control_params` allows the question."""

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from agent import __version__
from agent.core.control_params import check_params
from agent.core.sessions.events import to_json
from agent.daemon.control.changing_methods import changing_methods
from agent.daemon.control.following import following_methods
from agent.daemon.control.pulled import pulled_methods
from agent.daemon.control.session_methods import session_methods
from agent.daemon.process.supervisor import Daemon
from agent.daemon.status.report import report
from agent.sessions.live.events import Ring
from agent.system.control_socket import PROTOCOL, Method, Subscribed, check_protocol


def control_methods(daemon: Daemon) -> Mapping[str, Method]:
    """Method → function from params to result, all of them JSON values."""

    def hello(params: Mapping[str, Any]) -> Any:
        check_protocol(params.get("protocol"))
        return {"protocol": PROTOCOL, "version": __version__, "pid": os.getpid(), **daemon.events.describe()}

    def status(_: Mapping[str, Any]) -> Any:
        around = daemon.surroundings()
        return msgspec.to_builtins(daemon.ask(lambda engine: report(engine, around)))

    def push(_: Mapping[str, Any]) -> Any:
        before = daemon.full_scans
        daemon.request_push()
        return {"full_scans": before}

    def privacy_changed(_: Mapping[str, Any]) -> Any:
        daemon.look_at_rules()
        return {}

    def restore(params: Mapping[str, Any]) -> Any:
        return {"sessions": daemon.request_restore(params.get("sessions", []))}

    def retry(params: Mapping[str, Any]) -> Any:
        return {"sessions": daemon.request_retry(params.get("sessions", []))}

    def token_changed(params: Mapping[str, Any]) -> Any:
        """Somebody logged in or out. What the settings said of tokens when this process began is told, since it knows
        no newer ones."""
        daemon.take_new_token(params["destination"])
        return {"destinations": daemon.describe_tokens()}

    def progress(_: Mapping[str, Any]) -> Any:
        """How far a pass is: `full_scans` ended since the start, whether anything is under way, and whether it is
        paused."""
        busy = daemon.ask(lambda engine: engine.is_busy())
        return {"full_scans": daemon.full_scans, "busy": busy, **_paused(daemon.find_pause())}

    methods: dict[str, Method] = {
        "agent.hello": hello,
        "agent.status": status,
        "agent.push": push,
        "agent.retry": retry,
        "agent.restore": restore,
        **_pause_methods(daemon),
        "agent.privacy_changed": privacy_changed,
        "agent.token_changed": token_changed,
        "agent.progress": progress,
        **session_methods(daemon),
        **pulled_methods(daemon),
        **changing_methods(daemon),
        **_event_methods(daemon.events),
        **following_methods(daemon),
    }
    return {name: checked(name, method) for name, method in methods.items()}


def checked(name: str, method: Method) -> Method:
    """`method`, which is only called with params that `name` may have."""

    def call(params: Mapping[str, Any]) -> Any:
        check_params(name, params)
        return method(params)

    return call


def _pause_methods(daemon: Daemon) -> dict[str, Method]:
    def pause(params: Mapping[str, Any]) -> Any:
        return _paused(daemon.request_pause(params.get("for_s")))

    def resume(_: Mapping[str, Any]) -> Any:
        return _paused(daemon.request_resume())

    return {"agent.pause": pause, "agent.resume": resume}


def _paused(found: tuple[str, float | None]) -> dict[str, Any]:
    why, until_s = found
    return {"paused": why, "paused_until_s": until_s}


def _event_methods(ring: Ring) -> Mapping[str, Method]:
    def list_events(params: Mapping[str, Any]) -> Any:
        after_seq, epoch = _place(params)
        misses = ring.misses(after_seq or 0, epoch)
        found = [] if misses else [one for one in ring.list_all() if one.seq > (after_seq or 0)]
        return {**ring.describe(), "refresh": misses, "events": [to_json(one) for one in found]}

    def subscribe(params: Mapping[str, Any]) -> Any:
        feed = ring.follow(*_place(params))
        return Subscribed({**ring.describe(), "refresh": feed.refresh}, feed)

    return {"events.list": list_events, "events.subscribe": subscribe}


def _place(params: Mapping[str, Any]) -> tuple[int | None, str]:
    """After which event, and of which run; None and empty where a client does not say."""
    return params.get("after_seq"), params.get("epoch", "")
