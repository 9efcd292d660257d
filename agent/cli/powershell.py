"""Completion for PowerShell, which `click` does not know. Built to the documentation of Register-ArgumentCompleter; it
has not been run there.

Source: about_Functions_Argument_Completion, about_Quoting_Rules.
"""

import os
import re

from click.shell_completion import CompletionItem, ShellComplete, add_completion_class

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


def _bare(word: str) -> str:
    return word[1:].removesuffix(word[0]) if word[:1] in {"'", '"'} else word


def _quoted(value: str) -> str:
    """As one word that PowerShell takes as it is: names come from settings, and are nothing to be run."""
    if re.fullmatch(r"[\w./:\\-]+", value, re.ASCII):
        return value
    return "'" + re.sub(f"([{_QUOTES}])", r"\1\1", value) + "'"
