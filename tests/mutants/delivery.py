"""What is sent, and what is believed of it."""

from tests.mutants.mutant import Mutant

BACKOFF = "agent/core/delivery/backoff.py"
IDENTITY = "agent/core/transcripts/identity.py"
LIFECYCLE = "agent/core/delivery/lifecycle.py"
TRANSCRIPT = "agent/core/transcripts/transcript.py"
WIRE_REPLIES = "agent/core/wire/replies.py"
WIRE_REQUESTS = "agent/core/wire/requests.py"
ENGINE = "agent/delivery/engine/engine.py"
ANSWERS_ROOM = "agent/delivery/engine/answers.py"
PRIVATE_ROOM = "agent/delivery/engine/private.py"
GATES = "agent/delivery/state/gates.py"
JOURNAL = "agent/delivery/state/journal.py"
OUTBOX = "agent/delivery/engine/outbox.py"
PUSHER = "agent/delivery/push/pusher.py"
READING = "agent/delivery/base/reading.py"
REALIGNER = "agent/delivery/push/realigner.py"
TRACKS = "agent/delivery/state/tracks.py"
SYSTEM_FILES = "agent/system/files/reading.py"
REMOTE = "agent/system/remote.py"
TEST_PRIVATE = "tests/daemon/test_private.py::test_"
TEST_FOUND = "tests/daemon/test_found.py::test_"
TEST_BACKOFF = "tests/core/test_backoff.py::test_"
TEST_IDENTITY = "tests/core/test_identity.py::test_"
TEST_LIFECYCLE = "tests/core/test_lifecycle.py::test_"
TEST_WIRE = "tests/core/test_wire.py::test_"
TEST_DELIVERY = "tests/daemon/test_delivery.py::test_"
TEST_DESTINATIONS = "tests/daemon/test_destinations.py::test_"
TEST_ENGINE = "tests/daemon/test_engine.py::test_"
TEST_GENERATIONS = "tests/daemon/test_generations.py::test_"
TEST_TAILS = "tests/daemon/test_tails.py::test_"
TEST_SYSTEM_FILES = "tests/system/test_files.py::test_"
TEST_REMOTE = "tests/system/test_remote.py::test_"

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
        "who writes and does not grow appends",
        ENGINE,
        "if not has_grown and seen.mtime_ns != track.mtime_ns:",
        "if False:",
        (f"{TEST_TAILS}a_rewrite_in_place_that_leaves_the_size_is_found_soon_by_its_time",),
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
        "a torn line is an entry when it is long",
        PUSHER,
        "if newline < 0 and not (task.tail and is_object_in_pieces(file.pieces(start, size - start))):",
        "if newline < 0 and not task.tail:",
        (f"{TEST_TAILS}a_torn_last_line_too_long_to_hold_waits_for_its_newline",),
    ),
    Mutant(
        "half a surrogate pair is no JSON",
        "agent/core/transcripts/objects.py",
        'return b"\\\\ufffd" if escape[1] else escape[0]',
        "return escape[0]",
        ("tests/core/test_transcript.py::test_the_uuid_of_a_line",),
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
        "if track.adoptions <= ADOPTIONS:",
        "if True:",
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
        "self._tombstones.setdefault(TrackKey(name, *stream), {})[ordinal] = entry",
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

MUTANTS = (*CURSOR, *LINES, *REALIGNING, *ANSWERS, *TURNS)
