"""Sessions of any agent: followed, read, found and brought back."""

from tests.mutants.mutant import Mutant

ENGINE = "agent/delivery/engine/engine.py"
PERMITS = "agent/delivery/privacy/permits.py"
FETCHING = "agent/sessions/transfer/fetching.py"
LANDING = "agent/system/files/landing.py"
PLACES = "agent/sessions/transfer/places.py"
PLACING = "agent/core/transcripts/placing.py"
PULLING = "agent/sessions/transfer/pulling.py"
REWRITING = "agent/core/transcripts/rewriting.py"
CHANGING = "agent/sessions/transfer/changing.py"
REPLACING = "agent/system/files/replacing.py"
RECEIVER_API = "agent/receiver/api.py"
TEST_AUTH = "tests/receiver/test_auth.py::test_"
TEST_PULL = "tests/daemon/test_pull.py::test_"
TEST_CHANGING = "tests/daemon/test_changing.py::test_"
TEST_AGENTS = "tests/daemon/test_agents.py::test_"
RUNS = "agent/core/sessions/runs.py"
LIVE_RUNS = "agent/sessions/live/runs.py"
TAILING = "agent/sessions/read/tailing.py"
LINEAGE = "agent/core/sessions/lineage.py"
TEST_RUNS = "tests/core/test_runs.py::test_"
TEST_LIVE_RUNS = "tests/daemon/test_runs.py::test_"
TEST_TAILING = "tests/daemon/test_tailing.py::test_"
TEST_LINEAGE = "tests/core/test_lineage.py::test_"
READING_LINES = "agent/providers/reading/lines.py"
READING_CODEX = "agent/providers/reading/codex.py"
RENDERING = "agent/cli/sessions/rendering.py"
TEST_READERS = "tests/providers/reading/test_readers.py::test_"
TEST_RENDERING = "tests/cli/test_rendering.py::test_"
INDEXING = "agent/sessions/index/indexing.py"
INDEX_DB = "agent/system/state/index_db.py"
SESSION_ROWS = "agent/sessions/search/session_rows.py"
ANNOTATIONS = "agent/system/state/annotations.py"
SEARCH_TERMS = "agent/core/sessions/search_terms.py"
SEARCHING = "agent/sessions/search/searching.py"
INDEX_KEEPER = "agent/sessions/index/index_keeper.py"
TEST_INDEXING = "tests/daemon/test_indexing.py::test_"
TEST_INDEX_DB = "tests/system/test_index_db.py::test_"
TEST_SEARCHING = "tests/daemon/test_searching.py::test_"
TEST_KEEPER = "tests/daemon/test_index_keeper.py::test_"
TEST_SESSIONS = "tests/cli/test_sessions.py::test_"

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
        "id|thread_id|rollout_id|forked_from_id|parent_thread_id",
        "id|thread_id|rollout_id|parent_thread_id",
        (f"{TEST_AGENTS}a_fork_of_a_private_session_is_private_too",),
    ),
    Mutant(
        "a thread's further files are left out",
        "agent/providers/codex.py",
        "(?:_({UUID}))?\\.jsonl",
        "(?:(?!)({UUID}))?\\.jsonl",
        ("tests/providers/test_codex.py::test_a_rollout_of_a_thread_is_a_stream_beside_it_and_has_its_name_again",),
    ),
    Mutant(
        "a file that nobody follows is not named",
        "agent/delivery/discovery/scanner.py",
        "if stream is None and named == path and self._may_be_transcript(root, entry):",
        "if False:",
        ("tests/scanner/test_scanner.py::test_a_file_that_nobody_follows_is_forgotten_when_it_is_followed_or_goes",),
    ),
    Mutant(
        "what was left out is called synced",
        "agent/daemon/status/around.py",
        "Open.UNFOLLOWED: len(self.scanner.unfollowed)",
        "Open.UNFOLLOWED: 0 * len(self.scanner.unfollowed)",
        ("tests/e2e/test_try.py::test_a_file_that_nobody_follows_is_named_and_the_rest_not_called_synced",),
    ),
    Mutant(
        "raw lines behind a packed file are damage",
        "agent/core/transcripts/packed.py",
        "if at and source.read(len(_LINE_BEGIN)) == _LINE_BEGIN:",
        "if False:",
        ("tests/core/test_packed.py::test_frames_of_every_kind_and_raw_lines_behind_them_are_the_lines_they_hold",),
    ),
    Mutant(
        "a packed file that is cut off is taken for a shorter one",
        "agent/core/transcripts/packed.py",
        "        if at > size:\n",
        "        if at > size + (1 << 40):\n",
        (f"{TEST_AGENTS}a_damaged_packed_session_is_told_of_and_takes_nothing_back",),
    ),
    Mutant(
        "a packed file is as long as it lies there",
        "agent/delivery/discovery/scanner.py",
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
        "            self._remember([one.run for one in changes])\n",
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
        "        except RecursionError:\n            return TOO_DEEP",
        "        except ZeroDivisionError:\n            return TOO_DEEP",
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
        "            os.fchmod(descriptor, 0o600)",
        "            pass",
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

WAY_BACK = (
    Mutant(
        "a long answer has no more time than a short one",
        "agent/system/remote.py",
        "response._original_response.patient.is_long = True",
        "pass",
        ("tests/system/test_remote.py::test_a_long_answer_has_more_time_for_what_comes",),
    ),
    Mutant(
        "any answer has more time for what comes",
        "agent/system/remote.py",
        "        if self.is_long:\n",
        "        if True:\n",
        ("tests/system/test_remote.py::test_a_long_answer_has_more_time_for_what_comes",),
    ),
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

MUTANTS = (*AGENTS, *FOLLOWED, *READ, *INDEXED, *WAY_BACK)
