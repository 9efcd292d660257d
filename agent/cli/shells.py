"""How shells are offered what could come next, where `click` does not do it, or not safely. Names come from settings,
files and servers: whatever stands in one, it becomes one word that is nothing to be run.

PowerShell is built to the documentation of Register-ArgumentCompleter and has not been run there. bash puts what it is
offered into the line as it stands; `click`'s script for it also splits and expands it. zsh and fish quote for
themselves; what `click` gives them loses a backslash in zsh, and what follows a comma in fish.

Source: about_Functions_Argument_Completion, about_Quoting_Rules; bash(1), Programmable Completion.
"""

import os
import re
from collections.abc import Callable, Mapping
from shlex import quote

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

_SCRIPT = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s, %(prog_name)s.exe -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $env:COMP_WORDS = ($commandAst.CommandElements |
        Where-Object { $_.Extent.EndOffset -lt $cursorPosition } |
        ForEach-Object { $_.Extent.Text }) -join "`n"
    $env:COMP_CWORD = $wordToComplete
    $env:%(complete_var)s = 'powershell_complete'
    try {
        & %(prog_name)s | ForEach-Object {
            $text, $shown, $help = $_ -split "`t", 3
            [System.Management.Automation.CompletionResult]::new($text, $shown, 'ParameterValue', $help)
        }
    } finally {
        Remove-Item Env:COMP_WORDS, Env:COMP_CWORD, Env:%(complete_var)s -ErrorAction SilentlyContinue
    }
}
"""

_BASH = """\
%(complete_func)s() {
    local line type
    COMPREPLY=()
    while IFS= read -r line; do
        type="${line%%%%,*}"
        if [[ $type == dir ]]; then
            compopt -o dirnames
        elif [[ $type == file ]]; then
            compopt -o default
        elif [[ $type == plain ]]; then
            COMPREPLY+=("${line#*,}")
        fi
    done < <(COMP_QUOTE="${COMP_WORDS[COMP_CWORD]:0:1}" COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_FISH = """\
function %(complete_func)s
    set -l response (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp | string collect) \\
        COMP_CWORD=(commandline -t | string collect) %(prog_name)s)
    for line in $response
        set -l found (string split -m 1 -- "," $line)
        switch $found[1]
            case dir
                __fish_complete_directories $found[2]
            case file
                __fish_complete_path $found[2]
            case plain
                echo -- $found[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""

_QUOTES = "'\u2018\u2019\u201a\u201b"
"""All that PowerShell takes for a single quote."""


@add_completion_class
class PowerShell(ShellComplete):
    name = "powershell"
    source_template = _SCRIPT

    def get_completion_args(self) -> tuple[list[str], str]:
        """Words before the cursor, a line each, the program first; an empty variable is one that is not there."""
        words = [_bare(word) for word in os.environ.get("COMP_WORDS", "").split("\n")]
        return words[1:], _bare(os.environ.get("COMP_CWORD", ""))

    def format_completion(self, item: CompletionItem) -> str:
        """What is typed, what is listed, what is told of it; none of them empty, as CompletionResult wants it."""
        value = item.value or " "
        return "\t".join((_quoted(value), value, item.help or value))


_BASH_QUOTES: Mapping[str, Callable[[str], str]] = {
    "'": lambda value: value.replace("'", "'\\''"),
    # A "!" calls up old commands even here, and no backslash before it goes away.
    '"': lambda value: re.sub(r'([$`"\\])', r"\\\1", value).replace("!", "\"'!'\""),
}


@add_completion_class
class Bash(BashComplete):
    source_template = _BASH

    def format_completion(self, item: CompletionItem) -> str:
        """Behind a quote that is open, bash replaces what follows it, and closes it."""
        value = item.value
        if item.type == "plain":
            value = _BASH_QUOTES.get(os.environ.get("COMP_QUOTE", ""), quote)(value)
        return f"{item.type},{value}"


@add_completion_class
class Zsh(ZshComplete):
    def format_completion(self, item: CompletionItem) -> str:
        """What has a help text goes to `_describe`, which takes a backslash for a sign of its own."""
        value = item.value.replace("\\", "\\\\") if item.help else item.value
        return super().format_completion(CompletionItem(value, item.type, item.help))


@add_completion_class
class Fish(FishComplete):
    source_template = _FISH


def _bare(word: str) -> str:
    return word[1:].removesuffix(word[0]) if word[:1] in {"'", '"'} else word


def _quoted(value: str) -> str:
    """As one word that PowerShell takes as it is: names come from settings, and are nothing to be run."""
    if re.fullmatch(r"[\w./:\\-]+", value, re.ASCII):
        return value
    return "'" + re.sub(f"([{_QUOTES}])", r"\1\1", value) + "'"
