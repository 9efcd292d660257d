"""What is set of a session by hand, checked and kept; for the command and the control socket."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from agent.system.paths import Paths
from agent.system.state.annotations import Annotation, Annotations, check_label, with_value, without_value


def patch_session(
    paths: Paths,
    session_id: str,
    *,
    label: str | None = None,
    archived: bool | None = None,
    values: Mapping[str, Any] = {},
    without: Iterable[str] = (),
) -> dict[str, Any]:
    """What holds then; None leaves as it is. Raises UsageError and DiskError."""
    set_label = None if label is None else check_label(label)

    def edit(before: Annotation) -> Annotation:
        after = before
        if set_label is not None:
            after = msgspec.structs.replace(after, label=set_label)
        if archived is not None:
            after = msgspec.structs.replace(after, archived=archived)
        for key in without:
            after = without_value(after, key)
        for key, value in values.items():
            after = with_value(after, key, value)
        return after

    kept = Annotations(paths.annotations).change(session_id, edit)
    return {"session": session_id, "label": kept.label, "archived": kept.archived, "values": dict(kept.values)}
