"""Tokens from where their owner put them."""

from agent.system.tokens import EnvironmentTokens, FixedToken


def test_the_environments_token_is_for_every_destination() -> None:
    tokens = EnvironmentTokens({"TRANSCRIPTD_TOKEN": "tsd_x"})
    assert [tokens.token(name) for name in ("default", "other")] == ["tsd_x", "tsd_x"]


def test_what_a_shell_leaves_around_it_is_no_part_of_it() -> None:
    assert EnvironmentTokens({"TRANSCRIPTD_TOKEN": " tsd_x\r\n"}).token("default") == "tsd_x"


def test_an_empty_variable_is_no_token() -> None:
    for environment in ({}, {"TRANSCRIPTD_TOKEN": ""}, {"TRANSCRIPTD_TOKEN": " \n"}):
        assert EnvironmentTokens(environment).token("default") is None


def test_a_token_that_was_handed_over_is_given_back() -> None:
    assert FixedToken("tsd_x").token("default") == "tsd_x"


def test_no_token_shows_where_its_holder_is_printed() -> None:
    for holder in (EnvironmentTokens({"TRANSCRIPTD_TOKEN": "tsd_secret"}), FixedToken("tsd_secret")):
        assert "tsd_secret" not in repr(holder)
