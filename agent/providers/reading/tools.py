"""What the tools of each agent do, by their names. Those of MCP servers and any that is not here are OTHER."""

from collections.abc import Mapping

from agent.core.sessions.normalised import ToolKind


def _kinds(names: Mapping[ToolKind, str]) -> Mapping[str, ToolKind]:
    return {tool: kind for kind, tools in names.items() for tool in tools.split()}


CLAUDE = _kinds(
    {
        ToolKind.SHELL: "Bash BashOutput KillBash KillShell Monitor PowerShell",
        ToolKind.READ: "Read LS ReadMcpResourceTool",
        ToolKind.WRITE: "Write",
        ToolKind.EDIT: "Edit MultiEdit",
        ToolKind.SEARCH: "Grep Glob LSP ToolSearch",
        ToolKind.SUBAGENT: "Task Agent AgentOutputTool TaskOutput TaskStop SendMessage",
        ToolKind.WEB: "WebFetch WebSearch web_search web_fetch",
        ToolKind.NOTEBOOK: "NotebookEdit NotebookRead",
    }
)

CODEX = _kinds(
    {
        ToolKind.SHELL: "shell local_shell local_shell_call shell_command exec_command write_stdin "
        "container.exec unified_exec user_shell",
        ToolKind.READ: "read_file list_dir view_image read_mcp_resource",
        ToolKind.WRITE: "write_file",
        ToolKind.EDIT: "apply_patch",
        ToolKind.SEARCH: "grep_files tool_search tool_search_call file_search",
        ToolKind.SUBAGENT: "spawn_agent send_input wait wait_agent close_agent resume_agent list_agents",
        ToolKind.WEB: "web_search web_search_call web_fetch",
    }
)

GEMINI = _kinds(
    {
        ToolKind.SHELL: "run_shell_command",
        ToolKind.READ: "read_file read_many_files list_directory",
        ToolKind.WRITE: "write_file",
        ToolKind.EDIT: "replace edit",
        ToolKind.SEARCH: "search_file_content grep_search glob codebase_investigator",
        ToolKind.SUBAGENT: "delegate_to_agent invoke_agent",
        ToolKind.WEB: "google_web_search web_fetch",
    }
)

COPILOT = _kinds(
    {
        ToolKind.SHELL: "bash powershell read_bash write_bash stop_bash list_bash read_powershell write_powershell "
        "stop_powershell list_powershell shell",
        ToolKind.READ: "view read_file show_file",
        ToolKind.WRITE: "create write",
        ToolKind.EDIT: "edit str_replace str_replace_editor apply_patch",
        ToolKind.SEARCH: "grep glob rg search_code_subagent lsp",
        ToolKind.SUBAGENT: "task read_agent list_agents write_agent",
        ToolKind.WEB: "web_fetch web_search",
    }
)


def tool_kind(tool: str, kinds: Mapping[str, ToolKind]) -> ToolKind:
    """From an agent's table."""
    return kinds.get(tool, ToolKind.OTHER)
