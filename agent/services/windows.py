"""A task of Windows' Task Scheduler that starts with the logon, or a value of the Run key where policy allows no task;
and the file for a wrapper that makes a Windows service of the agent, for machines that nobody logs in to.

Built to the schema of Task Scheduler 1.2 and to the documentation of `schtasks` and `reg`; it has not been run on
Windows. A service could not read the user's credentials, so a task is the way that is chosen.
"""

import hashlib
import re
import subprocess
from collections.abc import Mapping
from xml.sax.saxutils import escape, unescape

from agent.errors import ServiceError, ServiceRefused, UsageError
from agent.services.files import remove_file, write_file
from agent.services.runner import NOT_FOUND
from agent.services.spec import ServiceSpec
from agent.services.state import INSTALL, ServiceState, World, judge

RUN_KEY = r"HKCU\Software\Microsoft\Windows\CurrentVersion\Run"
_RUN_MOST = 260
"""Characters of a value there."""

STARTS_WITHIN_S = 30.0
LOOK_S = 0.25

_TASK = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Version>{version}</Version>
    <Description>transcriptd, keeps a server's copy of coding-agent transcripts</Description>
  </RegistrationInfo>
  <Triggers>
    <LogonTrigger>
      <Enabled>true</Enabled>
      <UserId>{user}</UserId>
    </LogonTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author">
      <UserId>{user}</UserId>
      <LogonType>InteractiveToken</LogonType>
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <AllowHardTerminate>true</AllowHardTerminate>
    <StartWhenAvailable>true</StartWhenAvailable>
    <RunOnlyIfNetworkAvailable>false</RunOnlyIfNetworkAvailable>
    <IdleSettings>
      <StopOnIdleEnd>false</StopOnIdleEnd>
      <RestartOnIdle>false</RestartOnIdle>
    </IdleSettings>
    <AllowStartOnDemand>true</AllowStartOnDemand>
    <Enabled>true</Enabled>
    <Hidden>false</Hidden>
    <RunOnlyIfIdle>false</RunOnlyIfIdle>
    <WakeToRun>false</WakeToRun>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <Priority>7</Priority>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>255</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{command}</Command>
      <Arguments>{arguments}</Arguments>
    </Exec>
  </Actions>
</Task>
"""

_WRAPPER = """\
<!-- For WinSW: put it beside its program as {name}-service.xml and {name}-service.exe, then, as administrator:
       {name}-service.exe install
     It asks for the account, which has to be the one whose transcripts are kept, and which needs the right to log on as
     a service. A service can't read that user's credentials: transcriptd login URL (double dash) token-file FILE -->
<service>
  <id>{name}</id>
  <name>transcriptd</name>
  <description>Keeps a server's copy of coding-agent transcripts</description>
  <executable>{command}</executable>
  <arguments>{arguments}</arguments>
{environment}  <serviceaccount>
    <prompt>console</prompt>
    <allowservicelogon>true</allowservicelogon>
  </serviceaccount>
  <startmode>Automatic</startmode>
  <delayedAutoStart>true</delayedAutoStart>
  <priority>BelowNormal</priority>
  <stoptimeout>30 sec</stoptimeout>
  <onfailure action="restart" delay="5 sec"/>
  <onfailure action="restart" delay="60 sec"/>
  <resetfailure>1 hour</resetfailure>
  <logpath>{logs}</logpath>
  <log mode="roll-by-size">
    <sizeThreshold>1024</sizeThreshold>
    <keepFiles>2</keepFiles>
  </log>
</service>
"""


def render_task(spec: ServiceSpec) -> str:
    """Its Version is a digest of the rest: Windows gives back another text than it was given. Raises UsageError for a
    command that the scheduler would change."""
    command, arguments = with_environment(spec)
    for one in (command, arguments):
        if found := re.search(r"%[^%]+%|\$\(", one):
            raise UsageError(f"the Task Scheduler would replace {found.group()} in the command {one}")
    fields = {"user": spec.user, "command": command, "arguments": arguments}
    escaped = {name: escape(value) for name, value in fields.items()}
    digest = hashlib.sha256(_TASK.format(version="", **escaped).encode()).hexdigest()[:16]
    return _TASK.format(version=digest, **escaped)


def encode_task(text: str) -> bytes:
    """As `schtasks` reads it: UTF-16 with a mark, lines ending as Windows does."""
    return b"\xff\xfe" + text.replace("\n", "\r\n").encode("utf-16-le")


def render_run_value(spec: ServiceSpec) -> str:
    """A command line for the Run key. Raises ServiceError when it is longer than that key takes."""
    command, arguments = with_environment(spec)
    line = f"{subprocess.list2cmdline([command])} {arguments}"
    if len(line) > _RUN_MOST:
        raise ServiceError(f"the command has {len(line)} characters, and the Run key takes {_RUN_MOST}")
    return line


def render_wrapper(spec: ServiceSpec) -> str:
    """WinSW's settings. It replaces %NAME% and knows no way around that."""
    command, *arguments = spec.command
    for one in (*spec.command, *(value for _, value in spec.environment)):
        if found := re.search("%[^%]+%", one):
            raise UsageError(f"WinSW would replace {found.group()} in {one}")
    quoted = {'"': "&quot;"}
    variables = [
        f'  <env name="{escape(name, quoted)}" value="{escape(value, quoted)}"/>\n' for name, value in spec.environment
    ]
    return _WRAPPER.format(
        name=spec.name,
        command=escape(command),
        arguments=escape(subprocess.list2cmdline(arguments)),
        environment="".join(variables),
        logs=escape(spec.logs),
    )


def with_environment(spec: ServiceSpec) -> tuple[str, str]:
    """Program and command line of its arguments. A task has no environment of its own, so that goes along as options of
    a command that sets it: `service run --set NAME=VALUE`."""
    command, *arguments = spec.command
    if spec.environment:
        variables = [part for name, value in spec.environment for part in ("--set", f"{name}={value}")]
        arguments = [*arguments[:-1], "service", "run", *variables]
    return command, subprocess.list2cmdline(arguments)


def split_command(line: str) -> tuple[str, ...]:
    """What CommandLineToArgvW makes of a command line."""
    words: list[str] = []
    word, quoted, inside = "", False, False
    for found in re.finditer(r'(\\*)"|(\\+)|([ \t]+)|([^\\" \t]+)', line):
        slashes, plain_slashes, blank, text = found.groups()
        if slashes is not None:
            word += "\\" * (len(slashes) // 2)
            if len(slashes) % 2:
                word += '"'
            else:
                quoted = not quoted
            inside = True
        elif blank is not None and not quoted:
            if inside:
                words.append(word)
            word, inside = "", False
        else:
            word += plain_slashes or blank or text
            inside = True
    return (*words, word) if inside else tuple(words)


def parse_command(words: tuple[str, ...]) -> tuple[tuple[str, ...], Mapping[str, str]]:
    """Command and environment of what `with_environment` put together."""
    if "--set" not in words:
        return words, {}
    first = words.index("--set")
    pairs = [words[i + 1].partition("=") for i in range(first, len(words) - 1, 2)]
    return (*words[: first - 2], "run"), {name: value for name, _, value in pairs}


class Windows:
    """The task, or the Run key: whichever is there."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self.name = name
        self._run_query = ("reg", "query", RUN_KEY, "/v", name)

    @property
    def kind(self) -> str:
        return "windows run key" if self._query_task() is None and self._query_run() is not None else "windows task"

    # --- what it is asked ---

    def render(self, spec: ServiceSpec) -> str:
        return render_task(spec)

    def check(self) -> None:
        if self._world.runner(["schtasks", "/Query", "/?"]).status == NOT_FOUND:
            raise ServiceError("schtasks, which would start the service, is not here")

    def install(self, spec: ServiceSpec, *, outdated: bool) -> list[str]:
        self.check()
        text, there = render_task(spec), self._query_task()
        changed, done = there is None or not _same_task(there, text), []
        if changed:
            refused = self._create(text)
            if refused and there is not None:
                hint = f"as administrator: schtasks /Delete /TN {self.name} /F"
                raise ServiceRefused(f"the task {self.name} can't be changed: {refused}", hint=hint)
            if refused:
                return self._install_run_key(spec, f"Windows takes no task: {refused}", outdated=outdated)
            done.append(f"task {self.name}: {'changed' if there is not None else 'made'}; it starts with the logon")
            if self._query_run() is not None:  # what an earlier install had to make do with
                self._do("reg", "delete", RUN_KEY, "/v", self.name, "/f")
        return done + self._have_it_run(changed=changed, outdated=outdated)

    def _install_run_key(self, spec: ServiceSpec, why: str, *, outdated: bool) -> list[str]:
        line, there = render_run_value(spec), self._query_run()
        changed, done = there != line, []
        if changed:
            self._do("reg", "add", RUN_KEY, "/v", self.name, "/t", "REG_SZ", "/d", line, "/f")
            done.append(f"{RUN_KEY}\\{self.name}: {'made' if there is None else 'changed'} ({why})")
        return done + self._have_it_run(changed=changed, outdated=outdated)

    def _have_it_run(self, *, changed: bool, outdated: bool) -> list[str]:
        if not self._world.answers():
            self.start()
            return ["started"]
        if changed or outdated:
            self.restart()
            return ["restarted" if changed else "restarted: an older version was running"]
        return []

    def uninstall(self) -> list[str]:
        done = []
        if self._query_task() is not None:
            self._world.runner(["schtasks", "/End", "/TN", self.name])
            self._do("schtasks", "/Delete", "/TN", self.name, "/F")
            done.append(f"task {self.name}: removed")
        if self._query_run() is not None:
            self._kill()
            self._do("reg", "delete", RUN_KEY, "/v", self.name, "/f")
            done.append(f"{RUN_KEY}\\{self.name}: removed")
        return done

    def start(self) -> None:
        if self._query_task() is not None:
            self._do("schtasks", "/Run", "/TN", self.name)
        elif (line := self._query_run()) is not None:
            if not self._world.answers():
                self._world.spawn(split_command(line))
        else:
            raise ServiceError("the service is not installed", hint=INSTALL)
        self._wait(True, "the service does not start")

    def stop(self) -> None:
        if self._query_task() is not None:
            self._do("schtasks", "/End", "/TN", self.name)
        elif self._query_run() is not None:
            self._kill()
        self._wait(False, "it does not end")

    def restart(self) -> None:
        if self._world.answers():
            self.stop()
        self.start()

    def state(self, spec: ServiceSpec) -> ServiceState:
        task, line = self._query_task(), None
        if task is not None:
            words = (_element(task, "Command"), *split_command(_element(task, "Arguments")))
            command, environment = parse_command(words)
            same, enabled = _same_task(task, _or_nothing(spec)), "<Enabled>false</Enabled>" not in task
            kind, file = "windows task", f"\\{self.name}"
        elif (line := self._query_run()) is not None:
            command, environment = parse_command(split_command(line))
            same, enabled = True, True
            kind, file = "windows run key", f"{RUN_KEY}\\{self.name}"
        else:
            return ServiceState("windows task", file=f"\\{self.name}", hint=INSTALL)
        active = self._world.answers()
        why, hint = judge(spec, command, environment, same=same), INSTALL
        if not why and not enabled:
            why, hint = "the task is disabled", f"schtasks /Change /TN {self.name} /ENABLE"
        elif not why and not active:
            why, hint = "it does not run", "transcriptd service start"
        pid = self._pid() if active else 0
        return ServiceState(kind, True, enabled, active, file, command, why, hint if why else "", pid)

    def notes(self) -> list[tuple[str, str]]:
        if self.kind == "windows run key":
            return [("Windows starts it with the logon, and not again when it fails", "transcriptd service status")]
        return []

    # --- how ---

    def _create(self, text: str) -> str:
        """Why Windows refused, in its own words and language (its exit status is 1 for everything); empty if it did
        not."""
        file = self._world.state / f"{self.name}-task.xml"
        write_file(file, encode_task(text))
        try:
            ran = self._world.runner(["schtasks", "/Create", "/TN", self.name, "/XML", str(file), "/F"])
        finally:
            remove_file(file)
        return (ran.words or f"exit status {ran.status}") if ran.status else ""

    def _query_task(self) -> str | None:
        ran = self._world.runner(["schtasks", "/Query", "/TN", self.name, "/XML"])
        return ran.out if ran.status == 0 and "<Task" in ran.out else None

    def _query_run(self) -> str | None:
        ran = self._world.runner(self._run_query)
        found = re.search(rf"^\s+{re.escape(self.name)}\s+REG_(?:EXPAND_)?SZ\s+(.*?)\s*$", ran.out, re.MULTILINE)
        return found[1] if ran.status == 0 and found else None

    def _do(self, *command: str) -> None:
        ran = self._world.runner(command)
        if ran.status:
            raise ServiceError(f"{' '.join(command[:2])} failed ({ran.status}): {ran.words}")

    def _pid(self) -> int:
        try:
            return int((self._world.state / "daemon.pid").read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def _kill(self) -> None:
        if self._world.answers() and (pid := self._pid()):
            self._do("taskkill", "/PID", str(pid), "/F")

    def _wait(self, answers: bool, words: str) -> None:
        deadline = self._world.monotonic() + STARTS_WITHIN_S
        while self._world.answers() != answers:
            if self._world.monotonic() > deadline:
                raise ServiceError(f"{words} within {STARTS_WITHIN_S:.0f} s", hint="transcriptd logs")
            self._world.sleep(LOOK_S)


def _element(xml: str, name: str) -> str:
    found = re.search(rf"<{name}>(.*?)</{name}>", xml, re.DOTALL)
    return unescape(found[1], {"&quot;": '"', "&apos;": "'"}) if found else ""


def _same_task(there: str, wanted: str) -> bool:
    return all(_element(there, name) == _element(wanted, name) for name in ("Version", "Command", "Arguments"))


def _or_nothing(spec: ServiceSpec) -> str:
    try:
        return render_task(spec)
    except UsageError:
        return ""
