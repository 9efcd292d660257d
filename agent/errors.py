"""Every error that transcriptd raises on purpose.

AgentError            message, hint, code, retry; exit status 1
├ UsageError          settings or request are wrong; exit 2
│ ├ SettingsError     the configuration file is wrong; exit 78
│ ├ PrivacyListError  the private list is wrong; exit 78
│ └ SessionDeleted    the receiver takes nothing of a session that was deleted there
├ MachineError        this computer refused
│ ├ DiskError         a file or folder can't be read or written
│ │ ├ FileVanished    it is no longer there
│ │ ├ NotOurs         something else stands where a file of ours belongs
│ │ └ DiskFull        there is no room for it
│ ├ KeyringError      the keyring does not do what it was asked; exit 77
│ │ ├ KeyringLocked   it is locked, and only its owner can open it
│ │ └ KeyringMissing  there is none, or not yet
│ ├ TokenNotReadable  the place that the settings name gives no token; exit 77
│ ├ EngineStopped     a defect ended a part that nothing goes on without; exit 70
│ ├ RedactionTimeout  an entry can't be redacted in time
│ ├ ServiceError      the system's service manager does not do what it was asked
│ │ └ ServiceRefused  it may not be asked here, or by this user; exit 77
│ ├ Paused            somebody or something holds everything back; exit 75
│ ├ AlreadyRunning    another daemon holds this home
│ └ NotRunning        no daemon answers; exit 3
├ NotShared           it is private, or can't be shown not to be
├ RemoteError         could not learn what the server thinks; exit 69
│ ├ Unreachable       no answer of this protocol came back
│ └ Unauthorized      the token is missing or no good; exit 4
└ ProtocolError       somebody broke the contract
  ├ LocalProtocolError   we did: a defect
  └ RemoteProtocolError  the other end did

Messages: lower case, no full stop, the thing, the measured against the allowed. The hint is the next command to
type. Neither ever holds transcript text or a token.
"""


class AgentError(Exception):
    """A failure that has a name. `code` is stable and meant for scripts; `retry` says whether the same call may
    succeed later without anybody changing anything."""

    code = "error"
    retry = False
    exit_status = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(AgentError):
    code = "usage"
    exit_status = 2


class SettingsError(UsageError):
    code = "bad_configuration"
    exit_status = 78


class PrivacyListError(UsageError):
    code = "bad_private_list"
    exit_status = 78


class SessionDeleted(UsageError):
    code = "session_deleted"


class MachineError(AgentError):
    code = "machine"


class DiskError(MachineError):
    code = "disk"
    retry = True


class FileVanished(DiskError):
    code = "vanished"
    retry = False


class NotOurs(DiskError):
    code = "not_ours"
    retry = False


class DiskFull(DiskError):
    code = "disk_full"


class KeyringError(MachineError):
    code = "keyring"
    retry = True
    exit_status = 77


class KeyringLocked(KeyringError):
    code = "keyring_locked"


class KeyringMissing(KeyringError):
    code = "keyring_missing"


class TokenNotReadable(MachineError):
    code = "token_not_readable"
    exit_status = 77


class RedactionTimeout(MachineError):
    code = "redaction"
    retry = True


class ServiceError(MachineError):
    code = "service"


class ServiceRefused(ServiceError):
    code = "service_refused"
    exit_status = 77


class EngineStopped(MachineError):
    code = "engine_stopped"
    retry = True
    exit_status = 70


class AlreadyRunning(MachineError):
    code = "already_running"
    retry = True
    exit_status = 75


class Paused(MachineError):
    code = "paused"
    retry = True
    exit_status = 75


class NotRunning(MachineError):
    code = "not_running"
    retry = True
    exit_status = 3


class NotShared(AgentError):
    """`certain` False: nothing could tell. `under`: the rules that say so. `blind`: nothing can tell of any session.
    `stale`: the rules are others than those that it was looked at under, so that it has to be looked at anew. `used`:
    something was asked of the server before that came out. `grounds`: folders and remotes that made it private."""

    code = "not_shared"

    def __init__(
        self,
        message: str,
        *,
        certain: bool = True,
        under: str = "",
        blind: bool = False,
        stale: bool = False,
        used: bool = False,
        grounds: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset()),
    ) -> None:
        super().__init__(message, hint="transcriptd private list")
        self.certain = certain
        self.under = under
        self.blind = blind
        self.stale = stale
        self.used = used
        self.grounds = grounds


class RemoteError(AgentError):
    code = "remote"
    exit_status = 69


class Unreachable(RemoteError):
    code = "unreachable"
    retry = True


class Unauthorized(RemoteError):
    code = "unauthorized"
    exit_status = 4


class ProtocolError(AgentError):
    code = "protocol"


class LocalProtocolError(ProtocolError):
    code = "local_protocol"


class RemoteProtocolError(ProtocolError):
    code = "remote_protocol"
    exit_status = 69
