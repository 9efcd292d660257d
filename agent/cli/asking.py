"""One question to a server, for commands: is it there, does it take this token, and what does it offer?"""

import time
import uuid
from typing import NamedTuple

from agent.core.redaction.redactor import Redactor, parse_rules
from agent.core.settings import Destination, Privacy
from agent.core.wire import (
    Capabilities,
    NeedsLogin,
    RawReply,
    Reply,
    Unavailable,
    decide_put_reply,
    loglines_request,
)
from agent.delivery.privacy.permits import Guard, NoRules
from agent.delivery.push.asking import Asker, Sender
from agent.delivery.push.pusher import Pusher
from agent.delivery.state.tasks import Probed, ProbeTask
from agent.providers import PROVIDERS
from agent.system.files import reading as files


class Offer(NamedTuple):
    """`capabilities` None: unknown, or of a simple server."""

    reply: Reply
    capabilities: Capabilities | None


def ask_server(one: Destination, remote: Sender) -> Offer:
    """Sends nothing of any session, and changes nothing there."""
    nothing = Redactor(parse_rules(Privacy()), b"")  # of a session leaves for this
    senders = {one.name: remote}

    def decide(raw: RawReply, now_s: float) -> Reply:
        """403 speaks of a session elsewhere; here nobody has named one yet."""
        return NeedsLogin() if raw.status in (401, 403) else decide_put_reply(raw, now_s)

    probed = Pusher(senders, PROVIDERS, time.time, guard=Guard(NoRules(), files), redactor=nothing).run(
        ProbeTask(one.name, one.protocol == "upload")
    )
    assert isinstance(probed, Probed)  # noqa: S101 - what a probe comes back as
    reply = probed.reply
    offers_bulk = probed.capabilities is not None and probed.capabilities.bulk is not None
    if not isinstance(reply, (NeedsLogin, Unavailable)) and not offers_bulk and one.protocol != "upload":
        # A simple server need not look at the token before it says that it has no such page.
        reply = Asker(senders, time.time).ask(
            one.name, loglines_request(str(uuid.uuid4()), max_reply_bytes=1 << 16), decide, None
        )
    return Offer(reply, probed.capabilities)
