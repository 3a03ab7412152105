from __future__ import annotations

import math

import pytest

from app.domain.confidence import (
    RESOLUTION,
    Alternative,
    ChoiceScore,
    Token,
    Unknown,
    UnknownReason,
)
from app.domain.labels import LabelSet
from tests.support.choices import score_single_choice

LABELS = LabelSet.of(["ship", "shipping", "Télécom", "Real Estate"])


def token(data: str | bytes, p: float, /, **others: float) -> Token:
    """A token with its probability, listed first, then others by their text."""
    alternatives: dict[str | bytes, float] = {data: p}
    alternatives.update(others)
    return listed(data, math.log(p), alternatives)


def listed(data: str | bytes, logprob: float, others: dict[str | bytes, float]) -> Token:
    return Token(
        as_bytes(data),
        logprob,
        tuple(
            Alternative(as_bytes(other), math.log(p) if p else -9999.0)
            for other, p in others.items()
        ),
    )


def as_bytes(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode()


def score(*tokens: Token, labels: LabelSet = LABELS) -> ChoiceScore | Unknown:
    content = b"".join(token.data for token in tokens).decode()
    return score_single_choice(tokens, content=content, labels=labels)


def known(*tokens: Token, labels: LabelSet = LABELS) -> ChoiceScore:
    scored = score(*tokens, labels=labels)
    assert isinstance(scored, ChoiceScore)
    return scored


OPEN = Token(b'{"label":"', -9999.0, ())  # the layout may be forced on the model: no matter
CLOSE = Token(b'"}', 0.0, ())


class TestShares:
    def test_the_walk_by_hand(self) -> None:
        scored = known(
            OPEN,
            token("sh", 0.8, Real=0.1, Tel=0.05, s=0.02),
            token("ip", 0.9, ipping=0.06, op=0.03),
            listed('"}', math.log(0.75), {'"}': 0.75, "ping": 0.2, '"': 0.04}),
        )
        assert scored.label == "ship"
        assert scored.p_raw == pytest.approx(0.8 * 0.9 * 0.75)
        assert scored.log_p_raw == pytest.approx(math.log(0.8 * 0.9 * 0.75))
        masses = dict(scored.masses)
        assert masses["ship"] == pytest.approx(0.8 * 0.9 * (0.75 + 0.04))
        assert masses["shipping"] == pytest.approx(0.8 * 0.06 + 0.8 * 0.9 * 0.2)
        assert masses["Real Estate"] == pytest.approx(0.1)
        assert masses["Télécom"] == 0.0  # Tel without its accent is no label
        assert scored.off_label == pytest.approx(0.05 + 0.8 * 0.03)
        assert scored.ambiguous == pytest.approx(0.02)
        assert scored.unseen == pytest.approx(0.03 + 0.8 * 0.01 + 0.8 * 0.9 * 0.01)
        seen = math.fsum(masses.values()) + scored.ambiguous
        assert scored.p_norm == pytest.approx(masses["ship"] / seen)
        assert scored.confidence == pytest.approx(masses["ship"] / (seen + scored.off_label))
        doubt = seen + scored.off_label - masses["ship"]
        assert scored.logit == pytest.approx(math.log(masses["ship"] / doubt))
        assert scored.margin == pytest.approx((masses["ship"] - masses["shipping"]) / seen)
        shares = [mass / seen for mass in (*masses.values(), scored.ambiguous) if mass]
        assert scored.entropy == pytest.approx(-sum(q * math.log(q) for q in shares))
        assert [each.label for each in scored.alternatives] == [
            "ship",
            "shipping",
            "Real Estate",
            "Télécom",
        ]

    def test_the_sampled_label_need_not_be_the_likeliest(self) -> None:
        scored = known(
            OPEN, listed("Real", math.log(0.2), {"ship": 0.7, "Real": 0.2}), token(' Estate"}', 1.0)
        )
        assert scored.label == "Real Estate"
        assert scored.confidence == scored.p_norm == pytest.approx(0.2 / 0.9)
        assert scored.logit < 0
        assert scored.margin >= 0  # of the likeliest two, whichever was sampled

    def test_case_and_a_leading_space_are_the_same_label(self) -> None:
        scored = known(
            OPEN,
            listed("Real", math.log(0.5), {"Real": 0.5, " Real": 0.2, "REAL": 0.1, "TÉLÉ": 0.1}),
            token(' Estate"}', 1.0),
        )
        assert dict(scored.masses)["Real Estate"] == pytest.approx(0.8)
        assert scored.p_raw == pytest.approx(0.5)  # of these very tokens
        assert scored.p_norm == pytest.approx(0.8 / 0.9)  # of this label, however written

    def test_an_alias_that_was_sampled(self) -> None:
        scored = known(OPEN, token(" real", 0.9, ship=0.1), token(' estate"}', 1.0))
        assert scored.label == "Real Estate"
        assert scored.p_norm == pytest.approx(0.9 / 1.0)

    def test_equal_texts_are_two_tokens(self) -> None:
        twice = (
            Alternative(b"Real", math.log(0.6)),
            Alternative(b"Real", math.log(0.3)),
            Alternative(b"ship", math.log(0.1)),
        )
        scored = known(OPEN, Token(b"Real", math.log(0.6), twice), token(' Estate"}', 1.0))
        assert scored.p_raw == pytest.approx(0.6)
        assert dict(scored.masses)["Real Estate"] == pytest.approx(0.9)

    def test_a_sampled_token_outside_the_list(self) -> None:
        scored = known(
            OPEN, listed("Real", math.log(0.1), {"ship": 0.5, "T": 0.3}), token(' Estate"}', 1.0)
        )
        assert dict(scored.masses)["Real Estate"] == pytest.approx(0.1)
        assert scored.unseen == pytest.approx(0.1)

    def test_more_alternatives_than_asked_and_none_of_them_lost(self) -> None:
        crowd: dict[str | bytes, float] = {f"z{n}": 0.001 for n in range(200)}
        scored = known(
            OPEN,
            listed("Real", math.log(0.7), {"Real": 0.7, "T": 0.1, **crowd}),
            token(' Estate"}', 1.0),
        )
        assert scored.off_label == pytest.approx(0.2)

    def test_clamped_alternatives_have_no_mass(self) -> None:
        scored = known(
            OPEN,
            listed("Real", math.log(0.9), {"Real": 0.9, "ship": 0.0, "T": 0.1}),
            token(' Estate"}', 1.0),
        )
        assert scored.ambiguous == 0.0
        assert scored.unseen == pytest.approx(0.0, abs=1e-15)


class TestBytes:
    """Tokens are bytes of JSON, not of the label."""

    LABELS = LabelSet.of(["é/1", "è/2", 'say "x"', "\U0001f600", "\U0001f601"])

    @pytest.mark.parametrize(
        ("other", "expected"),
        [
            (b"\xc3\xa9", "é/1"),
            (b"\xc3", None),  # the first byte of é and è
            (b"\\u00e9", "é/1"),
            (b"\\u00E", None),  # é and è, in capital digits
            (b"\\u00c", None),  # É and È
            (b"\\u00C9", "é/1"),
            (b"\\", None),  # any character may be escaped
            (b"\\U", "off_label"),  # only a small u
            (b"\xc3\xa9/", "é/1"),
            (b"\xc3\xa9\\/", "é/1"),
            (b"\xc3\xa9\\", "é/1"),
            (b"\xc3\xa91", "off_label"),
            (b"say \\", 'say "x"'),
            (b'say \\"', 'say "x"'),
            (b"say \\u0022", 'say "x"'),
            (b'say "', "off_label"),  # unescaped, the quote closes the value
            (b"\xf0\x9f\x98", None),  # three bytes of two faces
            (b"\\ud83d", None),  # half of two faces
            (b"\\ud83d\\uDE0", None),
            (b"\\ud83d\\ude00", "\U0001f600"),
            (b"\\ud83dx", "off_label"),  # half a character
            (b"\\ude00", "off_label"),  # the other half
            (b'\xf0\x9f\x98\x80"}', "\U0001f600"),  # closed, and more
            (b"\xff", "off_label"),
            (b"\xed\xa0\xbd", "off_label"),  # an encoded surrogate
            (b"\x80", "off_label"),
            (b" ", None),
            (b"", None),  # an end of the answer without text leaves all open
            (b'"', "off_label"),
            (b"\n", "off_label"),
        ],
    )
    def test_where_an_alternative_goes(self, other: bytes, expected: str | None) -> None:
        scored = known(
            OPEN,
            listed("é", math.log(0.6), {"é": 0.6, "sa": 0.1, other: 0.25}),
            token('/1"}', 1.0),
            labels=self.LABELS,
        )
        before = {"é/1": 0.6, 'say "x"': 0.1}
        found: dict[str | None, float] = {
            **{each.label: each.mass - before.get(each.label, 0.0) for each in scored.masses},
            None: scored.ambiguous,
            "off_label": scored.off_label,
        }
        assert found[expected] == pytest.approx(0.25)
        assert math.fsum(found.values()) == pytest.approx(0.25)

    def test_a_character_that_case_makes_two_of_is_itself_only(self) -> None:
        # \u005 begins S, and SS is ß in capitals; yet nothing but ß is read as ß.
        scored = known(
            OPEN,
            listed("b", math.log(0.7), {"b": 0.7, b"\\u005": 0.2, b"\xc3": 0.1}),
            CLOSE,
            labels=LabelSet.of(["ß", "b"]),
        )
        assert scored.off_label == pytest.approx(0.2)
        assert dict(scored.masses)["ß"] == pytest.approx(0.1)

    @pytest.mark.parametrize("begun", [b"\xc2", b"\xce"])  # of the micro sign, of the Greek letter
    def test_a_character_whose_case_has_other_bytes(self, begun: bytes) -> None:
        scored = known(
            OPEN,
            listed("kg", math.log(0.9), {"kg": 0.9, begun: 0.1}),
            CLOSE,
            labels=LabelSet.of(["\N{MICRO SIGN}m", "kg"]),
        )
        assert dict(scored.masses)["\N{MICRO SIGN}m"] == pytest.approx(0.1)

    @pytest.mark.parametrize(
        ("pieces", "of_the_value"),
        [
            (['{"', "label", '":"', "é", '/1"}'], 2),
            (['{"label": "', "é/1", '"}'], 2),
            (['\n{\n  "label"', ' : "', "é/1", '"\n}\n'], 2),
            (['\n{\n  "label"', ' : "', "é/1", '"', "\n}\n"], 2),
            (['{"label":', '"é/1"}'], 1),
            (['{"label":"é/1"}'], 1),
            (['{"label":"', b"\xc3", b"\xa9/", '1"', "}"], 3),
            (['{"label":"', "\\u00", "e9", "\\", "/1", '"}'], 5),
            (["", '{"label":"', "", "é/", "", "1", "", '"}', ""], 6),
        ],
    )
    def test_any_layout_and_any_cut(self, pieces: list[str | bytes], of_the_value: int) -> None:
        tokens = [listed(piece, math.log(0.9), {piece: 0.9, "q": 0.1}) for piece in pieces]
        scored = known(*tokens, labels=self.LABELS)
        assert scored.label == "é/1"
        assert scored.log_p_raw == pytest.approx(of_the_value * math.log(0.9))
        assert scored.off_label == pytest.approx(1 - 0.9**of_the_value)

    @pytest.mark.parametrize(
        ("other", "expected"),
        [
            ('":"sa', 'say "x"'),
            ('": "sa', 'say "x"'),
            ('":\n "è/2"}', "è/2"),
            ('":"', None),
            ('":', None),
            ('"', None),
            ("", None),
            ('":"z', "off_label"),
            ('":[', "off_label"),
            ('":5', "off_label"),
            ("s", "off_label"),  # another field
        ],
    )
    def test_a_token_that_begins_before_the_value(self, other: str, expected: str | None) -> None:
        scored = known(
            Token(b'{"label', 0.0, ()),
            listed('":"é', math.log(0.6), {'":"é': 0.6, other: 0.4}),
            token('/1"}', 1.0),
            labels=self.LABELS,
        )
        found: dict[str | None, float] = {
            **{each.label: each.mass for each in scored.masses if each.label != "é/1"},
            None: scored.ambiguous,
            "off_label": scored.off_label,
        }
        assert scored.p_raw == pytest.approx(0.6)
        assert found[expected] == pytest.approx(0.4)


class TestOffLabel:
    """What the model would rather write, and is none of the labels, is doubt."""

    def test_takes_from_the_confidence_alone(self) -> None:
        none = known(OPEN, token("Real", 0.2, ship=0.1), token(' Estate"}', 1.0))
        most = known(OPEN, token("Real", 0.2, ship=0.1, zzz=0.7), token(' Estate"}', 1.0))
        assert most.off_label == pytest.approx(0.7)
        assert none.confidence == none.p_norm == most.p_norm == pytest.approx(2 / 3)
        assert (most.p_raw, most.margin, most.entropy) == (none.p_raw, none.margin, none.entropy)
        assert most.confidence == pytest.approx(0.2)
        assert most.logit == pytest.approx(math.log(0.2 / 0.8))

    def test_wherever_it_parts_from_the_label(self) -> None:
        scored = known(OPEN, token("Real", 0.9, ship=0.1), token(' Estate"}', 0.5, ity=0.5))
        assert scored.p_norm == pytest.approx(0.45 / 0.55)
        assert scored.confidence == pytest.approx(0.45)

    def test_of_1e_17_and_of_1e_18_are_apart(self) -> None:
        doubts = [
            known(OPEN, token("Real", 1.0, ship=1e-30, zzz=p), token(' Estate"}', 1.0))
            for p in (1e-17, 1e-18)
        ]
        assert [scored.confidence for scored in doubts] == [1.0, 1.0]
        assert doubts[1].logit - doubts[0].logit == pytest.approx(math.log(10))


class TestNothingSeenAgainst:
    """No other label is listed: what is left of doubt is what cannot be seen."""

    def test_is_bounded_by_what_is_unseen(self) -> None:
        scored = known(OPEN, token("Real", 0.6, zzz=0.3), token(' Estate"}', 1.0))
        assert scored.unseen == pytest.approx(0.1)
        assert scored.p_norm == pytest.approx(0.6 / 0.7)
        assert scored.confidence == pytest.approx(0.6)  # what is off the labels beside that

    def test_and_by_the_least_likely_that_is_listed(self) -> None:
        # other spellings of the label: nothing is off the labels
        rare = known(OPEN, token("Real", 1.0, REAL=1e-12), token(' Estate"}', 1.0))
        rarer = known(OPEN, token("Real", 1.0, REAL=1e-13), token(' Estate"}', 1.0))
        assert rare.logit == pytest.approx(-math.log(3e-12))  # three others at most so likely
        assert rarer.logit > rare.logit

    def test_saturation_is_single_precision_at_best(self) -> None:
        scored = known(OPEN, token("Real", 1.0, REAL=1e-6), token(' Estate"}', 1.0))
        assert scored.logit == pytest.approx(-math.log(RESOLUTION))
        assert scored.confidence < 1.0

    def test_masses_beneath_any_double_stay_finite(self) -> None:
        tiny = (Alternative(b"Real", 0.0), Alternative(b"zzz", -800.0))
        scored = known(OPEN, Token(b"Real", 0.0, tiny), token(' Estate"}', 1.0))
        assert math.isfinite(scored.logit)


class TestSumsAboveOne:
    def test_rounding_is_taken_back(self) -> None:
        scored = known(OPEN, token("Real", 0.904, ship=0.1), token(' Estate"}', 1.0))
        assert scored.p_raw == pytest.approx(0.904)  # as the server says
        total = math.fsum(each.mass for each in scored.masses) + scored.ambiguous
        assert total == pytest.approx(1.0)
        assert scored.confidence == scored.p_norm == pytest.approx(0.904 / 1.004)

    def test_a_logprob_above_zero_by_rounding_is_zero(self) -> None:
        tokens = [Token(b"Real", 9e-7, (Alternative(b"ship", -20.0),)), token(' Estate"}', 1.0)]
        assert known(OPEN, *tokens).log_p_raw == 0.0


class TestUnknown:
    @pytest.mark.parametrize(
        ("tokens", "reason"),
        [
            # The answer itself.
            ([token("", 1.0)], UnknownReason.EMPTY_ANSWER),
            ([OPEN, token("Real", 0.9)], UnknownReason.TRUNCATED),
            ([token("It is a ship", 0.9)], UnknownReason.NOT_JSON),
            ([token('{"label":7}', 0.9)], UnknownReason.WRONG_SHAPE),
            ([token('{"l\\u0061bel":"ship"}', 0.9)], UnknownReason.WRONG_SHAPE),
            ([OPEN, token("boat", 0.9, ship=0.1), CLOSE], UnknownReason.LABEL_OUTSIDE_SCHEMA),
            # No alternatives: none at all, only the token itself, only such as say nothing, or
            # only where the label is decided already.
            ([OPEN, Token(b"Real Estate", 0.0, ()), CLOSE], UnknownReason.NO_ALTERNATIVES),
            ([OPEN, Token(b"Real Estate", -9999.0, ()), CLOSE], UnknownReason.NO_ALTERNATIVES),
            ([OPEN, Token(b"Real Estate", -0.2, ()), CLOSE], UnknownReason.NO_ALTERNATIVES),
            ([OPEN, token("Real Estate", 1.0), CLOSE], UnknownReason.NO_ALTERNATIVES),
            ([OPEN, token("Real Estate", 1.0, ship=0.0), CLOSE], UnknownReason.NO_ALTERNATIVES),
            (
                [OPEN, Token(b"Real", 0.0, ()), token(" Estate", 0.9, ly=0.1), CLOSE],
                UnknownReason.NO_ALTERNATIVES,
            ),
            # Sampled, yet outside the list: how unlikely is not told.
            (
                [OPEN, listed("Real Estate", -9999.0, {"ship": 0.5, "T": 0.4}), CLOSE],
                UnknownReason.CLAMPED_LOGPROB,
            ),
            # Twice the same probabilities is no distribution.
            (
                [OPEN, token("Real Estate", 0.9, ship=0.9), CLOSE],
                UnknownReason.NOT_A_DISTRIBUTION,
            ),
        ],
    )
    def test_has_its_reason(self, tokens: list[Token], reason: UnknownReason) -> None:
        scored = score(*tokens)
        assert isinstance(scored, Unknown)
        assert scored.reason is reason
        assert scored.detail

    def test_all_zero_with_alternatives_is_certain_not_unknown(self) -> None:
        scored = known(
            OPEN,
            Token(b"Real", 0.0, (Alternative(b"Real", 0.0), Alternative(b"ship", -30.0))),
            Token(b' Estate"}', 0.0, ()),
        )
        assert scored.p_raw == 1.0
        assert scored.logit == pytest.approx(30.0)
