"""What stays on this machine: private sessions, tokens, secrets."""

from tests.mutants.mutant import Mutant

ASKING = "agent/delivery/push/asking.py"
ENGINE = "agent/delivery/engine/engine.py"
ERRANDS = "agent/delivery/engine/errands.py"
PERMITS = "agent/delivery/privacy/permits.py"
PRIVATE_ROOM = "agent/delivery/engine/private.py"
FILESENDER = "agent/delivery/push/filesender.py"
GATES = "agent/delivery/state/gates.py"
PUSHER = "agent/delivery/push/pusher.py"
SIGHTINGS = "agent/delivery/engine/sightings.py"
REMOTE = "agent/system/remote.py"
TOKENS = "agent/system/tokens/__init__.py"
TOKENS_CHILD = "agent/system/tokens/child.py"
TOKENS_CLIENT = "agent/system/tokens/client.py"
TOKENS_PLACES = "agent/system/tokens/places.py"
TOKENS_SOURCES = "agent/system/tokens/sources.py"
PRIVACY_RULES = "agent/core/privacy/rules.py"
PRIVACY_LIST = "agent/system/state/privacy_list.py"
GIT = "agent/system/git/remotes.py"
PATTERNS = "agent/core/privacy/patterns.py"
RULEBOOK = "agent/delivery/privacy/rulebook.py"
TEST_PRIVATE = "tests/daemon/test_private.py::test_"
TEST_RULES_CHANGE = "tests/daemon/test_rules_change.py::test_nothing_leaves_behind_a_change_wherever_it_comes"
TEST_GROUNDS = "tests/daemon/test_grounds.py::test_"
TEST_LOST = "tests/daemon/test_lost_rules.py::test_"
TEST_PRIVACY = "tests/core/test_privacy.py::test_"
TEST_PRIVACY_LIST = "tests/system/test_privacy_list.py::test_"
TEST_GIT = "tests/system/test_git.py::test_"
TEST_PATTERNS = "tests/core/test_patterns.py::test_"
TEST_RULEBOOK = "tests/daemon/test_rulebook.py::test_"
TEST_DELIVERY = "tests/daemon/test_delivery.py::test_"
TEST_DESTINATIONS = "tests/daemon/test_destinations.py::test_"
TEST_TOKENS = "tests/daemon/test_tokens.py::test_"
TEST_TOKENS_BACKENDS = "tests/system/tokens/test_backends.py::test_"
TEST_TOKENS_PLACES = "tests/system/tokens/test_places.py::test_"
TEST_TOKENS_SOURCES = "tests/system/tokens/test_sources.py::test_"
TEST_UPLOAD = "tests/daemon/test_upload.py::test_"
TEST_REMOTE = "tests/system/test_remote.py::test_"
TEST_REDACTING = "tests/daemon/test_redacting.py::test_"

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
        "        if is_old:\n            self._told(seen)\n            return\n",
        "",
        (f"{TEST_DELIVERY}history_stays_here_when_the_settings_say_so_until_it_grows",),
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
        "a session is judged by what is found today alone",
        PRIVACY_RULES,
        "if subject.grounds.why and (given :=",
        "if False and (given :=",
        (f"{TEST_GROUNDS}it_stays_private_until_its_owner_takes_the_rule_back",),
    ),
    Mutant(
        "another rule is not asked of the folders that are remembered",
        PRIVACY_RULES,
        "        folders += subject.grounds.folders\n",
        "",
        (f"{TEST_GROUNDS}another_rule_is_asked_of_what_is_remembered",),
    ),
    Mutant(
        "another rule is not asked of the remotes that are remembered",
        PRIVACY_RULES,
        "(subject.remotes or frozenset()) | subject.grounds.remotes",
        "subject.remotes or frozenset()",
        (f"{TEST_GROUNDS}another_rule_is_asked_of_what_is_remembered",),
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
        "a rule that is gone from the list is dropped at once",
        "agent/core/privacy/lost_rules.py",
        "left_s = HOLD_S if is_new else known.lost[line] - passed_s",
        "left_s = 0.0",
        (f"{TEST_LOST}a_list_that_is_put_back_has_lost_nothing",),
    ),
    Mutant(
        "a receipt counts again and again",
        "agent/delivery/privacy/losses.py",
        "after = msgspec.structs.replace(after, edit=edit)",
        "after = msgspec.structs.replace(after, edit=0)",
        (f"{TEST_LOST}a_receipt_counts_once",),
    ),
    Mutant(
        "a list that is being written is believed",
        "agent/delivery/privacy/losses.py",
        "if before is None or not is_settled:",
        "if before is None:",
        (f"{TEST_LOST}nothing_is_learned_from_a_list_that_is_being_written",),
    ),
    Mutant(
        "settings that were cut share all",
        "agent/core/privacy/lost_rules.py",
        "share=old.share if was_listed else new.share,",
        "share=new.share,",
        (f"{TEST_LOST}settings_that_are_cut_anywhere_share_no_more_than_before",),
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
        "for one in found.includes]",
        "for one in ()]",
        (f"{TEST_GIT}settings_are_found_wherever_they_stand",),
    ),
    Mutant(
        "a git that fails says that there is nothing",
        GIT,
        "                return _Told(None, seen, at_s)\n",
        "                return _Told(frozenset(urls), seen, at_s)\n",
        (f"{TEST_GIT}where_git_fails_nothing_can_be_told",),
    ),
    Mutant(
        "a .git that says nothing is no checkout",
        GIT,
        'if "HEAD" not in parts and "config" not in parts:',
        "if False:",
        (f"{TEST_GIT}a_hidden_checkout_can_not_be_told",),
    ),
    Mutant(
        "brackets in a pattern are never a name's own",
        PATTERNS,
        "return group if group in _ESCAPED else",
        "return group if group else",
        (f"{TEST_PATTERNS}every_way_to_read_a_pattern_counts",),
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
        "a task goes on by the rules it began under",
        PERMITS,
        "is_same = now == self._rules and copies.version == self._version and copies.knows_all_of(now.sessions)",
        "is_same = True",
        (TEST_RULES_CHANGE,),
    ),
    Mutant(
        "what is a copy of what is asked before the named session was read",
        PERMITS,
        " and copies.knows_all_of(now.sessions)",
        "",
        (TEST_RULES_CHANGE,),
    ),
    Mutant(
        "what was forgotten while it was read counts as read",
        PERMITS,
        "            if self._is_current(owner, path, spot):\n                if spot.offset == offset:"
        "  # else another thread has read further meanwhile\n                    spot.offset = size\n",
        "            if owner in self._spots:\n                self._spots[owner][path].offset = size\n",
        ("tests/daemon/test_rules_change.py::test_what_was_forgotten_while_it_was_read_is_read_again",),
    ),
    Mutant(
        "what leaves while the rules change is never judged by the new ones",
        PRIVATE_ROOM,
        '        if track.judged in ("", self.epoch) or session',
        "        if True or session",
        (TEST_RULES_CHANGE,),
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
        "        if self.postponed_s(key, track) > 0:\n",
        "        if False:\n",
        (f"{TEST_PRIVATE}a_new_session_is_held_for_a_while",),
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
        "agent/delivery/push/realigner.py",
        "known=task.cursor,",
        "known=None,",
        (f"{TEST_REDACTING}a_head_that_the_server_tells_is_found_by_what_was_sent",),
    ),
    Mutant(
        "a colour hides what stands behind it",
        "agent/core/redaction/finding.py",
        "        if self._coded in hits and",
        "        if not hits and",
        ("tests/core/test_redaction.py::test_no_sort_of_secrets_is_found_less",),
    ),
    Mutant(
        "lines that are looked at together hold nothing, however they read",
        "agent/core/redaction/finding.py",
        "        return all(self.screen(",
        "        return True or all(self.screen(",
        ("tests/core/test_redaction.py::test_lines_that_are_looked_at_together_hide_nothing",),
    ),
    Mutant(
        "a long value is replaced as far as its beginning goes",
        "agent/core/redaction/finding.py",
        "yield (since, head.start(1), until) if head",
        "yield (since, *head.span(1)) if head",
        ("tests/core/test_redaction.py::test_a_value_of_any_length_is_replaced_whole",),
    ),
    Mutant(
        "the middle of a long run is left out, also where a private key stands in it",
        "agent/core/redaction/notations.py",
        "if any(text.find(one, since, until) >= 0 for one in _KEY_IN_A_RUN):",
        "if False:",
        (
            "tests/core/test_redaction.py::test_of_a_long_run_only_the_ends_are_looked_at_and_what_begins_there_goes_whole",
        ),
    ),
    Mutant(
        "what goes wrong in a redactor lets the text through",
        "agent/core/redaction/redactor.py",
        'raise RedactionTimeout("an entry can\'t be redacted") from exc',
        "return []",
        ("tests/core/test_redaction.py::test_what_goes_wrong_gives_nothing",),
    ),
)

MUTANTS = (*PRIVACY, *LIST, *KEPT_BACK, *LOGIN, *REDACTION)
