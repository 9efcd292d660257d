"""Where secrets stand: in fourteen contexts, in eight dresses, as a value apart from its name, and as part of a key."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from html import escape
from urllib.parse import quote

from tests.core.secret_samples import ALNUM, HEX, URL64, Chance, Sample, make_entry, make_pem, make_result, numbered

# --- contexts: what stands beside it ------------------------------------------------------------------------------

CONTEXTS: Mapping[str, Callable[[Chance, str], str]] = {
    "blanks": lambda c, text: f"please use {text} for it",
    "quotes": lambda c, text: f'x = "{text}"; y',
    "a name": lambda c, text: f"VALUE={text}",
    "a colour": lambda c, text: f"ok \x1b[32m{text}\x1b[0m",
    "grep's colour": lambda c, text: f"a.env:\x1b[01;31m\x1b[K{text}\x1b[m\x1b[K",
    "a colour as \\u001b": lambda c, text: f"'\\u001b[38;5;196m{text}\\u001b[0m'",
    "a colour as \\x1b": lambda c, text: f"'\\x1b[1m\\x1b[32m{text}\\x1b[0m'",
    "a colour as \\033": lambda c, text: f"echo -e '\\033[0;33m{text}\\033[0m'",
    "percent": lambda c, text: f"/login?next=%2Fx%3Fk%3D{text}",
    "quoted-printable": lambda c, text: f"<a href=3D{text}",
    "underscore": lambda c, text: f"x_{text}",
    "letter or digit": lambda c, text: c.choice("q7Zd0") + text,
    "written line ends": lambda c, text: f"'first\\n{text}\\nlast'",
    "an element": lambda c, text: f"<value>{text}</value>",
}

# --- dresses: how the text gets into an entry, or a file -----------------------------------------------------------


def _with_a_hidden_letter(chance: Chance, text: str, secret: str) -> bytes:
    """One letter of the secret as an escape that nobody needs."""
    line = make_entry(chance, text).decode()
    at = line.find(json.dumps(secret)[1:9])
    return line.encode() if at < 0 else f"{line[:at]}\\u{ord(line[at]):04x}{line[at + 1 :]}".encode()


FILE = "a file"
DRESSES: Mapping[str, Callable[[Chance, str, str], bytes]] = {
    FILE: lambda c, text, secret: f"first\n{text}\nlast\n".encode(),
    "an entry": lambda c, text, secret: make_entry(c, text),
    "JSON in it": lambda c, text, secret: make_entry(
        c, make_result(c, json.dumps({"stdout": f"ok\n{text}\n", "code": 0}))
    ),
    "JSON in JSON in it": lambda c, text, secret: make_entry(
        c, make_result(c, json.dumps({"a": json.dumps({"b": [f"\n{text}"]})}))
    ),
    "a file with numbers": lambda c, text, secret: make_entry(
        c, make_result(c, numbered(f"# settings\n{text}\nend\n"))
    ),
    "a diff": lambda c, text, secret: make_entry(
        c, make_result(c, "@@ -1,2 +1,3 @@\n" + "".join(f"+{line}\n" for line in text.split("\n")))
    ),
    "a letter escaped": _with_a_hidden_letter,
    "slashes escaped": lambda c, text, secret: make_entry(c, text).replace(b"/", b"\\/"),
}

# --- names and values apart -----------------------------------------------------------------------------------------

_WITH_NAMES: Mapping[str, tuple[str, Callable[[Chance], str]]] = {
    "password": ("DB_PASSWORD", lambda c: c.password()),
    "key": ("PAYMENT_API_KEY", lambda c: c.of(ALNUM, 31) + "7"),
    "secret": ("SESSION_SECRET", lambda c: c.of(HEX, 64)),
    "token": ("refreshToken", lambda c: c.of(URL64, 47) + "7"),
    "aws-secret-key": ("AWS_SECRET_ACCESS_KEY", lambda c: c.of(ALNUM + "+/", 39) + "7"),
    "datadog-key": ("DD_API_KEY", lambda c: c.of(HEX, 32)),
    "cloudflare-token": ("CLOUDFLARE_API_TOKEN", lambda c: c.of(URL64, 39) + "7"),
    "uuid": ("SNYK_TOKEN", lambda c: c.uuid()),
}

JOINTS: Mapping[str, Callable[[str, str], str]] = {
    "Kubernetes": lambda name, value: f"  env:\n    - name: {name}\n      value: {value}\n",
    "Kubernetes, quoted": lambda name, value: f'- name: "{name}"\n  value: "{value}"\n',
    "ECS": lambda name, value: json.dumps({"environment": [{"name": name, "value": value}]}),
    "ECS, over lines": lambda name, value: json.dumps({"environment": [{"name": name, "value": value}]}, indent=2),
    "with a type between": lambda name, value: json.dumps({"name": name, "type": "SecureString", "value": value}),
    "CloudFormation": lambda name, value: json.dumps([{"ParameterKey": name, "ParameterValue": value}]),
    "Terraform": lambda name, value: f'set {{\n  name  = "{name}"\n  value = "{value}"\n}}\n',
    "element": lambda name, value: f"<settings><{name}>{value}</{name}></settings>",
    "element with attributes": lambda name, value: f'<{name} xsi:type="string" >{value}</{name}>',
    "element of XML in XML": lambda name, value: escape(f"<{name}>{value}</{name}>"),
    "attributes": lambda name, value: f'<add key="{name}" value="{value}" />',
    "property": lambda name, value: f'<property name="{name}">{value}</property>',
    "value in a property": lambda name, value: f'<setting name="{name}" serializeAs="String"><value>{value}</value>',
    "property list": lambda name, value: f"<key>{name}</key>\n\t<string>{value}</string>",
    "YAML block": lambda name, value: f"{name}: |\n  {value}\n",
    "YAML block, folded": lambda name, value: f"{name}: >-\n    {value}\n",
    "ENV": lambda name, value: f"FROM scratch\nENV {name} {value}\n",
    "setenv": lambda name, value: f"setenv {name} {value}",
    "fish": lambda name, value: f"set -gx {name} '{value}'",
    "member": lambda name, value: f"os.environ[\"{name}\"] = '{value}'",
    "arguments": lambda name, value: f'os.environ.setdefault("{name}", "{value}")',
    "table": lambda name, value: f"| {name} | {value} |",
    "boxes": lambda name, value: f"│ {name} │ {value} │",
    "columns": lambda name, value: f"{name}      {value}\nPATH          /usr/bin",
    "tabs": lambda name, value: f"{name}\t{value}",
    "coloured JSON": lambda name, value: f'\x1b[34;1m"{name}"\x1b[0m\x1b[1;39m: \x1b[0;32m"{value}"\x1b[0m',
    "form": lambda name, value: f"grant=x&{name}%3D{quote(value, safe='')}%26a%3Db",
    "mail": lambda name, value: f"{name}=3D{value}",
    "entities": lambda name, value: f"&quot;{name}&quot;: &quot;{value}&quot;",
    "UTF-16 taken for text": lambda name, value: "\0".join(f"{name}={value}\r\n"),
}


def make_pairs(each: int, seed: int = 4) -> Iterator[tuple[str, Sample]]:
    """How name and value are joined, and the sample: its kind is what of."""
    chance = Chance(seed)
    for joint, join in JOINTS.items():
        for kind, (name, value) in _WITH_NAMES.items():
            for _ in range(each):
                secret = value(chance)
                yield joint, Sample(kind, join(name, secret), secret)


# --- parts of private keys -----------------------------------------------------------------------------------------


def _grepped(name: str, first: str, other: str, text: str) -> str:
    lines = text.rstrip("\n").split("\n")
    return "\n".join(f"{name}{at}{first if at == 1 else other}{line}" for at, line in enumerate(lines, 1))


def _without(text: str, first: int, last: int, note: str) -> str:
    lines = text.split("\n")
    return "\n".join((*lines[:first], *([note] if note else ()), *lines[last:]))


CUTS: Mapping[str, Callable[[str], str]] = {
    "grep -n": lambda pem: _grepped("", ":", ":", pem),
    "grep -n -A9": lambda pem: _grepped("", ":", "-", pem.partition("-----END")[0]),
    "grep -rn -A9": lambda pem: _grepped("config/tls/server.key:", ":", "-", pem.partition("-----END")[0]).replace(
        "server.key:", "server.key-"
    ),
    "grep -rn, whole": lambda pem: _grepped("deploy/id_rsa:", ":", ":", pem),
    "head": lambda pem: "\n".join(pem.split("\n")[:8]),
    "cut in a line": lambda pem: pem[:400],
    "cut, said so": lambda pem: pem[:400] + "\n... [truncated 612 characters] ...",
    "tail": lambda pem: "\n".join(pem.rstrip("\n").split("\n")[2:]),
    "lines left out": lambda pem: _without(pem, 4, 8, "[... 4 lines omitted ...]"),
    "lines folded": lambda pem: _without(pem, 4, 8, "\u2026 +4 lines (ctrl+o to expand)"),
    "entities": lambda pem: f'<key value="{pem.replace(chr(10), "&#10;")}"/>',
    "entities of Windows": lambda pem: pem.replace("\n", "&#xD;&#xA;"),
    "one line": lambda pem: pem.replace("\n", ""),
    "blanks for lines": lambda pem: pem.replace("\n", " "),
    "written line ends": lambda pem: pem.replace("\n", "\\n"),
    "coloured": lambda pem: "\n".join(f"\x1b[33m{line}\x1b[0m" for line in pem.split("\n")),
    "percent": lambda pem: quote(pem, safe=""),
}


def make_cuts(each: int, seed: int = 6) -> Iterator[tuple[str, Sample]]:
    """What was done to a key, and what is left: no line of it may be read."""
    chance = Chance(seed)
    for cut, make in CUTS.items():
        for label in ("RSA PRIVATE KEY", "OPENSSH PRIVATE KEY", "PRIVATE KEY"):
            for _ in range(each):
                text = make(make_pem(chance, label)[0])
                runs = re.findall(r"[A-Za-z0-9+/]{24,}", text.replace("%2B", "+").replace("%2F", "/"))
                yield cut, Sample("private-key", text, runs[len(runs) // 2][-24:])
