"""The limits, and what a plant file may say of them."""

import re
from dataclasses import fields

from config import schema
from config.reference import meanings
from opcua_server.services.limits import Limits


def test_every_limit_of_a_plant_file_is_one_of_the_servers() -> None:
    # A key without its limit would be taken, and do nothing.
    assert set(schema.Limits.model_fields) <= {f.name for f in fields(Limits)}
    assert Limits(**schema.Limits(connections=7, hello=1).model_dump(exclude_none=True)).connections == 7


def test_the_plant_file_tells_the_limits_as_they_are() -> None:
    # The reference is generated from these texts; a number in it that is not true misleads.
    for name, meaning in meanings(schema.Limits).items():
        told = re.search(r"null: ([\d,.]+)( MiB)?", meaning)
        assert told, name
        number = float(told[1].rstrip(".").replace(",", "")) * (1024 * 1024 if told[2] else 1)
        assert number == getattr(Limits(), name), name
