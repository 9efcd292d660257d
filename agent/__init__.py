"""transcriptd keeps a server's copy of coding-agent transcripts complete, private and current.

The way of a line: a watcher's hint or a scan says that a file changed; the scanner looks what is there; the
engine decides what should happen; a pusher does one thing; the remote speaks to the server. What came of it goes
back into the engine as an event.

| layer     | what it may know                                                                     |
|-----------|--------------------------------------------------------------------------------------|
| errors    | every error; imports nothing                                                         |
| core      | pure values and tables: no clock, disk, network, thread, log, environment or chance |
| providers | pure: where each coding agent keeps its transcripts and how their lines read         |
| system    | one module for each outside thing; they do not know each other                       |
| services  | how systemd, launchd and Windows start the agent and keep it running                 |
| receiver  | the reference server; knows core and errors only                                     |
| delivery  | from file to server: discovery, engine, push, privacy, retention                     |
| sessions  | what lies on this machine: index, search, show, follow, change, pull                 |
| daemon    | the process: its threads, its control socket, its status                             |
| cli       | commands, and how we speak                                                           |

Promises: nothing is lost; nothing is sent twice or out of order; private means private; secrets stay home; tokens
live in the keyring; it is quiet; it tells the truth; nothing is outside the proof; nothing outside the fence is read.
"""

__version__ = "0.1.0"
