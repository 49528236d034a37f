"""Who is said to have acted on a condition."""

import pytest

from nodesets.model import Caller
from opcua_server.plant.condition_methods import _claimed

GATEWAY, PERSON = Caller(user="scada", service=True), Caller(user="olga")


@pytest.mark.parametrize(
    ("comment", "claimed"),
    [
        ("[olga] pump cleaned", "olga"),
        ("[Olga Ivanova]", "Olga Ivanova"),
        ("pump [olga]", ""),
        ("[] pump", ""),
        ("", ""),
        (f"[{'x' * 65}] pump", ""),
    ],
)
def test_a_service_account_says_in_its_comment_whom_it_acts_for(comment, claimed):
    # Process rule 15: the methods of Part 9 have no argument for it.
    assert _claimed(GATEWAY, comment) == claimed


def test_a_person_acts_for_nobody_else():
    assert _claimed(PERSON, "[boris] pump cleaned") == ""
