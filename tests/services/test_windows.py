"""The task, by the schema of Task Scheduler 1.2, and conversations with `schtasks`, `reg` and `taskkill`."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ServiceError, ServiceRefused, UsageError
from agent.services.__main__ import WINDOWS
from agent.services.runner import decode_output
from agent.services.spec import ServiceSpec
from agent.services.windows import (
    RUN_KEY,
    Windows,
    encode_task,
    parse_command,
    render_run_value,
    render_task,
    render_wrapper,
    split_command,
    with_environment,
)
from tests.services.recorded import Conversation, make_world

# ---- the schema: what of it a task of ours may touch ----

NAMESPACE = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"


class Kind(NamedTuple):
    """An element: what is in it, in which order (`ordered` for a sequence, else in any), what has to be, and the
    shape of its text."""

    children: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    ordered: bool = False
    text: str = ""


BOOLEAN, DURATION, TEXT = "true|false", r"P(?=.)(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+S)?)?", r"(?s:.*)"
SCHEMA: dict[str, Kind] = {
    # taskType is xs:all; the order is what Windows itself writes.
    "Task": Kind(
        ("RegistrationInfo", "Triggers", "Principals", "Settings", "Data", "Actions"), ("Actions",), ordered=True
    ),
    "RegistrationInfo": Kind(("URI", "Source", "Date", "Author", "Version", "Description", "Documentation")),
    "Version": Kind(text=TEXT),
    "Description": Kind(text=TEXT),
    "Triggers": Kind(("LogonTrigger",)),
    # triggerBaseType, then logonTriggerType: sequences.
    "LogonTrigger": Kind(
        ("Repetition", "StartBoundary", "EndBoundary", "ExecutionTimeLimit", "Enabled", "UserId", "Delay"), ordered=True
    ),
    "UserId": Kind(text=r"[^\\]+\\[^\\]+"),
    "Principals": Kind(("Principal",), ("Principal",)),
    "Principal": Kind(("UserId", "LogonType", "GroupId", "DisplayName", "RunLevel")),
    "LogonType": Kind(text="S4U|Password|InteractiveToken|InteractiveTokenOrPassword"),
    "RunLevel": Kind(text="LeastPrivilege|HighestAvailable"),
    "Settings": Kind(
        (
            *("AllowStartOnDemand", "RestartOnFailure", "MultipleInstancesPolicy", "DisallowStartIfOnBatteries"),
            *("StopIfGoingOnBatteries", "AllowHardTerminate", "StartWhenAvailable", "NetworkProfileName"),
            *("RunOnlyIfNetworkAvailable", "WakeToRun", "Enabled", "Hidden", "DeleteExpiredTaskAfter", "IdleSettings"),
            *("NetworkSettings", "ExecutionTimeLimit", "Priority", "RunOnlyIfIdle"),
        )
    ),
    **dict.fromkeys(
        (
            *("AllowStartOnDemand", "DisallowStartIfOnBatteries", "StopIfGoingOnBatteries", "AllowHardTerminate"),
            *("StartWhenAvailable", "RunOnlyIfNetworkAvailable", "WakeToRun", "Enabled", "Hidden", "RunOnlyIfIdle"),
            *("StopOnIdleEnd", "RestartOnIdle"),
        ),
        Kind(text=BOOLEAN),
    ),
    "MultipleInstancesPolicy": Kind(text="Parallel|Queue|IgnoreNew|StopExisting"),
    "IdleSettings": Kind(("Duration", "WaitTimeout", "StopOnIdleEnd", "RestartOnIdle")),
    "ExecutionTimeLimit": Kind(text=DURATION),
    "Priority": Kind(text="[0-9]|10"),
    "RestartOnFailure": Kind(("Interval", "Count"), ("Interval", "Count")),
    "Interval": Kind(text=r"PT([1-9]|[1-9]\d+)M"),  # a minute at least, 31 days at most
    "Count": Kind(text=r"[1-9]\d?|1\d\d|2[0-4]\d|25[0-5]"),  # xs:unsignedByte
    "Actions": Kind(("Exec",), ("Exec",)),
    "Exec": Kind(("Command", "Arguments", "WorkingDirectory"), ("Command",)),
    "Command": Kind(text="(?s:.+)"),
    "Arguments": Kind(text=TEXT),
}


def faults_of(text: str) -> list[str]:
    """What the schema would say against a task."""
    found: list[str] = []

    def look(element: ElementTree.Element) -> None:
        name = element.tag.removeprefix(NAMESPACE)
        kind = SCHEMA.get(name)
        if kind is None or not element.tag.startswith(NAMESPACE):
            found.append(f"{name} is not known")
            return
        children = [one.tag.removeprefix(NAMESPACE) for one in element]
        found.extend(f"{name} may not have {one}" for one in children if one not in kind.children)
        found.extend(f"{name} needs {one}" for one in kind.required if one not in children)
        found.extend(f"{name} has {one} twice" for one in set(children) if children.count(one) > 1)
        places = [kind.children.index(one) for one in children if one in kind.children]
        if kind.ordered and places != sorted(places):
            found.append(f"{name} has its elements in another order")
        if not children and not re.fullmatch(kind.text, element.text or ""):
            found.append(f"{name} may not be {element.text!r}")
        for one in element:
            look(one)

    root = ElementTree.fromstring(text)  # noqa: S314 - our own
    look(root)
    ids = {one.get("id") for one in root.iter(f"{NAMESPACE}Principal")}
    contexts = [one.get("Context") for one in root.iter(f"{NAMESPACE}Actions")]
    found.extend(f"Actions has no principal {one}" for one in contexts if one not in ids)
    return found


def value_of(text: str, name: str) -> str:
    return next(ElementTree.fromstring(text).iter(f"{NAMESPACE}{name}")).text or ""  # noqa: S314 - our own


def test_a_task_is_one_by_the_schema() -> None:
    assert faults_of(render_task(WINDOWS)) == []


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ("<Count>255<", "<Count>256<"),
        ("PT1M", "PT1S"),
        ("LeastPrivilege", "Least"),
        ("<Enabled>true<", "<Enabled>yes<"),
        ("Command>", "Program>"),
        ('Context="Author"', 'Context="Other"'),
        ("InteractiveToken", "Interactive"),
        ("PT0S", "0"),
    ],
)
def test_a_fault_would_be_seen(text: str, becomes: str) -> None:
    assert faults_of(render_task(WINDOWS).replace(text, becomes))


def test_what_the_field_asks_for_is_there() -> None:
    text = render_task(WINDOWS)
    for name, value in {
        "LogonType": "InteractiveToken",
        "RunLevel": "LeastPrivilege",
        "ExecutionTimeLimit": "PT0S",
        "DisallowStartIfOnBatteries": "false",
        "StopIfGoingOnBatteries": "false",
        "MultipleInstancesPolicy": "IgnoreNew",
        "Interval": "PT1M",
        "UserId": "DESKTOP\\ada",
    }.items():
        assert value_of(text, name) == value


def test_the_file_is_utf_16() -> None:
    raw = encode_task(render_task(WINDOWS))
    assert raw[:2] == b"\xff\xfe"
    assert raw.decode("utf-16").replace("\r\n", "\n") == render_task(WINDOWS)
    assert decode_output(raw).startswith("<?xml")


# ---- quoting ----


def argv_of(line: str) -> list[str]:
    """CommandLineToArgvW, from its documentation, character by character."""
    words: list[str] = []
    i, size = 0, len(line)
    while True:
        while i < size and line[i] in " \t":
            i += 1
        if i == size:
            return words
        word, quoted = "", False
        while i < size and (quoted or line[i] not in " \t"):
            slashes = 0
            while i < size and line[i] == "\\":
                slashes, i = slashes + 1, i + 1
            if i < size and line[i] == '"':
                word += "\\" * (slashes // 2)
                if slashes % 2:
                    word += '"'
                else:
                    quoted = not quoted
                i += 1
            else:
                word += "\\" * slashes
                if i < size and (quoted or line[i] not in " \t"):
                    word, i = word + line[i], i + 1
        words.append(word)


ARGUMENT = st.text(st.sampled_from("ab \\\"'&<>^!é$-"), min_size=1)


@given(st.lists(ARGUMENT, min_size=1))
def test_arguments_arrive_as_they_were(arguments: Sequence[str]) -> None:
    line = subprocess.list2cmdline(arguments)
    assert argv_of(line) == list(arguments)
    assert list(split_command(line)) == list(arguments)


@given(ARGUMENT, ARGUMENT)
def test_command_and_environment_arrive_as_they_were(path: str, value: str) -> None:
    spec = ServiceSpec((f"C:\\{path}", "-m", "agent", "run"), (("CODEX_HOME", value), ("NO_PROXY", "x")), "C:\\l")
    command, arguments = with_environment(spec)
    assert parse_command((command, *argv_of(arguments))) == (spec.command, dict(spec.environment))
    text = render_task(spec)
    assert (value_of(text, "Command"), value_of(text, "Arguments")) == (command, arguments)


@pytest.mark.parametrize("path", ["C:\\%TEMP%\\x.exe", "C:\\a$(Arg0)\\x.exe"])
def test_what_the_scheduler_would_replace_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="would replace"):
        render_task(ServiceSpec((path, "run"), (), "C:\\l"))


def test_one_percent_is_only_a_sign() -> None:
    program = "C:\\100% & <me>\\x.exe"
    assert value_of(render_task(ServiceSpec((program, "run"), (), "x")), "Command") == program


def test_the_run_key_takes_260_characters() -> None:
    assert render_run_value(ServiceSpec(("C:\\a b\\x.exe", "run"), (), "x")) == '"C:\\a b\\x.exe" run'
    with pytest.raises(ServiceError, match="has 265 characters, and the Run key takes 260"):
        render_run_value(ServiceSpec(("C:\\" + "x" * 258, "run"), (), "x"))


def test_the_wrapper_is_xml_and_says_what_it_was_told() -> None:
    spec = ServiceSpec(("C:\\a & b\\x.exe", "a b", "run"), (("CODEX_HOME", 'C:\\"<é>'),), "C:\\l")
    root = ElementTree.fromstring(render_wrapper(spec))  # noqa: S314 - our own
    assert root.findtext("executable") == spec.command[0]
    assert argv_of(root.findtext("arguments") or "") == ["a b", "run"]
    variable = root.find("env")
    assert variable is not None
    assert variable.attrib == {"name": "CODEX_HOME", "value": 'C:\\"<é>'}
    with pytest.raises(UsageError, match="WinSW would replace %TEMP%"):
        render_wrapper(ServiceSpec(("C:\\%TEMP%\\x", "run"), (), "x"))


# ---- what is asked ----

SPEC = ServiceSpec(("/bin/sh", "run"), (), "/logs", user="PC\\ada")
HELP = ("schtasks /Query /?", 0, "SCHTASKS /Query")
QUERY = "schtasks /Query /TN transcriptd /XML"
NO_TASK = (QUERY, 1, "ERROR: The system cannot find the file specified.")
TASK = (QUERY, 0, render_task(SPEC))
CREATE = "schtasks /Create /TN transcriptd /XML*"
DENIED = (CREATE, 1, "ERROR: Access is denied.")
RUN = ("schtasks /Run /TN transcriptd", 0, "SUCCESS: Attempted to run the scheduled task.")
END = ("schtasks /End /TN transcriptd", 0, "SUCCESS")
REG = f"reg query {RUN_KEY} /v transcriptd"
NO_VALUE = (REG, 1, "ERROR: The system was unable to find the specified registry key or value.")
VALUE = (REG, 0, "\r\nHKEY_CURRENT_USER\\Software\\…\\Run\r\n    transcriptd    REG_SZ    /bin/sh run\r\n\r\n")


class Agent:
    """Whether one answers: for as long as `looks` says."""

    def __init__(self, *looks: bool) -> None:
        self._looks = list(looks)
        self.spawned: list[tuple[str, ...]] = []

    def __call__(self) -> bool:
        return self._looks.pop(0) if len(self._looks) > 1 else self._looks[0]


def windows(home: Path, agent: Agent, *turns: tuple[str, int, str]) -> tuple[Windows, Conversation]:
    talk = Conversation(*turns)
    (home / "state").mkdir(exist_ok=True)
    (home / "state" / "daemon.pid").write_text("4711\n")
    return Windows(make_world(home, talk, uid=-1, answers=agent, spawn=agent.spawned.append), "transcriptd"), talk


def test_installed_anew(tmp_path: Path) -> None:
    turns = [HELP, NO_TASK, (CREATE, 0, "SUCCESS"), NO_VALUE, TASK, RUN]
    one, talk = windows(tmp_path, Agent(False, False, True), *turns)
    done = one.install(SPEC, outdated=False)
    assert done == ["task transcriptd: made; it starts with the logon", "started"]
    assert talk.is_over()
    assert not (tmp_path / "state" / "transcriptd-task.xml").exists()


def test_the_file_for_schtasks_is_there_when_it_is_read(tmp_path: Path) -> None:
    one, talk = windows(tmp_path, Agent(True), HELP, NO_TASK, (CREATE, 1, "x"), NO_VALUE, ("reg add*", 0, ""))
    seen: list[bytes] = []

    def runner(command: Sequence[str]) -> object:
        if "/Create" in command:
            seen.append(Path(command[command.index("/XML") + 1]).read_bytes())
        return talk(command)

    object.__setattr__(one._world, "runner", runner)
    with pytest.raises(AssertionError):  # the conversation goes on; what matters was seen
        one.install(SPEC, outdated=False)
    assert seen == [encode_task(render_task(SPEC))]


def test_installed_again_nothing_happens(tmp_path: Path) -> None:
    """Windows gives back another text: another order, the user as a number."""
    theirs = render_task(SPEC).replace("PC\\ada", "S-1-5-21-1").replace("  ", "    ")
    one, talk = windows(tmp_path, Agent(True), HELP, (QUERY, 0, theirs))
    assert one.install(SPEC, outdated=False) == []
    assert talk.is_over()


def test_a_task_that_changed_is_made_anew_and_started_again(tmp_path: Path) -> None:
    old = render_task(ServiceSpec(("/bin/true", "run"), (), "/logs"))
    turns = [HELP, (QUERY, 0, old), (CREATE, 0, ""), VALUE, (f"reg delete {RUN_KEY} /v transcriptd /f", 0, "")]
    one, talk = windows(tmp_path, Agent(True, True, False, False, True), *turns, TASK, END, TASK, RUN)
    assert one.install(SPEC, outdated=False) == ["task transcriptd: changed; it starts with the logon", "restarted"]
    assert talk.is_over()


def test_where_no_task_is_allowed_the_run_key_will_do(tmp_path: Path) -> None:
    agent = Agent(False, False, False, True)
    add = (f"reg add {RUN_KEY} /v transcriptd /t REG_SZ /d /bin/sh run /f", 0, "The operation completed")
    one, talk = windows(tmp_path, agent, HELP, NO_TASK, DENIED, NO_VALUE, add, NO_TASK, VALUE)
    done = one.install(SPEC, outdated=False)
    assert done == [f"{RUN_KEY}\\transcriptd: made (Windows takes no task: ERROR: Access is denied.)", "started"]
    assert agent.spawned == [("/bin/sh", "run")]
    assert talk.is_over()


def test_neither_task_nor_run_key(tmp_path: Path) -> None:
    add = ("reg add*", 1, "ERROR: Access is denied.")
    one, _ = windows(tmp_path, Agent(False), HELP, NO_TASK, DENIED, NO_VALUE, add)
    with pytest.raises(ServiceError, match=r"reg add failed \(1\): ERROR: Access is denied"):
        one.install(SPEC, outdated=False)


def test_a_task_that_an_administrator_made_is_not_ours_to_change(tmp_path: Path) -> None:
    old = render_task(ServiceSpec(("/bin/true", "run"), (), "/logs"))
    one, _ = windows(tmp_path, Agent(False), HELP, (QUERY, 0, old), DENIED)
    with pytest.raises(ServiceRefused, match="can't be changed: ERROR: Access is denied"):
        one.install(SPEC, outdated=False)


def test_uninstalled_all_is_gone(tmp_path: Path) -> None:
    delete = ("schtasks /Delete /TN transcriptd /F", 0, "SUCCESS")
    kill = ("taskkill /PID 4711 /F", 0, "SUCCESS")
    unset = (f"reg delete {RUN_KEY} /v transcriptd /f", 0, "")
    one, talk = windows(tmp_path, Agent(True), TASK, END, delete, VALUE, kill, unset, NO_TASK, NO_VALUE)
    assert one.uninstall() == ["task transcriptd: removed", f"{RUN_KEY}\\transcriptd: removed"]
    assert one.uninstall() == []
    assert talk.is_over()


def test_one_that_does_not_start_is_given_up(tmp_path: Path) -> None:
    one, _ = windows(tmp_path, Agent(False), TASK, RUN)
    with pytest.raises(ServiceError, match="does not start within 30 s"):
        one.start()
    one, _ = windows(tmp_path, Agent(False), NO_TASK, NO_VALUE)
    with pytest.raises(ServiceError, match="not installed"):
        one.start()


def test_stopped(tmp_path: Path) -> None:
    one, talk = windows(tmp_path, Agent(True, False), TASK, END)
    one.stop()
    assert talk.is_over()
    one, talk = windows(tmp_path, Agent(True, False), NO_TASK, VALUE, ("taskkill /PID 4711 /F", 0, ""))
    one.stop()
    assert talk.is_over()


def test_without_schtasks(tmp_path: Path) -> None:
    one, _ = windows(tmp_path, Agent(False), ("schtasks /Query /?", 127, "schtasks: not found"))
    with pytest.raises(ServiceError, match="schtasks"):
        one.install(SPEC, outdated=False)


@pytest.mark.parametrize(
    ("turns", "running", "kind", "why"),
    [
        ([TASK], True, "windows task", ""),
        ([TASK], False, "windows task", "it does not run"),
        ([(QUERY, 0, TASK[2].replace("<Enabled>true<", "<Enabled>false<"))], True, "windows task", "is disabled"),
        (
            [(QUERY, 0, TASK[2].replace("<Version>", "<Version>0"))],
            True,
            "windows task",
            "not what this version writes",
        ),
        ([NO_TASK, VALUE], True, "windows run key", ""),
    ],
    ids=["works", "stopped", "disabled", "another version", "run key"],
)
def test_how_it_stands(turns: list[tuple[str, int, str]], running: bool, kind: str, why: str, tmp_path: Path) -> None:
    one, _ = windows(tmp_path, Agent(running), *turns)
    found = one.state(SPEC)
    assert (found.kind, found.installed, found.active, found.command) == (kind, True, running, SPEC.command)
    assert why in found.why
    assert bool(found.why) == bool(why)


def test_one_that_is_not_there(tmp_path: Path) -> None:
    one, _ = windows(tmp_path, Agent(False), NO_TASK, NO_VALUE)
    found = one.state(SPEC)
    assert (found.installed, found.why, found.hint) == (False, "", "transcriptd service install")
