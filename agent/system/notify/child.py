"""The process that shows one notice: a JSON object with title and body on stdin, `{"is": …, "why": …}` on stdout."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Run = Callable[[Sequence[str], Mapping[str, str]], int]
"""Runs a command with additional environment, and gives its exit status; raises OSError or TimeoutExpired."""

_BUS_S = 5.0
_COMMAND_S = 8.0
_STAYS_MS = -1  # as long as the desktop likes
_EXPECTED = ("ServiceUnknown", "NameHasNoOwner", "Spawn")
"""Errors of a bus on which nobody shows notices."""

# What is shown travels in the environment: it is never a part of a program.
_OSASCRIPT = (
    'display notification (system attribute "TRANSCRIPTD_BODY") with title (system attribute "TRANSCRIPTD_TITLE")'
)
_TOAST = r"""
$null = [Windows.UI.Notifications.ToastNotificationManager, Windows.UI.Notifications, ContentType = WindowsRuntime]
$null = [Windows.Data.Xml.Dom.XmlDocument, Windows.Data.Xml.Dom.XmlDocument, ContentType = WindowsRuntime]
$kind = [Windows.UI.Notifications.ToastTemplateType]::ToastText02
$xml = [Windows.UI.Notifications.ToastNotificationManager]::GetTemplateContent($kind)
$texts = $xml.GetElementsByTagName('text')
$null = $texts.Item(0).AppendChild($xml.CreateTextNode($env:TRANSCRIPTD_TITLE))
$null = $texts.Item(1).AppendChild($xml.CreateTextNode($env:TRANSCRIPTD_BODY))
$app = '{1AC14E77-02E7-4E5D-B744-2EB1AE5198B7}\WindowsPowerShell\v1.0\powershell.exe'
$toast = New-Object Windows.UI.Notifications.ToastNotification $xml
[Windows.UI.Notifications.ToastNotificationManager]::CreateToastNotifier($app).Show($toast)
"""


def main() -> None:
    question = json.loads(sys.stdin.readline())
    is_, why = show(question["title"], question["body"], sys.platform, run_command, os.environ)
    sys.stdout.write(json.dumps({"is": is_, "why": why}) + "\n")


def show(title: str, body: str, platform: str, run: Run, environment: Mapping[str, str]) -> tuple[str, str]:
    """`shown`, `nobody` or `failed`, and why."""
    try:
        match platform:
            case "darwin":
                return _by_command(["osascript", "-e", _OSASCRIPT], title, body, run)
            case "win32":
                script = base64.b64encode(_TOAST.encode("utf-16-le")).decode()
                command = ["powershell.exe", "-NoProfile", "-NonInteractive", "-EncodedCommand", script]
                return _by_command(command, title, body, run)
            case _:
                return _by_bus(title, body, environment)
    except FileNotFoundError:
        return "nobody", "nothing here shows notices"
    except Exception as exc:  # noqa: BLE001 - of a library or a bus; told by kind
        return "failed", type(exc).__name__


def run_command(command: Sequence[str], more: Mapping[str, str]) -> int:
    return subprocess.run(
        command,
        env={**os.environ, **more},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_COMMAND_S,
        check=False,
    ).returncode


def _by_command(command: Sequence[str], title: str, body: str, run: Run) -> tuple[str, str]:
    status = run(command, {"TRANSCRIPTD_TITLE": title, "TRANSCRIPTD_BODY": body})
    return ("shown", "") if status == 0 else ("failed", f"{command[0]} ends with {status}")


def _by_bus(title: str, body: str, environment: Mapping[str, str]) -> tuple[str, str]:
    if not environment.get("DBUS_SESSION_BUS_ADDRESS"):
        return "nobody", "there is no session bus"
    from jeepney import DBusAddress, HeaderFields, MessageType, new_method_call
    from jeepney.io.blocking import open_dbus_connection

    place = DBusAddress(
        "/org/freedesktop/Notifications",
        bus_name="org.freedesktop.Notifications",
        interface="org.freedesktop.Notifications",
    )
    # The body may be read as markup.
    safe = body.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    arguments: tuple[Any, ...] = ("transcriptd", 0, "", title, safe, [], {"urgency": ("y", 1)}, _STAYS_MS)
    with open_dbus_connection(bus="SESSION") as connection:
        call = new_method_call(place, "Notify", "susssasa{sv}i", arguments)
        reply = connection.send_and_get_reply(call, timeout=_BUS_S)
    if reply.header.message_type is MessageType.method_return:
        return "shown", ""
    name = str(reply.header.fields.get(HeaderFields.error_name, "an error"))
    return ("nobody" if any(word in name for word in _EXPECTED) else "failed"), name


if __name__ == "__main__":
    main()
