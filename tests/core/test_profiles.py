"""One word chooses the options of a use; options that are given with it win."""

from __future__ import annotations

import pytest

from streaming_asr.core.options import CHANGEABLE, OptionError, SessionOptions
from streaming_asr.core.profiles import PROFILES


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_sets_its_options_and_no_others(name: str) -> None:
    values = PROFILES[name].options
    options = SessionOptions(sample_rate=8000, language="de").changed(profile=name)
    assert options == SessionOptions(sample_rate=8000, language="de", profile=name, **values)
    # So that a session may take another profile in mid-stream.
    assert values.keys() <= CHANGEABLE


def test_an_option_given_with_a_profile_wins_and_one_set_before_does_not() -> None:
    defaults = SessionOptions(endpoint_ms=700)
    assert defaults.changed(profile="captions", endpoint_ms=300).endpoint_ms == 300
    captions = defaults.changed(profile="captions")
    assert captions.endpoint_ms == PROFILES["captions"].options["endpoint_ms"] > 700
    later = captions.changed(endpoint_ms=900)
    assert (later.profile, later.endpoint_ms) == ("captions", 900)
    assert later.changed(keywords=("a",)).endpoint_ms == 900


@pytest.mark.parametrize("before", PROFILES)
@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_takes_the_place_of_the_one_before(before: str, name: str) -> None:
    options = SessionOptions(language="de")
    assert options.changed(profile=before).changed(profile=name) == options.changed(profile=name)
    assert options.changed(profile=before).changed(profile=None) == options
    # What was chosen beside the profile stays, unless the next profile sets it.
    chosen = options.changed(profile="recording", partials=True, endpoint_min_ms=250)
    assert chosen.changed(profile="captions") == options.changed(profile="captions", endpoint_min_ms=250)


def test_an_unknown_profile_is_refused_with_those_that_exist() -> None:
    with pytest.raises(OptionError, match="profile: 'agents' is not one of agent, captions, dictation, recording"):
        SessionOptions().changed(profile="agents")


def test_no_profile_changes_nothing() -> None:
    options = SessionOptions(endpoint_ms=700)
    assert options.changed(profile=None) == options
