"""The bundled sample is what the demo says it is."""

import unicodedata
from collections import Counter

from app.demo.sample import companies, industries, part


def plain(text: str) -> str:
    """Letters and digits only, without case or accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", text.casefold()) if c.isalnum())


def test_at_least_800_companies_in_13_industries() -> None:
    assert len(companies()) >= 800
    assert len(industries()) == 13
    per_industry = Counter(company.industry for company in companies())
    assert min(per_industry.values()) >= 60


def test_200_balanced_to_train_on_and_at_least_600_to_stream() -> None:
    assert len(part("train")) == 200
    assert len(part("stream")) >= 600
    assert len(part("train")) + len(part("stream")) == len(companies())
    assert set(Counter(company.industry for company in part("train")).values()) == {15, 16}


def test_no_company_and_no_description_twice() -> None:
    for key in ("id", "name", "description"):
        values = Counter(plain(getattr(company, key)) for company in companies())
        assert [value for value, count in values.items() if count > 1] == [], key


def test_a_description_is_one_line_of_8_to_25_words() -> None:
    for company in companies():
        assert 8 <= len(company.description.split()) <= 25, company
        assert company.description.endswith("."), company
        assert company.text.isprintable(), company
        assert company.text == unicodedata.normalize("NFC", company.text), company


def test_no_description_gives_its_own_label_away() -> None:
    for company in companies():
        assert company.industry.lower() not in company.description.lower(), company


def test_at_least_60_are_ambiguous_and_name_the_other_industry() -> None:
    ambiguous = [company for company in part("stream") if company.also]
    assert len(ambiguous) >= 60
    for company in ambiguous:
        assert company.also in industries(), company
        assert company.also != company.industry, company


def test_the_industries_are_mixed_so_that_any_stretch_of_the_stream_looks_alike() -> None:
    stream = part("stream")
    for start in range(0, len(stream) - 100, 100):
        assert len({company.industry for company in stream[start : start + 100]}) == 13
