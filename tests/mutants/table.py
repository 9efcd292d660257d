"""The mutants: promises of delivery, each taken out of the code on purpose, and the tests that must notice.

`docs/architecture.md` tells how to add one. Keep `text` to a line or two, so that it goes on fitting.
"""

from typing import NamedTuple


class Mutant(NamedTuple):
    """`text` stands in `file` exactly once and is replaced by `becomes`. `caught_by`: pytest node ids, each of which
    has to fail; without parameters, one of a test's cases has to."""

    name: str
    file: str
    text: str
    becomes: str
    caught_by: tuple[str, ...]


BACKOFF = "agent/core/backoff.py"
IDENTITY = "agent/core/identity.py"
LIFECYCLE = "agent/core/lifecycle.py"
TRANSCRIPT = "agent/core/transcript.py"
WIRE_REPLIES = "agent/core/wire/replies.py"
WIRE_REQUESTS = "agent/core/wire/requests.py"
ASKING = "agent/daemon/asking.py"
ENGINE = "agent/daemon/engine.py"
ANSWERS_ROOM = "agent/daemon/answers.py"
ERRANDS = "agent/daemon/errands.py"
PERMITS = "agent/daemon/permits.py"
PRIVATE_ROOM = "agent/daemon/private.py"
ASKING = "agent/daemon/asking.py"
FILESENDER = "agent/daemon/filesender.py"
GATES = "agent/daemon/gates.py"
JOURNAL = "agent/daemon/journal.py"
KEEPER = "agent/daemon/keeper.py"
OUTBOX = "agent/daemon/outbox.py"
PUSHER = "agent/daemon/pusher.py"
READING = "agent/daemon/reading.py"
REALIGNER = "agent/daemon/realigner.py"
SCANNER = "agent/daemon/scanner.py"
SIGHTINGS = "agent/daemon/sightings.py"
SPOOLING = "agent/daemon/spooling.py"
TRACKS = "agent/daemon/tracks.py"
SYSTEM_FILES = "agent/system/files.py"
KEEPING = "agent/system/keeping.py"
REMOTE = "agent/system/remote.py"
SPOOL = "agent/system/spool.py"
TOKENS = "agent/system/tokens/__init__.py"
TOKENS_CHILD = "agent/system/tokens/child.py"
TOKENS_CLIENT = "agent/system/tokens/client.py"
TOKENS_PLACES = "agent/system/tokens/places.py"
TOKENS_SOURCES = "agent/system/tokens/sources.py"
STATE_OPENING = "agent/system/state_db/opening.py"
STATE_SCHEMA = "agent/system/state_db/schema.py"
PRIVACY_RULES = "agent/core/privacy.py"
PRIVACY_LIST = "agent/system/privacy_list.py"
GIT = "agent/system/git.py"
RULEBOOK = "agent/daemon/rulebook.py"
RECEIVER_BLOBS = "agent/receiver/blobs.py"
RECEIVER_DATABASE = "agent/receiver/database.py"
RECEIVER_FILES = "agent/receiver/files.py"
RECEIVER_REMAINS = "agent/receiver/remains.py"
RECEIVER_SCHEMA = "agent/receiver/schema.py"
RECEIVER_STORE = "agent/receiver/sqlite.py"

TEST_PRIVATE = "tests/daemon/test_private.py::test_"
TEST_FOUND = "tests/daemon/test_found.py::test_"
TEST_PRIVACY = "tests/core/test_privacy.py::test_"
TEST_PRIVACY_LIST = "tests/system/test_privacy_list.py::test_"
TEST_GIT = "tests/system/test_git.py::test_"
TEST_RULEBOOK = "tests/daemon/test_rulebook.py::test_"
TEST_BACKOFF = "tests/core/test_backoff.py::test_"
TEST_IDENTITY = "tests/core/test_identity.py::test_"
TEST_LIFECYCLE = "tests/core/test_lifecycle.py::test_"
TEST_TRANSCRIPT = "tests/core/test_transcript.py::test_"
TEST_WIRE = "tests/core/test_wire.py::test_"
TEST_DELIVERY = "tests/daemon/test_delivery.py::test_"
TEST_DESTINATIONS = "tests/daemon/test_destinations.py::test_"
TEST_ENGINE = "tests/daemon/test_engine.py::test_"
TEST_GENERATIONS = "tests/daemon/test_generations.py::test_"
TEST_HELD = "tests/daemon/test_held.py::test_"
TEST_TOKENS = "tests/daemon/test_tokens.py::test_"
TEST_TOKENS_BACKENDS = "tests/system/tokens/test_backends.py::test_"
TEST_TOKENS_PLACES = "tests/system/tokens/test_places.py::test_"
TEST_TOKENS_SOURCES = "tests/system/tokens/test_sources.py::test_"
TEST_SIDE_FILES = "tests/daemon/test_side_files.py::test_"
TEST_SPOOLING = "tests/daemon/test_spooling.py::test_"
TEST_TAILS = "tests/daemon/test_tails.py::test_"
TEST_UPLOAD = "tests/daemon/test_upload.py::test_"
TEST_SCANNER = "tests/scanner/test_scanner.py::test_"
TEST_SYSTEM_FILES = "tests/system/test_files.py::test_"
TEST_KEEPING = "tests/system/test_keeping.py::test_"
TEST_REMOTE = "tests/system/test_remote.py::test_"
TEST_SPOOL = "tests/system/test_spool.py::test_"
TEST_STATE_DB = "tests/system/test_state_db.py::test_"
TEST_DELETION = "tests/receiver/test_deletion.py::test_"
TEST_TRUST = "tests/system/test_remote_trust.py::test_"
TEST_BLOBS = "tests/receiver/test_blobs.py::test_"
TEST_FILES = "tests/receiver/test_files.py::test_"
TEST_STORE = "tests/contracts/test_sqlite_store.py::TestSqliteStore::test_"
TEST_SQLITE = "tests/contracts/test_sqlite_store.py::test_"
SERVICE_SPEC = "agent/services/spec.py"
SYSTEMD = "agent/services/systemd.py"
LAUNCHD = "agent/services/launchd.py"
SERVICE_COMMAND = "agent/cli/service.py"
PURGING = "agent/cli/purging.py"
TEST_SERVICE_SPEC = "tests/services/test_spec.py::test_"
TEST_SYSTEMD = "tests/services/test_systemd.py::test_"
TEST_LAUNCHD = "tests/services/test_launchd.py::test_"
TEST_SERVICE_COMMAND = "tests/cli/test_service.py::test_"
FETCHING = "agent/daemon/fetching.py"
LANDING = "agent/system/landing.py"
PLACES = "agent/daemon/places.py"
PLACING = "agent/core/placing.py"
PULLING = "agent/daemon/pulling.py"
REWRITING = "agent/core/rewriting.py"
CHANGING = "agent/daemon/changing.py"
REPLACING = "agent/system/replacing.py"
RECEIVER_API = "agent/receiver/api.py"
TEST_AUTH = "tests/receiver/test_auth.py::test_"
TEST_PULL = "tests/daemon/test_pull.py::test_"
TEST_CHANGING = "tests/daemon/test_changing.py::test_"

CURSOR = (
    Mutant(
        "advance the cursor before the answer",
        PUSHER,
        "return _Sent(task.cursor, reply, batch.entries, task.leave.facts)",
        "return _Sent(task.cursor._replace(offset=batch.end, marker=batch.marker), reply, batch.entries, "
        "task.leave.facts)",
        (f"{TEST_DELIVERY}an_outage_is_waited_for_and_never_given_up",),
    ),
    Mutant(
        "believe a success without comparing heads",
        PUSHER,
        "if head.entry_count != cursor.entry_count or head.chain_hash not in (None, cursor.chain.hex()):",
        "if False:",
        (f"{TEST_DELIVERY}a_success_that_does_not_match_what_was_sent_moves_no_cursor",),
    ),
    Mutant(
        "skip the marker check",
        PUSHER,
        "if size < task.cursor.offset or marker_of(before) != task.cursor.marker:",
        "if size < task.cursor.offset:",
        (f"{TEST_GENERATIONS}a_rewrite_that_leaves_every_length_as_it_is_is_noticed",),
    ),
    Mutant(
        "never look at what stands before the marker",
        PUSHER,
        "if task.check and not self._is_as_sent(task):",
        "if False:",
        (
            f"{TEST_TAILS}another_file_with_another_beginning_is_noticed_at_once",
            f"{TEST_TAILS}a_rewrite_to_the_same_size_and_time_is_found_by_the_slow_audit",
        ),
    ),
    Mutant(
        "another inode is the same file",
        ENGINE,
        "if track.inode not in (0, seen.inode) and track.cursor.entry_count:",
        "if False:",
        (f"{TEST_TAILS}another_file_with_another_beginning_is_noticed_at_once",),
    ),
    Mutant(
        "a marker of the last batch only",
        READING,
        "return marker_of(sent if len(sent) >= MARKER_WINDOW_BYTES else before + sent)",
        "return marker_of(sent)",
        (f"{TEST_DELIVERY}an_entry_that_is_not_accepted_becomes_a_tombstone_and_the_rest_goes_on",),
    ),
    Mutant(
        "a base server's entry counts before its answer",
        PUSHER,
        "                if not isinstance(sent.reply, Accepted):\n                    break",
        "                if not isinstance(sent.reply, Accepted):\n                    pass",
        (f"{TEST_DELIVERY}401_in_the_middle_of_a_run_keeps_what_was_acknowledged",),
    ),
)

LINES = (
    Mutant(
        "cut at EOF instead of the last newline",
        TRANSCRIPT,
        'return data.rfind(b"\\n") + 1',
        "return len(data)",
        (f"{TEST_ENGINE}a_line_without_an_end_waits_for_it",),
    ),
    Mutant(
        "a torn line is an entry",
        PUSHER,
        "if whole == 0 and not (task.tail and is_object(data)):",
        "if whole == 0 and not task.tail:",
        (f"{TEST_TAILS}what_does_not_read_as_an_entry_waits_for_its_newline",),
    ),
    Mutant(
        "a last line is sent at once",
        PUSHER,
        "if whole == 0 and not (task.tail and is_object(data)):",
        "if whole == 0 and not is_object(data):",
        (f"{TEST_TAILS}whoever_goes_on_writing_starts_the_quiet_anew",),
    ),
    Mutant(
        "count the tail twice",
        PUSHER,
        'if before and not before.endswith(b"\\n"):',
        "if False:",
        (f"{TEST_TAILS}a_newline_that_comes_later_is_no_new_entry",),
    ),
    Mutant(
        "what is glued to a sent last line is an entry",
        PUSHER,
        'if newline not in (b"", b"\\n"):',
        "if False:",
        (f"{TEST_TAILS}what_is_glued_to_a_sent_last_line_is_noticed",),
    ),
    Mutant(
        "a file that shrinks while it is read ends there",
        SYSTEM_FILES,
        'raise DiskError(f"{self._path} became shorter while it was read")',
        "return",
        (f"{TEST_SYSTEM_FILES}a_file_that_shrinks_while_it_is_read_is_an_error_and_not_a_shorter_answer",),
    ),
)

REALIGNING = (
    Mutant(
        "no chain comparison on realign",
        IDENTITY,
        "return mark.chain.hex() == head.chain_hash",
        "return True",
        (
            f"{TEST_IDENTITY}equal_count_and_uuid_with_another_chain_is_no_agreement",
            f"{TEST_GENERATIONS}foreign_content_under_our_id_is_neither_overwritten_nor_mixed",
        ),
    ),
    Mutant(
        "START instead of the found place",
        REALIGNER,
        "count, marker = place.entry_count, self._marker_at(task, place.offset)",
        "place = BEGINNING; count, marker = 0, b''",
        (f"{TEST_DELIVERY}a_lost_state_is_found_again_with_one_conflict_a_stream",),
    ),
    Mutant(
        "START instead of the place behind a base server's head",
        REALIGNER,
        "return self._stand_base(task, place_behind(mark), rank, mark.entry_id, How.REALIGNED)",
        "return self._stand_base(task, BEGINNING, rank, mark.entry_id, How.REALIGNED)",
        (f"{TEST_DELIVERY}an_entry_that_is_stored_already_counts_as_sent",),
    ),
    Mutant(
        "adopt blindly",
        REALIGNER,
        "if not stored and self._is_unchanged(task):",
        "if True:",
        (f"{TEST_DELIVERY}a_rewritten_file_follows_what_a_base_server_holds",),
    ),
    Mutant(
        "a repeated uuid is its first place",
        IDENTITY,
        "if len(self.places) > 1 and stored_count is not None:",
        "if False:",
        (f"{TEST_DELIVERY}a_repeated_uuid_is_told_apart_by_how_much_the_server_holds",),
    ),
    Mutant(
        "contradictory answers for ever",
        ANSWERS_ROOM,
        "if track.adoptions > ADOPTIONS:",
        "if False:",
        (f"{TEST_DELIVERY}contradictory_conflicts_end_in_a_cool_down",),
    ),
    Mutant(
        "a new generation shares one entry too many",
        REALIGNER,
        "        return places[low]",
        "        return places[min(low + 1, len(places) - 1)]",
        (f"{TEST_GENERATIONS}what_both_have_in_common_is_shared_and_not_sent_again",),
    ),
    Mutant(
        "a new generation shares nothing",
        REALIGNER,
        "                low = middle\n",
        "                high = middle\n",
        (f"{TEST_GENERATIONS}what_both_have_in_common_is_shared_and_not_sent_again",),
    ),
    Mutant(
        "believe whatever a new generation is said to hold",
        REALIGNER,
        "if (head.generation, head.entry_count, head.chain_hash) != (task.spare, *_proof(shared)):",
        "if False:",
        (f"{TEST_GENERATIONS}a_new_generation_that_is_not_the_asked_one_moves_no_cursor",),
    ),
    Mutant(
        "a new generation parts from the current one",
        REALIGNER,
        "heads += [row.head for row in rows if row.head.generation == task.cursor.generation]",
        "heads += []",
        (f"{TEST_GENERATIONS}a_new_generation_parts_from_the_history_that_it_was_sent_to",),
    ),
    Mutant(
        "a batch has another id each time",
        WIRE_REQUESTS,
        '"Batch-Id": str(uuid.uuid5(_BATCH_NAMESPACE, name)),',
        '"Batch-Id": str(uuid.uuid4()),',
        (f"{TEST_WIRE}a_batch_id_names_place_and_content",),
    ),
)

ANSWERS = (
    Mutant(
        "401 refuses the session",
        ANSWERS_ROOM,
        "            case NeedsLogin():\n                self._teller.apply(key, track, Event.HELD)",
        "            case NeedsLogin():\n                self._teller.apply(key, track, Event.REFUSED)",
        (f"{TEST_DELIVERY}401_in_the_middle_of_a_run_keeps_what_was_acknowledged",),
    ),
    Mutant(
        "410 is tried again",
        ANSWERS_ROOM,
        "self._teller.apply(key, track, Event.DELETED)",
        "self._teller.apply(key, track, Event.FAILED)",
        (f"{TEST_DELIVERY}410_is_never_sent_again",),
    ),
    Mutant(
        "forget a session's Retry-After",
        ENGINE,
        "delay = track.wished_s if track.wished_s is not None else delay",
        "pass",
        (f"{TEST_DELIVERY}retry_after_wins_over_our_own_patience",),
    ),
    Mutant(
        "forget a destination's Retry-After",
        GATES,
        "delay = own if one.wished_s is None else one.wished_s",
        "delay = own",
        (f"{TEST_DELIVERY}retry_after_wins_over_our_own_patience",),
    ),
    Mutant(
        "reset the backoff at its cap",
        BACKOFF,
        "min(attempts - TRIES - 1, 16)",
        "(attempts - TRIES - 1) % 6",
        (f"{TEST_BACKOFF}cool_downs_grow_to_the_cap_and_stay_there",),
    ),
    Mutant(
        "give up after some tries",
        ENGINE,
        "                track.attempts += 1\n",
        "                track.attempts += 1\n                if track.attempts > 20: return\n",
        (f"{TEST_DELIVERY}an_outage_is_waited_for_and_never_given_up",),
    ),
    Mutant(
        "everybody asks while a server is away",
        OUTBOX,
        "most = 1 if one.attempts else min(self._most, int(one.window.size))",
        "most = min(self._most, int(one.window.size))",
        (f"{TEST_DELIVERY}after_an_outage_one_stream_goes_ahead",),
    ),
    Mutant(
        "tombstone without bisecting",
        ANSWERS_ROOM,
        "        if at_fault > 1:",
        "        if False:",
        (f"{TEST_DELIVERY}an_entry_that_is_not_accepted_becomes_a_tombstone_and_the_rest_goes_on",),
    ),
    Mutant(
        "an append without an answer arrived nowhere",
        ANSWERS_ROOM,
        "if track.unheard and not moved",
        "if False and not moved",
        (f"{TEST_FOUND}a_file_that_is_cut_to_what_is_known_to_be_sent_is_compared_with_what_may_have_arrived",),
    ),
    Mutant(
        "a verdict counts whatever the rules have become",
        PRIVATE_ROOM,
        "return under == self._guard.under(self.look_at_rules())",
        "return True",
        (f"{TEST_PRIVATE}a_verdict_that_comes_when_the_rules_are_others_again_counts_for_nothing",),
    ),
    Mutant(
        "a restart forgets tombstones",
        ENGINE,
        "self._tombstones.setdefault(TrackKey(name, *stream), {})[ordinal] = status",
        "pass",
        (f"{TEST_DELIVERY}where_a_server_stands_before_what_was_sent_tombstones_are_known_too",),
    ),
    Mutant(
        "the chain leaves out that an entry travelled as a tombstone",
        TRANSCRIPT,
        "        chain = extend_chain(before.chain, [stone])",
        "        pass",
        (f"{TEST_DELIVERY}where_a_server_stands_before_what_was_sent_tombstones_are_known_too",),
    ),
    Mutant(
        "a tombstone stays that no server holds",
        ANSWERS_ROOM,
        "            del stones[ordinal]\n",
        "            continue\n",
        (f"{TEST_DELIVERY}a_tombstone_that_was_taken_back_is_not_looked_for_either",),
    ),
    Mutant(
        "a conflict of a bulk server is a success",
        WIRE_REPLIES,
        "return Accepted(head) if raw.status == 200 else Conflict(head)",
        "return Accepted(head)",
        (f"{TEST_WIRE}a_batch_is_stored_only_where_a_head_says_so",),
    ),
    Mutant(
        "a page of a captive portal is a stored entry",
        WIRE_REPLIES,
        'return raw.headers.get("content-type", "").lower().startswith(("text/html", "application/xhtml"))',
        "return False",
        (f"{TEST_WIRE}a_page_is_no_stored_entry",),
    ),
    Mutant(
        "a redirect takes the token along",
        REMOTE,
        "redirect=False,\n                retries=False,",
        "redirect=True,\n                retries=3,",
        (f"{TEST_REMOTE}redirects_are_answers_and_not_followed",),
    ),
)

TURNS = (
    Mutant(
        "two requests in flight for a stream",
        LIFECYCLE,
        "    State.PUSHING: {\n        Event.GREW: (State.PUSHING_STALE, ()),",
        "    State.PUSHING: {\n        Event.GREW: (State.DUE, (Action.QUEUE,)),",
        (f"{TEST_LIFECYCLE}outcomes_come_from_workers_and_only_they_end_a_push",),
    ),
    Mutant(
        "what grows while it is sent counts as sent",
        LIFECYCLE,
        "Event.SENT_ALL: (State.SETTLING, (Action.FORGIVE, Action.REST)),",
        "Event.SENT_ALL: (State.SYNCED, (Action.FORGIVE,)),",
        (f"{TEST_ENGINE}what_grows_while_it_is_sent_rests_a_moment_and_travels_together",),
    ),
    Mutant(
        "live behind backlog",
        TRACKS,
        "        if self._live:\n",
        "        if self._live and not self._backlog:\n",
        (f"{TEST_ENGINE}a_live_session_goes_before_the_backlog",),
    ),
    Mutant(
        "one destination gets all of the memory",
        OUTBOX,
        "if one.in_flight >= most or (self.in_flight >= _MOST_IN_FLIGHT and one.in_flight):",
        "if one.in_flight >= most:",
        (f"{TEST_DESTINATIONS}destinations_take_turns_and_none_gets_all_of_the_memory",),
    ),
    Mutant(
        "a restart forgets who waited",
        ENGINE,
        "        if state in UNSENT:\n",
        "        if state is State.DUE:\n",
        (f"{TEST_ENGINE}whoever_waited_for_another_try_is_tried_after_a_restart",),
    ),
    Mutant(
        "journal drops rows after a failed write",
        JOURNAL,
        "            self._wait_s = COOL_DOWN_FIRST_S\n",
        "            self._wait_s = COOL_DOWN_FIRST_S; self._changed.clear()\n",
        (f"{TEST_ENGINE}a_full_disk_stops_no_delivery_and_is_told",),
    ),
)

PRIVACY = (
    Mutant(
        "unlisted project sent",
        PUSHER,
        "if not matches_project(facts.project, task.projects):",
        "if False:",
        (f"{TEST_DESTINATIONS}a_destination_gets_its_projects_and_no_others",),
    ),
    Mutant(
        "unlisted project uploaded",
        FILESENDER,
        "if task.projects and not matches_project(facts.project, task.projects):",
        "if False:",
        (f"{TEST_UPLOAD}a_transcript_of_another_project_stays_here",),
    ),
    Mutant(
        "side files of a withheld session sent",
        ERRANDS,
        "is_outside = destination.projects and not matches_project(project, destination.projects)",
        "is_outside = False",
        (f"{TEST_DESTINATIONS}nothing_of_a_session_that_stays_here_is_told",),
    ),
    Mutant(
        "facts of a withheld session told",
        ENGINE,
        "if track.cursor.sent_count and not",
        "if not",
        (f"{TEST_DESTINATIONS}nothing_of_a_session_that_stays_here_is_told",),
    ),
    Mutant(
        "history sent although it is to stay",
        SIGHTINGS,
        "        if is_old:\n            return\n",
        "",
        (f"{TEST_DELIVERY}history_stays_here_when_the_settings_say_so_until_it_grows",),
    ),
)

FILES = (
    Mutant(
        "let go of a held file before it is sent",
        KEEPER,
        "for stream in [one for one in self.held if one not in wanted]:",
        "for stream in list(self.held):",
        (f"{TEST_HELD}it_is_held_for_as_long_as_it_is_not_sent",),
    ),
    Mutant(
        "hold nothing of a refused transcript",
        KEEPER,
        "return track.state in UNSENT or (track.state is State.REFUSED and track.status != 0)",
        "return track.state in UNSENT",
        (f"{TEST_HELD}a_refused_transcript_is_held_for_the_day_somebody_says_retry",),
    ),
    Mutant(
        "forget what an earlier life held",
        ENGINE,
        "            self.sightings.find_orphan(orphan)",
        "            pass",
        (f"{TEST_HELD}without_any_state_what_is_held_is_still_delivered",),
    ),
    Mutant(
        "a file that takes another's place hides what was unsent",
        SIGHTINGS,
        "elif followed == seen.path and self._replaces_unsent(seen):",
        "elif False:",
        (f"{TEST_HELD}a_file_that_takes_the_place_of_an_unsent_one_waits_until_that_is_sent",),
    ),
    Mutant(
        "mix two files with one id",
        SIGHTINGS,
        "elif followed is not None and followed != seen.path:",
        "elif False:",
        (f"{TEST_ENGINE}two_files_with_one_id_are_not_mixed",),
    ),
    Mutant(
        "what may not be seen is gone",
        SYSTEM_FILES,
        "    except (FileNotFoundError, NotADirectoryError):\n        return True",
        "    except OSError:\n        return True",
        (f"{TEST_SCANNER}a_second_look_at_a_file_that_may_not_be_seen_is_no_deletion",),
    ),
    Mutant(
        "a root that is away takes its files along",
        SCANNER,
        "one.holds(path) and not self._files.is_missing(one.path) for one in self._roots",
        "one.holds(path) for one in self._roots",
        (f"{TEST_SCANNER}a_root_that_goes_away_does_not_take_its_files_along",),
    ),
    Mutant(
        "side file before its entries",
        ERRANDS,
        "if is_outside or (main is not None and main.state not in (State.SYNCED, State.GONE)):",
        "if is_outside:",
        (f"{TEST_SIDE_FILES}side_files_wait_while_the_entries_of_their_session_do",),
    ),
    Mutant(
        "an upload that broke off begins anew",
        FILESENDER,
        "offset, left = state.offset, size - state.offset",
        "offset, left = 0, size",
        (f"{TEST_SIDE_FILES}an_upload_that_broke_off_goes_on_where_it_was",),
    ),
)

DISK = (
    Mutant(
        "state committed without FULL",
        STATE_OPENING,
        "pragma synchronous=full",
        "pragma synchronous=normal",
        (f"{TEST_STATE_DB}every_commit_is_on_disk_before_it_counts",),
    ),
    Mutant(
        "damaged database overwritten instead of renamed",
        STATE_OPENING,
        "path.with_name(path.name + ending).replace(path.with_name(name + ending))",
        "path.with_name(path.name + ending).unlink()",
        (f"{TEST_STATE_DB}a_damaged_state_is_set_aside_whole_and_begun_anew",),
    ),
    Mutant(
        "half a commit stays",
        STATE_SCHEMA,
        'db.execute("rollback")',
        'db.execute("commit")',
        (f"{TEST_STATE_DB}a_commit_is_all_or_nothing",),
    ),
    Mutant(
        "spool snapshot dropped before it is handled",
        SPOOLING,
        "            back = self._handle(self._spool.read(snapshot), still_missing, now_s)\n",
        "            hints = self._spool.read(snapshot); self._spool.drop(snapshot)\n"
        "            back = self._handle(hints, still_missing, now_s)\n",
        (f"{TEST_SPOOLING}a_defect_while_lines_are_handled_keeps_them",),
    ),
    Mutant(
        "snapshots of a crash are left alone",
        SPOOL,
        "        return [*left, taken]",
        "        return [taken]",
        (f"{TEST_SPOOL}a_snapshot_that_a_crash_left_comes_first",),
    ),
    Mutant(
        "a torn line of the spool takes the next one along",
        SPOOL,
        'data = b"\\n" + data',
        "pass",
        (f"{TEST_SPOOL}a_torn_end_takes_no_line_along",),
    ),
    Mutant(
        "hooks do not wait for the spool's lock",
        SPOOL,
        "while not _try_lock(self._file):",
        "while False:",
        (f"{TEST_SPOOL}nobody_waits_long_for_the_lock_and_a_dead_holder_holds_nothing",),
    ),
    Mutant(
        "drop the fsync of the folder of a kept copy",
        KEEPING,
        "                _sync_folder(target.parent)\n",
        "",
        (f"{TEST_KEEPING}a_copy_is_on_disk_before_it_has_its_name",),
    ),
    Mutant(
        "drop the fsync of a kept copy",
        KEEPING,
        "    os.fsync(writer.fileno())",
        "    pass",
        (f"{TEST_KEEPING}a_copy_is_on_disk_before_it_has_its_name",),
    ),
    Mutant(
        "what was rewritten takes the place of what is kept",
        KEEPING,
        "            if not _begins_with(reader, made.st_size, target, held.st_size):",
        "            if False:",
        (f"{TEST_KEEPING}what_was_rewritten_does_not_take_the_place_of_what_is_kept",),
    ),
)

RECEIVER = (
    Mutant(
        "generation guard ignored by the receiver",
        RECEIVER_STORE,
        "at = find_named(db, owner, stream, guard.generation)",
        "at = find_current(db, owner, stream)",
        (f"{TEST_STORE}a_guard_is_held_against_the_generation_that_it_names",),
    ),
    Mutant(
        "entry count guard ignored by the receiver",
        RECEIVER_STORE,
        "elif (guard.last_uuid, guard.entry_count) != (at.last_uuid, at.entry_count):",
        "elif guard.last_uuid != at.last_uuid:",
        (f"{TEST_STORE}a_repeated_uuid_is_no_position",),
    ),
    Mutant(
        "a repeated batch is a conflict",
        RECEIVER_STORE,
        "return Stored(at.head()) if at.last_batch == batch_id else Moved(at.head())",
        "return Moved(at.head())",
        (f"{TEST_STORE}repeating_the_last_batch_is_harmless",),
    ),
    Mutant(
        "a repeated generation is a conflict",
        RECEIVER_STORE,
        "return Stored(known.head()) if same and (parent is None) == (new.parent is None) else Moved(known.head())",
        "return Moved(known.head())",
        (f"{TEST_STORE}repeating_is_harmless",),
    ),
    Mutant(
        "receiver keeps a body that broke off",
        RECEIVER_DATABASE,
        '                    db.execute("ROLLBACK")',
        '                    db.execute("COMMIT")',
        (f"{TEST_STORE}a_body_that_breaks_off_leaves_nothing",),
    ),
    Mutant(
        "receiver answers before the commit",
        RECEIVER_DATABASE,
        '                yield db\n                db.execute("COMMIT")',
        '                yield db\n                threading.Timer(0.2, db.execute, ["COMMIT"]).start()',
        (f"{TEST_STORE}a_batch_is_kept_as_it_arrived",),
    ),
    Mutant(
        "receiver answers before the disk has it",
        RECEIVER_SCHEMA,
        '"synchronous = FULL",',
        '"synchronous = NORMAL",',
        (f"{TEST_SQLITE}a_commit_waits_for_the_disk",),
    ),
    Mutant(
        "a deleted session takes what comes",
        RECEIVER_REMAINS,
        'if db.execute("SELECT 1 FROM deletions WHERE owner = ? AND session_id = ?", (owner, session_id)).fetchone():',
        "if False:",
        (f"{TEST_STORE}nothing_of_a_deleted_session_is_told_or_taken",),
    ),
    Mutant(
        "what was deleted stays in the log",
        RECEIVER_REMAINS,
        'return not db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]',
        "return True",
        (f"{TEST_DELETION}a_deletion_that_died_half_way_is_finished_at_the_next_start",),
    ),
    Mutant(
        "stray copies of what was deleted stay in the database",
        RECEIVER_DATABASE,
        "if self._has_slack():",
        "if False:",
        (f"{TEST_DELETION}copies_that_the_database_made_by_itself_are_gone_too",),
    ),
    Mutant(
        "an upload under way is kept though its session was deleted",
        RECEIVER_BLOBS,
        '            for path in self._incoming.glob(f"*.{_short(owner)}.{_short(session_id)}.*"):',
        "            for path in ():",
        (f"{TEST_DELETION}an_upload_that_broke_off_is_dropped_and_that_of_others_kept",),
    ),
    Mutant(
        "what goes to this machine goes through the proxy",
        REMOTE,
        'if parts.scheme == "http" and is_loopback(parts.hostname or ""):',
        "if False:",
        (f"{TEST_TRUST}what_stays_on_this_machine_goes_through_no_proxy",),
    ),
    Mutant(
        "wrong file digest accepted",
        RECEIVER_FILES,
        "if digest is not None and digest != place.sha256:",
        "if False:",
        (f"{TEST_FILES}a_wrong_digest_keeps_nothing",),
    ),
    Mutant(
        "drop the fsync of a side file",
        RECEIVER_FILES,
        "        upload.sync()\n",
        "",
        (f"{TEST_BLOBS}the_bytes_are_synced_before_they_are_named",),
    ),
    Mutant(
        "a content goes while another path names it",
        RECEIVER_STORE,
        'if db.execute("SELECT 1 FROM files WHERE sha256 = ?", (sha256,)).fetchone() is None:',
        "if True:",
        (f"{TEST_FILES}a_content_is_kept_once_and_as_long_as_it_is_named",),
    ),
)

LOGIN = (
    Mutant(
        "the agent may be asked to unlock",
        TOKENS_CLIENT,
        'reply = self._ask("look", place, quiet=True)',
        'reply = self._ask("look", place, quiet=False)',
        (f"{TEST_TOKENS_BACKENDS}every_backend_is_loaded_by_its_name_quiet_for_looks_and_loud_for_its_owner",),
    ),
    Mutant(
        "a token is not read back",
        TOKENS_CHILD,
        'return {"is": "done" if keyring.get_password(service, account) == question["secret"] else "differs"}',
        'return {"is": "done"}',
        (f"{TEST_TOKENS_BACKENDS}what_is_stored_is_read_back",),
    ),
    Mutant(
        "what asks the keyring gets the token of the environment",
        TOKENS_CLIENT,
        "if name not in (VARIABLE, CREDENTIALS)}",
        "if name != CREDENTIALS}",
        (f"{TEST_TOKENS_BACKENDS}a_process_gets_neither_tokens_nor_credentials_but_the_way_to_the_bus",),
    ),
    Mutant(
        "the group may read the token",
        TOKENS_PLACES,
        "if mode & 0o077:",
        "if mode & 0o007:",
        (f"{TEST_TOKENS_PLACES}one_that_others_may_open_is_refused_with_its_mode_and_what_helps",),
    ),
    Mutant(
        "another server gets the token",
        TOKENS_SOURCES,
        'return Place(f"transcriptd {parts.scheme}://{parts.netloc.lower()}", account)',
        'return Place("transcriptd", account)',
        (f"{TEST_TOKENS_SOURCES}a_token_is_for_an_origin_a_name_and_a_home",),
    ),
    Mutant(
        "a token shows itself",
        TOKENS,
        'return "Secret(***)"',
        'return f"Secret({self.text})"',
        (f"{TEST_TOKENS_SOURCES}no_holder_of_a_token_shows_it",),
    ),
    Mutant(
        "a locked keyring asks for a login",
        ASKING,
        "return NeedsLogin(exc.message, exc.hint, later=True)",
        "return NeedsLogin(exc.message, exc.hint)",
        (f"{TEST_TOKENS}delivery_waits_for_a_keyring_and_goes_on_within_half_a_minute",),
    ),
    Mutant(
        "a login while the old token is tried is lost",
        GATES,
        "one.asked_again = one.condition is Condition.PROBING",
        "one.asked_again = False",
        (f"{TEST_TOKENS}a_login_that_comes_while_the_old_token_is_tried_is_not_lost",),
    ),
    Mutant(
        "nobody looks behind a refused token",
        REMOTE,
        "if reply.status != _UNAUTHORIZED:",
        "if reply.status:",
        (f"{TEST_REMOTE}a_refused_token_that_was_replaced_costs_one_request_more",),
    ),
)


LIST = (
    Mutant(
        "an unreadable list shares",
        PRIVACY_RULES,
        "            return Verdict(True, self.unreadable, certain=False)",
        "            return Verdict(False)",
        (
            f"{TEST_PRIVACY}nothing_is_shared_while_the_list_says_nothing",
            f"{TEST_PRIVACY_LIST}what_can_not_be_read_is_private",
        ),
    ),
    Mutant(
        "an unknown project is shared",
        PRIVACY_RULES,
        'if not subject.project and (self.projects or self.share == "listed"):',
        "if False:",
        (f"{TEST_PRIVACY}what_is_not_known_is_private_only_where_a_rule_asks_for_it",),
    ),
    Mutant(
        "an unknown remote is shared",
        PRIVACY_RULES,
        "if subject.remotes is None and self.remotes:",
        "if False:",
        (f"{TEST_PRIVACY}what_is_not_known_is_private_only_where_a_rule_asks_for_it",),
    ),
    Mutant(
        "only the first folder of a session counts",
        PRIVACY_RULES,
        "folders = [*subject.folders, *subject.project_spellings,",
        "folders = [*subject.project_spellings,",
        (f"{TEST_PRIVACY}any_folder_of_a_session_counts_and_every_spelling_of_a_rule",),
    ),
    Mutant(
        "a link out of a shared folder shares",
        PRIVACY_RULES,
        "for spelling in {subject.project, *subject.project_spellings}",
        "for spelling in {subject.project}",
        (f"{TEST_PRIVACY_LIST}a_link_out_of_a_shared_folder_shares_nothing",),
    ),
    Mutant(
        "a half-written list counts alone",
        PRIVACY_LIST,
        "self._before.append((now_s, old.rules))",
        "pass",
        (f"{TEST_PRIVACY_LIST}a_list_that_is_cut_for_a_moment_still_counts",),
    ),
    Mutant(
        "a fresh list is known by its time",
        PRIVACY_LIST,
        "return changed_at_ns < time.time_ns() - int(FRESH_S * 1e9)",
        "return True",
        (f"{TEST_PRIVACY_LIST}a_fresh_list_is_read_each_time",),
    ),
    Mutant(
        "a list replaced while it is read is believed",
        PRIVACY_LIST,
        "if _signature(before) == _signature(opened) == _signature(after) and len(data) == before.st_size:",
        "if True:",
        (f"{TEST_PRIVACY_LIST}a_replacement_in_the_middle_of_a_read_is_noticed",),
    ),
    Mutant(
        "a change by hand is written over",
        PRIVACY_LIST,
        "if self._read_text() != instead_of:",
        "if False:",
        (f"{TEST_PRIVACY_LIST}a_change_by_hand_during_an_edit_is_not_lost",),
    ),
    Mutant(
        "a list that is gone shares",
        RULEBOOK,
        "return close_missing(self._list, rules) if self.has_list else rules",
        "return rules",
        (f"{TEST_RULEBOOK}a_list_that_goes_keeps_everything_here_until_it_is_back",),
    ),
    Mutant(
        "a list that is gone is begun anew",
        PRIVACY_LIST,
        "if text is None and not create:",
        "if False:",
        ("tests/cli/test_private.py::test_a_list_that_is_gone_is_not_begun_anew",),
    ),
    Mutant(
        "included configuration of git is passed over",
        GIT,
        "if any(one.includes for one in configs):",
        "if False:",
        (f"{TEST_GIT}what_is_no_plain_configuration_can_not_be_told",),
    ),
    Mutant(
        "a checkout that is gone has no remotes",
        GIT,
        "                    return None\n",
        "                    continue\n",
        (f"{TEST_GIT}what_is_gone_or_may_not_be_read_can_not_be_told",),
    ),
)

KEPT_BACK = (
    Mutant(
        "nobody asks right before a request",
        ASKING,
        "    permit.check()\n",
        "",
        (f"{TEST_PRIVATE}the_last_look_at_the_list_is_right_before_the_request",),
    ),
    Mutant(
        "things leave while nobody can tell what is private",
        PERMITS,
        "        if rules.blind:\n",
        "        if False:\n",
        (f"{TEST_PRIVATE}a_run_of_requests_ends_where_the_list_can_t_be_read_any_more",),
    ),
    Mutant(
        "a copy of a private session is any other session",
        PERMITS,
        "        if owner is not None:\n            return Verdict(",
        "        if owner is None:\n            return SHARED\n        if False:\n            return Verdict(",
        (f"{TEST_PRIVATE}a_copy_of_a_private_session_is_private",),
    ),
    Mutant(
        "what left before it was private stays on the server",
        PRIVATE_ROOM,
        "        if track.status != DELETED_THERE and (_may_be_there(track) or track.status == OWED):\n",
        "        if False:\n",
        (f"{TEST_PRIVATE}what_was_sent_is_deleted_and_comes_back_when_it_is_shared_again",),
    ),
    Mutant(
        "what others deleted comes back with a change of mind",
        PRIVATE_ROOM,
        "gone = track.status == DELETED_THERE",
        "gone = False",
        (f"{TEST_PRIVATE}what_others_deleted_on_the_server_stays_deleted_until_somebody_says_restore",),
    ),
    Mutant(
        "what was private is sent again to a server that still refuses it",
        ERRANDS,
        "        if track.status == DELETED_HERE and destination.deletes:\n",
        "        if False:\n",
        (f"{TEST_PRIVATE}what_was_sent_is_deleted_and_comes_back_when_it_is_shared_again",),
    ),
    Mutant(
        "a new session is not held",
        ERRANDS,
        "        if self.hold_left_s(key.session_id) > 0:\n",
        "        if False:\n",
        (f"{TEST_PRIVATE}a_new_session_is_held_for_a_while",),
    ),
)

TEST_REDACTING = "tests/daemon/test_redacting.py::test_"

REDACTION = (
    Mutant(
        "a batch leaves as it is",
        PUSHER,
        "body, redacted = self._redactor.redact_lines(raw)",
        "body, redacted = raw, dict[str, int]()",
        (f"{TEST_REDACTING}what_was_replaced_is_told_but_not_what_it_was",),
    ),
    Mutant(
        "a long line leaves as it is",
        PUSHER,
        "return self._redactor.redact_pieces(self._read())",
        "return self._read()",
        (f"{TEST_REDACTING}an_entry_that_can_not_be_redacted_in_time_waits",),
    ),
    Mutant(
        "other rules look like a rewrite",
        PUSHER,
        "same = mark.file_chain == task.cursor.file_chain",
        "same = mark.chain == task.cursor.chain",
        (f"{TEST_REDACTING}other_rules_are_no_rewrite",),
    ),
    Mutant(
        "what was sent under other rules is looked for under these",
        "agent/daemon/realigner.py",
        "known=task.cursor,",
        "known=None,",
        (f"{TEST_REDACTING}a_head_that_the_server_tells_is_found_by_what_was_sent",),
    ),
    Mutant(
        "what goes wrong in a redactor lets the text through",
        "agent/core/redaction.py",
        'raise RedactionTimeout("an entry can\'t be redacted") from exc',
        "return []",
        ("tests/core/test_redaction.py::test_what_goes_wrong_gives_nothing",),
    ),
)

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

TEST_PAUSING = "tests/daemon/test_pausing.py::test_"
TEST_VITALS = "tests/daemon/test_vitals.py::test_"

BACKGROUND = (
    Mutant(
        "the watchdog is fed though a thread is stuck",
        "agent/daemon/vitals.py",
        "        if not stuck:\n",
        "        if True:\n",
        (f"{TEST_VITALS}the_watchdog_is_fed_only_when_nobody_is_stuck_and_the_log_says_who_once",),
    ),
    Mutant(
        "a thread that ended by itself is not missed",
        "agent/daemon/workers.py",
        "(self._beats.leave if self._is_stopping() else self._beats.lose)(name)",
        "self._beats.leave(name)",
        (f"{TEST_VITALS}a_thread_that_ends_by_itself_is_missed",),
    ),
    Mutant(
        "who works may take as long as who waits",
        "agent/daemon/heartbeats.py",
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
        "agent/daemon/pausing.py",
        "self._journal.note_settled(PAUSED, text)",
        "str(text)",
        (f"{TEST_PAUSING}a_pause_outlives_a_crash_at_once",),
    ),
    Mutant(
        "a clock that is set back makes a pause longer",
        "agent/daemon/pausing.py",
        "return max(0.0, min(end_s - now_s, span_s))",
        "return max(0.0, end_s - now_s)",
        (f"{TEST_PAUSING}a_remembered_pause_lasts_what_is_left_of_it",),
    ),
    Mutant(
        "a pause takes the sleep of the machine for nothing",
        "agent/daemon/pausing.py",
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
        "agent/system/lives.py",
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

TEST_DOCTOR = "tests/cli/test_doctor.py::test_"
TEST_SCREENS = "tests/cli/test_screens.py::test_"

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

TELLING = "agent/daemon/telling.py"
EVENTS = "agent/daemon/events.py"
SOCKET_SERVER = "agent/system/control_socket/server.py"
NOTICES = "agent/core/notices.py"
TEST_TELLING = "tests/daemon/test_telling.py::test_"
TEST_EVENTS = "tests/daemon/test_events.py::test_"
TEST_SOCKET = "tests/system/test_control_socket.py::test_"
TEST_NOTICES = "tests/core/test_notices.py::test_"

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
        "agent/core/runs.py",
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

TEST_AGENTS = "tests/daemon/test_agents.py::test_"

AGENTS = (
    Mutant(
        "any folder in a line is where a session began",
        PERMITS,
        "if PROVIDERS[self._provider].lines_name_project:",
        "if PROVIDERS:",
        (f"{TEST_AGENTS}a_session_whose_folder_nobody_tells_is_private_while_folders_matter",),
    ),
    Mutant(
        "what stands beside a transcript is not learned",
        ENGINE,
        "if observation.project:",
        "if not observation:",
        (f"{TEST_AGENTS}a_private_folder_is_private_for_every_agent",),
    ),
    Mutant(
        "a fork does not name its parent",
        "agent/providers/codex.py",
        "id|thread_id|forked_from_id|parent_thread_id",
        "id|thread_id|parent_thread_id",
        (f"{TEST_AGENTS}a_fork_of_a_private_session_is_private_too",),
    ),
    Mutant(
        "a packed file that is cut off is taken for a shorter one",
        "agent/core/packed.py",
        "        if at > size:\n",
        "        if at > size + (1 << 40):\n",
        (f"{TEST_AGENTS}a_damaged_packed_session_is_told_of_and_takes_nothing_back",),
    ),
    Mutant(
        "a packed file is as long as it lies there",
        "agent/daemon/scanner.py",
        "not is_packed(entry.path)",
        "entry.path",
        (f"{TEST_AGENTS}a_session_that_was_packed_before_anybody_saw_it_is_sent",),
    ),
    Mutant(
        "everything in a session's folder travels",
        "agent/providers/copilot.py",
        "below[-1] in _SIDE_FILES if len(below) == 1",
        "bool(below) if len(below) == 1",
        (f"{TEST_AGENTS}side_files_of_gemini_and_copilot_travel_with_their_session",),
    ),
)

RUNS = "agent/core/runs.py"
LIVE_RUNS = "agent/daemon/runs.py"
TAILING = "agent/daemon/tailing.py"
LINEAGE = "agent/core/lineage.py"
TEST_RUNS = "tests/core/test_runs.py::test_"
TEST_LIVE_RUNS = "tests/daemon/test_runs.py::test_"
TEST_TAILING = "tests/daemon/test_tailing.py::test_"
TEST_LINEAGE = "tests/core/test_lineage.py::test_"

FOLLOWED = (
    Mutant(
        "a run that ended is told complete again after a crash",
        RUNS,
        "if run.ended_at_s is not None:\n                self._note_ended",
        "if False:\n                self._note_ended",
        (f"{TEST_RUNS}what_ended_before_a_restart_does_not_end_again",),
    ),
    Mutant(
        "an open run of an earlier life is forgotten",
        RUNS,
        "            elif run.session_id not in self._entries:",
        "            elif False:",
        (f"{TEST_RUNS}an_open_run_of_an_earlier_life_goes_on_or_ends",),
    ),
    Mutant(
        "the word of a hook ends nothing",
        RUNS,
        "Signal.END: (RunState.ENDING, Action.WAIT),",
        "Signal.END: (RunState.RUNNING, Action.NOTHING),",
        (f"{TEST_RUNS}an_end_that_is_said_waits_for_the_last_lines",),
    ),
    Mutant(
        "a hook from before the last lines ends what was gone on with",
        RUNS,
        "if entry.run is not None and entry.wrote_at_s > at_s + SETTLE_S:",
        "if False:",
        (f"{TEST_RUNS}a_hook_from_long_ago_ends_nothing",),
    ),
    Mutant(
        "a run gets another id with its session",
        RUNS,
        "entry.run = msgspec.structs.replace(entry.run, session_id=after)",
        "entry.run = msgspec.structs.replace(entry.run, session_id=after, id=self._new_id())",
        (f"{TEST_RUNS}a_run_keeps_its_id_when_its_session_gets_another",),
    ),
    Mutant(
        "each line of a live session stays in the heap",
        RUNS,
        "        if due_s < entry.stands_s:",
        "        if due_s < entry.stands_s or True:",
        (f"{TEST_RUNS}a_session_that_writes_all_day_takes_no_more_memory",),
    ),
    Mutant(
        "the end of a run is told before it is on disk",
        LIVE_RUNS,
        "            self._remember(runs)\n",
        "",
        (f"{TEST_LIVE_RUNS}an_end_is_on_disk_before_anybody_hears_of_it",),
    ),
    Mutant(
        "the end of a run is told before its last lines",
        LIVE_RUNS,
        "                if change.kind is ChangeKind.COMPLETE:\n                    self._read_all(tail)\n",
        "                if change.kind is ChangeKind.COMPLETE:\n",
        (f"{TEST_LIVE_RUNS}a_subscriber_hears_the_lines_and_one_end",),
    ),
    Mutant(
        "what is kept for replay has no bound",
        TAILING,
        "while len(self._kept) > self._most_events or",
        "while",
        (f"{TEST_TAILING}what_is_kept_has_a_bound_in_number_and_in_size",),
    ),
    Mutant(
        "a rewritten transcript is read on as if nothing had happened",
        TAILING,
        "        return _marker(file, stream.offset) != stream.marker",
        "        return False",
        (f"{TEST_TAILING}a_rewritten_file_is_said_to_be_one_and_followed_from_its_end",),
    ),
    Mutant(
        "who comes back hears the last event again",
        LIVE_RUNS,
        "(since.after_seq + 1, False)",
        "(since.after_seq, False)",
        (f"{TEST_LIVE_RUNS}who_comes_back_gets_what_was_missed_without_gap_or_repeat",),
    ),
    Mutant(
        "a copy descends from the first session that holds anything of it",
        LINEAGE,
        "for hashed in reversed(one.sample.hashes):",
        "for hashed in one.sample.hashes:",
        (f"{TEST_LINEAGE}a_chain_of_copies_descends_link_by_link",),
    ),
    Mutant(
        "sessions that name each other in a circle are lost",
        LINEAGE,
        "            del parents[min(circle, key=rank.__getitem__)]",
        "            pass",
        (f"{TEST_LINEAGE}a_circle_of_names_has_its_earliest_as_root",),
    ),
)

READING_LINES = "agent/providers/reading/lines.py"
READING_CODEX = "agent/providers/reading/codex.py"
RENDERING = "agent/cli/sessions/rendering.py"
TEST_READERS = "tests/providers/reading/test_readers.py::test_"
TEST_RENDERING = "tests/cli/test_rendering.py::test_"

READ = (
    Mutant(
        "usage is counted on each line of a message",
        READING_LINES,
        "        if known is None:\n            self._known.put(key, usage)",
        "        if True:\n            self._known.put(key, usage)",
        (f"{TEST_READERS}usage_that_stands_on_each_line_of_a_message_is_counted_once",),
    ),
    Mutant(
        "an unknown line says nothing",
        READING_LINES,
        "            told.warn(UNKNOWN, source_of(decoded))",
        "            pass",
        (f"{TEST_READERS}what_nobody_knows_becomes_a_warning_with_the_line",),
    ),
    Mutant(
        "a line that is nested too deep stops its reader",
        READING_LINES,
        "except RecursionError:",
        "except ZeroDivisionError:",
        (f"{TEST_READERS}what_nobody_knows_becomes_a_warning_with_the_line",),
    ),
    Mutant(
        "what Codex says twice is told twice",
        READING_CODEX,
        "if self.pairs.is_second(way, _NOTE if way == _ITEM else _ITEM, kind, text):",
        "if False:",
        (f"{TEST_READERS}the_same_words_typed_twice_are_two_messages",),
    ),
    Mutant(
        "escape sequences reach the terminal",
        RENDERING,
        "ch if ch in _KEPT or ch.isprintable() else _visible(ch)",
        "ch",
        (
            f"{TEST_RENDERING}what_terminals_obey_is_made_visible",
            f"{TEST_RENDERING}a_call_is_one_line_with_its_kind",
        ),
    ),
)

WAY_BACK = (
    Mutant(
        "place over a file that is there",
        LANDING,
        """        os.link(source, target)
    except FileExistsError:""",
        """        os.replace(source, target)
        return
    except FileExistsError:""",
        (f"{TEST_PULL}what_appears_meanwhile_is_not_written_over",),
    ),
    Mutant(
        "take a file that differs for the same",
        PULLING,
        "if verdict.outcome is not Outcome.EQUAL:",
        "if False:",
        (f"{TEST_PULL}a_file_that_differs_is_not_written_over",),
    ),
    Mutant(
        "place what came without a proof",
        FETCHING,
        "if (meter.entries, meter.chain.hex()) != (head.entry_count, head.chain_hash) or meter.whole != sink.size:",
        "if meter.entries != head.entry_count:",
        (f"{TEST_PULL}what_is_not_what_the_server_says_is_not_placed[content]",),
    ),
    Mutant(
        "place a side file without looking at its digest",
        FETCHING,
        "if digest.digest() != wanted or sink.size != file.size:",
        "if sink.size != file.size:",
        (f"{TEST_PULL}a_side_file_is_what_its_digest_says[content]",),
    ),
    Mutant(
        "take any name that a server gives for a place",
        PLACING,
        """return next((why for part in parts if (why := _unfit(part))), "")""",
        """return \"\" """,
        (f"{TEST_PULL}no_name_leads_out_of_the_session[stream-drive]",),
    ),
    Mutant(
        "follow links on the way",
        LANDING,
        "if not stat.S_ISDIR(seen.st_mode) or _leads_elsewhere(seen):",
        "if False:",
        (f"{TEST_PULL}links_in_the_way_are_not_followed[session]",),
    ),
    Mutant(
        "place two names that are one elsewhere",
        PLACES,
        "if (twin := find_twins(places)) is not None:",
        "if (twin := None) is not None:",
        (f"{TEST_PULL}names_that_are_one_elsewhere_are_refused",),
    ),
    Mutant(
        "tell nobody that the server has it",
        PULLING,
        "self._here.tell(rows, facts.recalled())",
        "_ = rows",
        (f"{TEST_PULL}the_cursor_is_that_of_a_push_that_is_done",),
    ),
    Mutant(
        "leave half a session when a file fails",
        PULLING,
        "            landing.take_back()\n",
        "",
        (f"{TEST_PULL}a_failure_at_any_file_leaves_none",),
    ),
    Mutant(
        "let any token read what belongs to others",
        RECEIVER_API,
        "if not caller.may_read(asked):",
        "if False:",
        (f"{TEST_AUTH}what_belongs_to_others_is_not_there_for_a_token_without_the_right",),
    ),
    Mutant(
        "let a token write what belongs to others",
        RECEIVER_API,
        """        raise HTTPException(403, "what belongs to others may only be read")""",
        "        return asked",
        (f"{TEST_AUTH}nobody_writes_what_belongs_to_others",),
    ),
    Mutant(
        "change a session that is at work",
        CHANGING,
        "if age_s < QUIET_S:",
        "if False:",
        (f"{TEST_CHANGING}a_conversation_that_is_at_work_is_not_touched",),
    ),
    Mutant(
        "lose a line that comes while a transcript is replaced",
        REPLACING,
        "if _state(_look(path)) != _state(before):",
        "if False:",
        (f"{TEST_CHANGING}a_line_that_comes_while_the_new_one_is_written_stays",),
    ),
    Mutant(
        "part a call from its result",
        REWRITING,
        "and not any(call < at <= end for call, end in parted)",
        "",
        (f"{TEST_CHANGING}a_result_that_comes_late_stays_with_its_call",),
    ),
    Mutant(
        "leave a parent that is cut off",
        REWRITING,
        "if not isinstance(parent, str) or parent in known:",
        "if True:",
        (f"{TEST_CHANGING}what_a_cut_leaves_has_a_beginning",),
    ),
)

INDEXING = "agent/daemon/indexing.py"
INDEX_DB = "agent/system/index_db.py"
SESSION_ROWS = "agent/daemon/session_rows.py"
ANNOTATIONS = "agent/system/annotations.py"
SEARCH_TERMS = "agent/core/search_terms.py"
SEARCHING = "agent/daemon/searching.py"
INDEX_KEEPER = "agent/daemon/index_keeper.py"
TEST_INDEXING = "tests/daemon/test_indexing.py::test_"
TEST_INDEX_DB = "tests/system/test_index_db.py::test_"
TEST_SEARCHING = "tests/daemon/test_searching.py::test_"
TEST_KEEPER = "tests/daemon/test_index_keeper.py::test_"
TEST_SESSIONS = "tests/cli/test_sessions.py::test_"

INDEXED = (
    Mutant(
        "what grew is read from its beginning",
        INDEXING,
        "return place if is_same and marker_at",
        "return place if False and marker_at",
        (f"{TEST_INDEXING}what_grew_is_read_on_and_not_again",),
    ),
    Mutant(
        "a rewritten transcript is read on",
        INDEXING,
        "marker_at(file, place.offset) == known.marker",
        "True",
        (f"{TEST_INDEXING}what_was_rewritten_is_read_from_its_beginning",),
    ),
    Mutant(
        "another file with the id takes the place of the first",
        INDEXING,
        "            return False  # another file with the same id",
        "            pass  # another file with the same id",
        (f"{TEST_INDEXING}a_second_file_with_the_same_id_does_not_take_the_first_ones_place",),
    ),
    Mutant(
        "others may read the index",
        INDEX_DB,
        "        path.chmod(0o600)",
        "        pass",
        (f"{TEST_INDEX_DB}only_its_owner_reads_it_and_readers_do_not_wait_for_the_writer",),
    ),
    Mutant(
        "an index of another version is used",
        INDEX_DB,
        "        elif found != USER_VERSION or not _is_whole(db):",
        "        elif not _is_whole(db):",
        (f"{TEST_INDEX_DB}what_can_not_be_used_is_made_anew",),
    ),
    Mutant(
        "what was never sent is forgotten",
        SESSION_ROWS,
        "sent if subpaths and subpaths <= whole else unsent",
        "sent if subpaths else unsent",
        (f"{TEST_SESSIONS}only_what_a_server_has_is_forgotten",),
    ),
    Mutant(
        "private sessions are not marked",
        SESSION_ROWS,
        'return any(one.state == "private" for one in lines) or look.is_private(session, project)',
        "return False",
        (f"{TEST_SESSIONS}private_goes_through_the_private_list",),
    ),
    Mutant(
        "a damaged file of annotations is believed",
        ANNOTATIONS,
        "return kept.sessions if kept.sum == _sum(kept.sessions) else None",
        "return kept.sessions",
        ("tests/system/test_annotations.py::test_a_damaged_file_costs_the_last_change_and_no_more",),
    ),
    Mutant(
        "a word behind an escape is not found",
        SEARCH_TERMS,
        "before.isalnum() and not is_escape",
        "before.isalnum()",
        (f"{TEST_SEARCHING}a_word_behind_an_escape_is_found",),
    ),
    Mutant(
        "a search goes on when it has enough",
        SEARCHING,
        "            if limit and len(hits) >= limit:",
        "            if False:",
        (f"{TEST_SEARCHING}enough_is_enough_and_that_there_may_be_more_is_told",),
    ),
    Mutant(
        "the daemon remembers all that is to be indexed",
        INDEX_KEEPER,
        "if len(self._files) >= MOST_PENDING:",
        "if False:",
        (f"{TEST_KEEPER}many_changes_become_one_look_at_everything",),
    ),
    Mutant(
        "a process of the index that fails is started without end",
        INDEX_KEEPER,
        "            self._not_before_s = self._monotonic_s() + self._backoff_s",
        "            pass",
        (f"{TEST_KEEPER}a_process_that_dies_is_told_of_once_and_tried_again_later",),
    ),
)

INDEXING = "agent/daemon/indexing.py"
INDEX_DB = "agent/system/index_db.py"
SESSION_ROWS = "agent/daemon/session_rows.py"
ANNOTATIONS = "agent/system/annotations.py"
SEARCH_TERMS = "agent/core/search_terms.py"
SEARCHING = "agent/daemon/searching.py"
INDEX_KEEPER = "agent/daemon/index_keeper.py"
TEST_INDEXING = "tests/daemon/test_indexing.py::test_"
TEST_INDEX_DB = "tests/system/test_index_db.py::test_"
TEST_SEARCHING = "tests/daemon/test_searching.py::test_"
TEST_KEEPER = "tests/daemon/test_index_keeper.py::test_"
TEST_SESSIONS = "tests/cli/test_sessions.py::test_"

INDEXED = (
    Mutant(
        "what grew is read from its beginning",
        INDEXING,
        "return place if is_same and marker_at",
        "return place if False and marker_at",
        (f"{TEST_INDEXING}what_grew_is_read_on_and_not_again",),
    ),
    Mutant(
        "a rewritten transcript is read on",
        INDEXING,
        "marker_at(file, place.offset) == known.marker",
        "True",
        (f"{TEST_INDEXING}what_was_rewritten_is_read_from_its_beginning",),
    ),
    Mutant(
        "another file with the id takes the place of the first",
        INDEXING,
        "            return False  # another file with the same id",
        "            pass  # another file with the same id",
        (f"{TEST_INDEXING}a_second_file_with_the_same_id_does_not_take_the_first_ones_place",),
    ),
    Mutant(
        "others may read the index",
        INDEX_DB,
        "        path.chmod(0o600)",
        "        pass",
        (f"{TEST_INDEX_DB}only_its_owner_reads_it_and_readers_do_not_wait_for_the_writer",),
    ),
    Mutant(
        "an index of another version is used",
        INDEX_DB,
        "        elif found != USER_VERSION or not _is_whole(db):",
        "        elif not _is_whole(db):",
        (f"{TEST_INDEX_DB}what_can_not_be_used_is_made_anew",),
    ),
    Mutant(
        "what was never sent is forgotten",
        SESSION_ROWS,
        "sent if subpaths and subpaths <= whole else unsent",
        "sent if subpaths else unsent",
        (f"{TEST_SESSIONS}only_what_a_server_has_is_forgotten",),
    ),
    Mutant(
        "private sessions are not marked",
        SESSION_ROWS,
        'return any(one.state == "private" for one in lines) or look.is_private(session, project)',
        "return False",
        (f"{TEST_SESSIONS}private_goes_through_the_private_list",),
    ),
    Mutant(
        "a damaged file of annotations is believed",
        ANNOTATIONS,
        "return kept.sessions if kept.sum == _sum(kept.sessions) else None",
        "return kept.sessions",
        ("tests/system/test_annotations.py::test_a_damaged_file_costs_the_last_change_and_no_more",),
    ),
    Mutant(
        "a word behind an escape is not found",
        SEARCH_TERMS,
        "before.isalnum() and not is_escape",
        "before.isalnum()",
        (f"{TEST_SEARCHING}a_word_behind_an_escape_is_found",),
    ),
    Mutant(
        "a search goes on when it has enough",
        SEARCHING,
        "            if limit and len(hits) >= limit:",
        "            if False:",
        (f"{TEST_SEARCHING}enough_is_enough_and_that_there_may_be_more_is_told",),
    ),
    Mutant(
        "the daemon remembers all that is to be indexed",
        INDEX_KEEPER,
        "if len(self._files) >= MOST_PENDING:",
        "if False:",
        (f"{TEST_KEEPER}many_changes_become_one_look_at_everything",),
    ),
    Mutant(
        "a process of the index that fails is started without end",
        INDEX_KEEPER,
        "            self._not_before_s = self._monotonic_s() + self._backoff_s",
        "            pass",
        (f"{TEST_KEEPER}a_process_that_dies_is_told_of_once_and_tried_again_later",),
    ),
)

MUTANTS = (
    *AGENTS,
    *CURSOR,
    *LINES,
    *REALIGNING,
    *ANSWERS,
    *TURNS,
    *PRIVACY,
    *LIST,
    *KEPT_BACK,
    *FILES,
    *DISK,
    *RECEIVER,
    *LOGIN,
    *REDACTION,
    *SERVICES,
    *BACKGROUND,
    *LOOKING,
    *TOLD,
    *FOLLOWED,
    *READ,
    *WAY_BACK,
    *INDEXED,
)
