"""What is kept: files held, the state, what the receiver stores."""

from tests.mutants.mutant import Mutant

ENGINE = "agent/delivery/engine/engine.py"
ERRANDS = "agent/delivery/engine/errands.py"
FILESENDER = "agent/delivery/push/filesender.py"
KEEPER = "agent/delivery/retention/keeper.py"
SCANNER = "agent/delivery/discovery/scanner.py"
SIGHTINGS = "agent/delivery/engine/sightings.py"
SPOOLING = "agent/delivery/discovery/spooling.py"
SYSTEM_FILES = "agent/system/files/reading.py"
NO_LINKS = "agent/system/files/no_links.py"
KEEPING = "agent/system/files/keeping.py"
REMOTE = "agent/system/remote.py"
SPOOL = "agent/system/state/spool.py"
STATE_OPENING = "agent/system/state/state_db/opening.py"
STATE_SCHEMA = "agent/system/state/state_db/schema.py"
RECEIVER_BLOBS = "agent/receiver/blobs.py"
RECEIVER_DATABASE = "agent/receiver/database.py"
RECEIVER_FILES = "agent/receiver/files.py"
RECEIVER_REMAINS = "agent/receiver/remains.py"
RECEIVER_SCHEMA = "agent/receiver/schema.py"
RECEIVER_STORE = "agent/receiver/sqlite.py"
TEST_ENGINE = "tests/daemon/test_engine.py::test_"
TEST_COPIES = "tests/daemon/test_copies.py::test_"
TEST_HELD = "tests/daemon/test_held.py::test_"
TEST_SIDE_FILES = "tests/daemon/test_side_files.py::test_"
TEST_SPOOLING = "tests/daemon/test_spooling.py::test_"
TEST_SCANNER = "tests/scanner/test_scanner.py::test_"
TEST_FENCE = "tests/scanner/test_fence.py::test_"
TEST_KEEPING = "tests/system/test_keeping.py::test_"
TEST_SPOOL = "tests/system/test_spool.py::test_"
TEST_STATE_DB = "tests/system/test_state_db.py::test_"
TEST_DELETION = "tests/receiver/test_deletion.py::test_"
TEST_TRUST = "tests/system/test_remote_trust.py::test_"
TEST_BLOBS = "tests/receiver/test_blobs.py::test_"
TEST_FILES = "tests/receiver/test_files.py::test_"
TEST_STORE = "tests/contracts/test_sqlite_store.py::TestSqliteStore::test_"
TEST_SQLITE = "tests/contracts/test_sqlite_store.py::test_"

FILES = (
    Mutant(
        "let go of a held file before it is sent",
        KEEPER,
        "for stream, held in [one for one in self.held.items() if one[0] not in wanted]:",
        "for stream, held in list(self.held.items()):",
        (f"{TEST_HELD}it_is_held_for_as_long_as_it_is_not_sent",),
    ),
    Mutant(
        "let go of what is held of a second file when another took its place",
        KEEPER,
        " and not self.has_to_stay(self._seen_as(held)):",
        ":",
        (f"{TEST_COPIES}what_is_retained_of_any_file_of_a_session_arrives_whatever_takes_its_place",),
    ),
    Mutant(
        "begin with a larger file although the first is held",
        SIGHTINGS,
        " or has_left or self._keeper.holds(done.of):",
        " or has_left:",
        (f"{TEST_COPIES}what_is_retained_of_any_file_of_a_session_arrives_whatever_takes_its_place",),
    ),
    Mutant(
        "what another file covered stays covered when that one has to wait",
        SIGHTINGS,
        "        self.reopen(stream)  # what was in the newer one need not be in this one\n",
        "",
        (f"{TEST_COPIES}what_is_retained_of_any_file_of_a_session_arrives_whatever_takes_its_place",),
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
        "self.keeper.load(self._found_held)",
        "self.keeper.load(())",
        (f"{TEST_HELD}without_any_state_what_is_held_is_still_delivered",),
    ),
    Mutant(
        "mix two files with one id",
        SIGHTINGS,
        "elif self._is_other(seen, followed):",
        "elif False:",
        (f"{TEST_ENGINE}two_files_with_one_id_are_not_mixed",),
    ),
    Mutant(
        "what may not be seen is gone",
        SYSTEM_FILES,
        "        return _says_missing(exc)\n",
        "        return True\n",
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
        "a folder swapped for a link is read",
        NO_LINKS,
        "if _opened_at(descriptor) == path:",
        "if _opened_at(descriptor):",
        (f"{TEST_FENCE}a_swap_at_any_step_gives_nothing_from_outside",),
    ),
    Mutant(
        "a folder on the way may be a link",
        NO_LINKS,
        "if _opened_at(descriptor) == folder:",
        "if _opened_at(descriptor):",
        (f"{TEST_FENCE}a_swap_at_any_step_gives_nothing_from_outside",),
    ),
    Mutant(
        "a link that leads out is followed",
        SCANNER,
        "                home = self._root_of(entry.link)\n",
        "                home = self._root_of(entry.link) or root\n",
        (f"{TEST_FENCE}what_leads_out_is_named_and_not_touched",),
    ),
    Mutant(
        "files of other users are read",
        SCANNER,
        "or not self._is_ours(root, entry):",
        "or False:",
        (f"{TEST_FENCE}a_file_of_another_user_is_named_and_not_read",),
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

MUTANTS = (*FILES, *DISK, *RECEIVER)
