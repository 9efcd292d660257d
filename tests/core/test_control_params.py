"""The params of every method of the control socket: what is no part of the table is refused, by name."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.core.control_params import KINDS, PARAMS, Form, Param, check_params
from agent.errors import UsageError

FORMS = [(method, form) for method, forms in PARAMS.items() for form in forms]
NAMED = [(method, form, name) for method, form in FORMS for name in form]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def fitting(param: Param) -> Any:
    """A value that the param takes, the least one."""
    size = int(param.least)
    return {
        "a text": "x" * max(1, size),
        "a list of texts": ["x"] * max(1, size),
        "true or false": True,
        "a whole number": max(1, size),
        "a number": max(1.5, param.least),
        "an object": {"a.b": 1},
        "a list of objects": [{}] * max(1, size),
    }[param.kind]


def filled(form: Form, *, all_of_it: bool = True) -> dict[str, Any]:
    return {name: fitting(param) for name, param in form.items() if all_of_it or param.needed}


@pytest.mark.parametrize(("method", "form"), FORMS)
def test_what_the_table_names_is_taken(method: str, form: Form) -> None:
    check_params(method, filled(form))
    if any(param.needed for param in form.values()) or not form or form is PARAMS[method][0]:
        check_params(method, filled(form, all_of_it=False))


@given(st.sampled_from(FORMS), st.text(min_size=1, max_size=20), JSON)
def test_what_it_does_not_name_is_refused(one: tuple[str, Form], name: str, value: object) -> None:
    method, form = one
    if any(name in other for other in PARAMS[method]):
        return
    with pytest.raises(UsageError, match="knows no"):
        check_params(method, {**filled(form), name: value})


@pytest.mark.parametrize(("method", "form", "name"), NAMED)
def test_a_slip_of_the_pen_is_told_the_nearest(method: str, form: Form, name: str) -> None:
    words = name.split("_")
    slips = {name + "s", name[:-1], name.upper(), words[0] + "".join(word.title() for word in words[1:]), f"{name}-"}
    known = {one for other in PARAMS[method] for one in other}
    for slip in slips - known:
        with pytest.raises(UsageError) as raised:
            check_params(method, {**filled(form), slip: fitting(form[name])})
        nearest = raised.value.message.rpartition(" ")[2]
        assert nearest in known
        assert nearest == name or slip == name[:-1] or len(known) > 1


@pytest.mark.parametrize(
    ("method", "params", "nearest"),
    [
        ("sessions.cleanup", {"dryRun": True}, "dry_run"),
        ("sessions.cleanup", {"dry-run": True}, "dry_run"),
        ("sessions.backfill", {"Start": False}, "start"),
        ("agent.pause", {"for": 60}, "for_s"),
        ("messages.subscribe", {"session": "s", "afterSeq": 0}, "after_seq"),
        ("sessions.delete", {"session": "s", "transcripts": False}, "transcript"),
    ],
)
def test_the_nearest_is_the_one_that_was_meant(method: str, params: Mapping[str, Any], nearest: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_params(method, params)
    assert raised.value.message.endswith(f"the nearest is {nearest}")


def test_privacy_is_not_patched() -> None:
    with pytest.raises(UsageError, match="knows no 'private'") as raised:
        check_params("sessions.patch", {"session": "s", "private": True})
    assert raised.value.hint == "transcriptd private add SESSION"


@given(st.sampled_from(NAMED), JSON)
def test_a_value_of_another_type_is_refused(one: tuple[str, Form, str], value: object) -> None:
    method, form, name = one
    if KINDS[form[name].kind](value):
        return
    with pytest.raises(UsageError, match=f"^{name}: {form[name].kind}"):
        check_params(method, {**filled(form), name: value})


@pytest.mark.parametrize(("method", "form", "name"), NAMED)
def test_bounds_hold(method: str, form: Form, name: str) -> None:
    param = form[name]
    beyond: list[Any] = []
    if "number" in param.kind:
        beyond = [param.least - 1, param.most + 1, 10**400, -(10**400)]
    elif "list" in param.kind:
        beyond = [[fitting(Param(param.kind))[0]] * (int(param.most) + 1), *([[]] if param.least else [])]
    elif param.kind == "a text" and param.least:
        beyond = [""]
    for value in beyond:
        with pytest.raises(UsageError, match=f"^{name}: "):
            check_params(method, {**filled(form), name: value})


@pytest.mark.parametrize(("method", "form", "name"), [one for one in NAMED if one[1][one[2]].needed])
def test_what_is_needed_is_asked_for(method: str, form: Form, name: str) -> None:
    left = {one: value for one, value in filled(form, all_of_it=False).items() if one != name}
    if any(all(one in other for one in left) and not any(p.needed for p in other.values()) for other in PARAMS[method]):
        return  # another form of the method takes these
    with pytest.raises(UsageError, match=name):
        check_params(method, left)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("sessions.list", {"sessions": ["a"], "limit": 3}),
        ("sessions.list", {"beyond_index": True, "state": "synced"}),
        ("sessions.resolve", {"words": "a", "beginning": "b"}),
    ],
)
def test_what_does_not_go_together_is_said(method: str, params: Mapping[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"go together|needs it"):
        check_params(method, params)
