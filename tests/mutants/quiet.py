"""What runs in the background, and what it tells."""

from tests.mutants.mutant import Mutant

PRIVATE_ROOM = "agent/delivery/engine/private.py"
OUTBOX = "agent/delivery/engine/outbox.py"
REMOTE = "agent/system/remote.py"
SERVICE_SPEC = "agent/services/spec.py"
SYSTEMD = "agent/services/systemd.py"
LAUNCHD = "agent/services/launchd.py"
SERVICE_COMMAND = "agent/cli/service.py"
PURGING = "agent/cli/purging.py"
TEST_SERVICE_SPEC = "tests/services/test_spec.py::test_"
TEST_SYSTEMD = "tests/services/test_systemd.py::test_"
TEST_LAUNCHD = "tests/services/test_launchd.py::test_"
TEST_SERVICE_COMMAND = "tests/cli/test_service.py::test_"
TEST_PAUSING = "tests/daemon/test_pausing.py::test_"
TEST_VITALS = "tests/daemon/test_vitals.py::test_"
TEST_DOCTOR = "tests/cli/test_doctor.py::test_"
TEST_SCREENS = "tests/cli/test_screens.py::test_"
TELLING = "agent/delivery/engine/telling.py"
EVENTS = "agent/sessions/live/events.py"
SOCKET_SERVER = "agent/system/control_socket/server.py"
NOTICES = "agent/core/notices.py"
TEST_TELLING = "tests/daemon/test_telling.py::test_"
TEST_EVENTS = "tests/daemon/test_events.py::test_"
TEST_SOCKET = "tests/system/test_control_socket.py::test_"
TEST_NOTICES = "tests/core/test_notices.py::test_"

SERVICES = (
    Mutant(
        "keep a proxy's password in the service's file",
        SERVICE_SPEC,
        "            value = bare",
        "            value = str(value)",
        (f"{TEST_SERVICE_SPEC}no_secret_gets_into_a_file", f"{TEST_SERVICE_SPEC}a_proxys_password_stays_out"),
    ),
    Mutant(
        "give the service the token",
        SERVICE_SPEC,
        'PLAIN = ("NO_PROXY",',
        'PLAIN = ("TRANSCRIPTD_TOKEN", "NO_PROXY",',
        (f"{TEST_SERVICE_SPEC}no_secret_gets_into_a_file",),
    ),
    Mutant(
        "start whichever transcriptd is first on the path",
        SERVICE_SPEC,
        " and _leads_here(candidate, named, beside, executable):",
        ":",
        (f"{TEST_SERVICE_SPEC}another_install_on_the_path_is_not_this_one",),
    ),
    Mutant(
        "leave a percent sign in a unit to systemd",
        SYSTEMD,
        """.replace('"', '\\\\"').replace("%", "%%")""",
        """.replace('"', '\\\\"')""",
        (f"{TEST_SYSTEMD}a_unit_says_what_it_was_told",),
    ),
    Mutant(
        "count on systemd to know tomorrow's keys",
        SYSTEMD,
        "_BACKOFF if version >= _BACKOFF_FROM else",
        "_BACKOFF if version else",
        (f"{TEST_SYSTEMD}an_older_systemd_is_told_only_what_it_knows",),
    ),
    Mutant(
        "go on forever with wrong settings",
        SYSTEMD,
        "RestartPreventExitStatus=78",
        "RestartPreventExitStatus=79",
        (f"{TEST_SYSTEMD}what_the_field_asks_for_is_there",),
    ),
    Mutant(
        "load a launch agent before launchd has let go of it",
        LAUNCHD,
        '        self._wait(lambda: self._print() is None, GONE_WITHIN_S, "launchd does not let go of it")',
        "        pass",
        (
            f"{TEST_LAUNCHD}what_is_loaded_is_gone_before_it_is_loaded_again",
            f"{TEST_LAUNCHD}a_bootout_without_an_end_is_given_up",
        ),
    ),
    Mutant(
        "turn on what somebody turned off in Login Items",
        LAUNCHD,
        "        if self._is_disabled():",
        "        if False:",
        (f"{TEST_LAUNCHD}who_turned_it_off_in_login_items_is_obeyed",),
    ),
    Mutant(
        "install for root",
        SERVICE_COMMAND,
        "    if world.uid == 0:",
        "    if world.uid == -2:",
        (f"{TEST_SERVICE_COMMAND}root_is_refused",),
    ),
    Mutant(
        "change the service of another home",
        SERVICE_COMMAND,
        "    if found.installed and found.why.startswith(FOREIGN):",
        "    if not found.kind:",
        (f"{TEST_SERVICE_COMMAND}a_service_of_another_home_is_not_touched",),
    ),
    Mutant(
        "purge a transcript that is nowhere else",
        PURGING,
        " if not (only_copies and one == paths.kept)]",
        "]",
        (f"{TEST_SERVICE_COMMAND}a_transcript_that_is_nowhere_else_is_never_removed",),
    ),
)

BACKGROUND = (
    Mutant(
        "the watchdog is fed though a thread is stuck",
        "agent/daemon/status/vitals.py",
        "        if not stuck:\n",
        "        if True:\n",
        (f"{TEST_VITALS}the_watchdog_is_fed_only_when_nobody_is_stuck_and_the_log_says_who_once",),
    ),
    Mutant(
        "a thread that ended by itself is not missed",
        "agent/daemon/process/workers.py",
        "(self._beats.leave if self._is_stopping() else self._beats.lose)(name)",
        "self._beats.leave(name)",
        (f"{TEST_VITALS}a_thread_that_ends_by_itself_is_missed",),
    ),
    Mutant(
        "who works may take as long as who waits",
        "agent/delivery/base/heartbeats.py",
        "or now - at_s > within_s",
        "or False",
        (f"{TEST_VITALS}who_waits_may_wait_for_ever_and_who_works_may_not",),
    ),
    Mutant(
        "a pause holds nothing back",
        OUTBOX,
        "        if only_deletions:\n",
        "        if False:\n",
        (f"{TEST_PAUSING}nothing_is_sent_while_paused_and_all_of_it_afterwards",),
    ),
    Mutant(
        "what became private stays there for a pause",
        OUTBOX,
        "if one.deletes and one.deletions:",
        "if one.deletes and one.deletions and not only_deletions:",
        (f"{TEST_PAUSING}what_became_private_is_deleted_also_while_paused",),
    ),
    Mutant(
        "a crash ends a pause",
        "agent/delivery/state/pausing.py",
        "self._journal.note_settled(PAUSED, text)",
        "str(text)",
        (f"{TEST_PAUSING}a_pause_outlives_a_crash_at_once",),
    ),
    Mutant(
        "a clock that is set back makes a pause longer",
        "agent/delivery/state/pausing.py",
        "return max(0.0, min(end_s - now_s, span_s))",
        "return max(0.0, end_s - now_s)",
        (f"{TEST_PAUSING}a_remembered_pause_lasts_what_is_left_of_it",),
    ),
    Mutant(
        "a pause takes the sleep of the machine for nothing",
        "agent/delivery/state/pausing.py",
        "min(self.until_s - self._world.now_s(), self._end_s - self._world.monotonic_s())",
        "self._end_s - self._world.monotonic_s()",
        (f"{TEST_PAUSING}an_hour_is_an_hour_also_for_a_machine_that_slept",),
    ),
    Mutant(
        "shared and marked again before it was deleted, it is owed no more",
        PRIVATE_ROOM,
        "track.touched = track.touched or track.status == OWED",
        "track.touched = track.touched",
        ("tests/daemon/test_private.py::test_a_suspect_session_marked_shared_and_marked_again_is_still_deleted",),
    ),
    Mutant(
        "a crash is not told from a stop",
        "agent/system/state/lives.py",
        "(*before.unclean, now_s) if before.since_s else before.unclean",
        "before.unclean",
        ("tests/system/test_lives.py::test_only_an_end_that_nobody_wished_is_counted",),
    ),
    Mutant(
        "others read the log files",
        "agent/system/logs.py",
        "os.fchmod(descriptor, 0o600)",
        "os.fchmod(descriptor, 0o644)",
        ("tests/system/test_logs.py::test_log_files_are_their_owners",),
    ),
)

LOOKING = (
    Mutant(
        "names of projects in the bundle",
        "agent/cli/bundle.py",
        "_json(one if with_paths else pseudonyms.mask_all(one))",
        "_json(one)",
        (f"{TEST_DOCTOR}a_bundle_holds_none_of_what_it_must_not",),
    ),
    Mutant(
        "the bundle goes past the redactor",
        "agent/cli/bundle.py",
        "yield name, _without_secrets(redactor, hide(text, secrets))",
        "yield name, hide(text, secrets)",
        (f"{TEST_DOCTOR}a_bundle_holds_none_of_what_it_must_not",),
    ),
    Mutant(
        "a known token stays in the bundle",
        "agent/cli/bundle.py",
        "yield name, _without_secrets(redactor, hide(text, secrets))",
        "yield name, _without_secrets(redactor, text)",
        (f"{TEST_DOCTOR}a_bundle_holds_none_of_what_it_must_not",),
    ),
    Mutant(
        "the bundle takes another file's place",
        "agent/cli/bundle.py",
        "os.O_CREAT | os.O_EXCL |",
        "os.O_CREAT | os.O_TRUNC |",
        (f"{TEST_DOCTOR}a_bundle_is_its_owners_alone_and_takes_no_files_place",),
    ),
    Mutant(
        "a check that hangs holds up all",
        "agent/cli/doctor.py",
        "done.get(timeout=max(0.0, left_s))",
        "done.get(timeout=60.0)",
        (f"{TEST_DOCTOR}a_check_that_hangs_is_left_behind_and_the_others_are_told",),
    ),
    Mutant(
        "the words of a defect",
        "agent/cli/doctor.py",
        "a defect in this check ({type(exc).__name__})",
        "a defect in this check ({exc})",
        (f"{TEST_DOCTOR}a_defect_in_a_check_costs_its_line_and_tells_no_words",),
    ),
    Mutant(
        "the password of a proxy",
        REMOTE,
        'return f"{proxy.scheme}://{proxy.hostname}{port}" if',
        'return f"{proxy.scheme}://{proxy.netloc}" if',
        (f"{TEST_DOCTOR}a_proxy_is_named_without_its_password",),
    ),
    Mutant(
        "what fills a line loses its last cell",
        "agent/cli/watching.py",
        "return painted if sum(cells(span.text) for span in line) >= width else",
        "return painted if False else",
        (f"{TEST_SCREENS}a_picture_fits_its_terminal_and_clears_what_stood_there",),
    ),
    Mutant(
        "tell a reason twice",
        "agent/cli/screens.py",
        'if f"{number} not sent: {reason}" not in told:',
        "if reason:",
        (f"{TEST_SCREENS}nothing_is_told_twice",),
    ),
)

TOLD = (
    Mutant(
        "a session is synced as soon as one of its streams is",
        TELLING,
        "if session in self._open or not",
        "if not",
        (f"{TEST_TELLING}a_session_is_synced_when_all_its_streams_are_everywhere",),
    ),
    Mutant(
        "a private session is told with its project",
        TELLING,
        "if session in self._why_private or any(_stays_here(track) for _, track in tracks):",
        "if False:",
        (f"{TEST_TELLING}a_session_that_becomes_private_is_named_once_and_no_more_than_named",),
    ),
    Mutant(
        "a restart tells again what is private",
        TELLING,
        "if track.state is State.PRIVATE and key.session_id in self._why_private:",
        "if False:",
        (f"{TEST_TELLING}a_session_that_becomes_private_is_named_once_and_no_more_than_named",),
    ),
    Mutant(
        "a session that went on ends all the same",
        "agent/core/sessions/runs.py",
        "if entry.due_s > now.mono_s:",
        "if False:",
        (f"{TEST_TELLING}a_session_starts_arrives_grows_and_ends",),
    ),
    Mutant(
        "a number of another run is taken for one of this",
        EVENTS,
        "if epoch and epoch != self.epoch:",
        "if False:",
        (f"{TEST_EVENTS}who_comes_back_gets_what_was_missed_or_is_told_to_refresh",),
    ),
    Mutant(
        "who is overtaken misses happenings without a word",
        EVENTS,
        "if from_seq < self.oldest_seq:",
        "if False:",
        (f"{TEST_EVENTS}who_is_overtaken_is_told_to_refresh_once",),
    ),
    Mutant(
        "a subscriber that does not read stays",
        SOCKET_SERVER,
        "        if one.out:\n            self._note_dropped()\n            return True\n",
        "        if one.out:\n            return False\n",
        (f"{TEST_EVENTS}who_does_not_read_is_dropped_and_keeps_nobody_waiting",),
    ),
    Mutant(
        "open connections keep others out",
        SOCKET_SERVER,
        "len(self._clients) >= self._caps.clients and not self._make_room()",
        "len(self._clients) >= self._caps.clients",
        (f"{TEST_SOCKET}whoever_opens_connections_without_end_keeps_nobody_out",),
    ),
    Mutant(
        "over TCP anybody is served",
        SOCKET_SERVER,
        "return self._token is not None and hmac.compare_digest(line.strip(), self._token.encode())",
        "return True",
        (f"{TEST_SOCKET}over_tcp_nothing_is_answered_without_the_token",),
    ),
    Mutant(
        "a notice is told at each look",
        NOTICES,
        "and before.told_s is None",
        "",
        (f"{TEST_NOTICES}each_is_told_after_its_time_and_once_a_day",),
    ),
    Mutant(
        "a server that is asked counts as back",
        NOTICES,
        "before.since_s if is_unknown else None",
        "None",
        (f"{TEST_NOTICES}a_server_that_is_just_being_asked_is_as_it_was",),
    ),
)

MUTANTS = (*SERVICES, *BACKGROUND, *LOOKING, *TOLD)
