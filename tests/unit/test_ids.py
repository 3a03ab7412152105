"""Ids on the wire, held to the library that defines them."""

from __future__ import annotations

import uuid

import pytest
import uuid_utils
from hypothesis import given
from hypothesis import strategies as st
from typeid import TypeID
from typeid.errors import TypeIDException

from app.infra.ids import InvalidIdError, Kind, from_wire, new_id, to_wire, uuid_array

IDS = st.uuids().map(lambda value: uuid.UUID(bytes=value.bytes))
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
GOOD = "01h455vb4pex5vsknk084sn02q"


class TestTheWireForm:
    @given(IDS, st.sampled_from(list(Kind)))
    def test_is_that_of_typeid_and_comes_back(self, value: uuid.UUID, kind: Kind) -> None:
        text = to_wire(kind, value)
        assert text == str(TypeID.from_uuid(uuid_utils.UUID(bytes=value.bytes), prefix=kind.value))
        assert from_wire(kind, text) == value

    @given(
        st.one_of(
            st.text(alphabet=f"{ALPHABET}IiLlOoUu_- ", min_size=20, max_size=30),
            st.text(alphabet=ALPHABET, min_size=26, max_size=26),
            st.text(max_size=40),
        )
    )
    def test_is_read_exactly_where_the_library_reads_it(self, suffix: str) -> None:
        text = f"itm_{suffix}"
        try:
            parsed = TypeID.from_string(text)
            wanted = uuid.UUID(bytes=parsed.uuid.bytes) if parsed.prefix == "itm" else None
        except (TypeIDException, ValueError):
            wanted = None
        if wanted is None:
            with pytest.raises(InvalidIdError):
                from_wire(Kind.ITEM, text)
        else:
            assert from_wire(Kind.ITEM, text) == wanted

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "itm",
            "itm_",
            GOOD,
            f"prj_{GOOD}",
            f"ITM_{GOOD}",
            f"itm-{GOOD}",
            f"itm_{GOOD.upper()}",
            f"itm_8{GOOD[1:]}",
            f"itm_{GOOD}0",
            f"itm_{GOOD[:-1]}",
            f"itm_{GOOD[:-1]}u",
            f" itm_{GOOD}",
            f"itm_{GOOD}\0",
            "3cca9afd-de03-4e5c-91b7-caee4739ba36",
        ],
    )
    def test_is_refused_if_it_is_anything_else(self, text: str) -> None:
        with pytest.raises(InvalidIdError, match="not an id of the form itm_"):
            from_wire(Kind.ITEM, text)


class TestNewIds:
    def test_sort_in_the_order_they_are_made(self) -> None:
        made = [new_id() for _ in range(1000)]
        assert made == sorted(made)
        assert [to_wire(Kind.ITEM, each) for each in made] == sorted(
            to_wire(Kind.ITEM, each) for each in made
        )

    def test_as_an_array_are_what_postgres_reads(self) -> None:
        one, two = new_id(), new_id()
        assert uuid_array([one, two]) == f"{{{one},{two}}}"
        assert uuid_array([]) == "{}"
