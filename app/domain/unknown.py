"""Why there is no confidence: one vocabulary from the call down to a single logprob."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class UnknownReason(StrEnum):
    """Stored beside a NULL confidence and shown to people; a value, once stored, keeps its meaning.

    In every one of these the item goes to people. In those of the first two groups there is no
    label either; in those of the third the label stands and only its confidence is missing.
    """

    # The call: no answer of the model was had.
    MODEL_UNREACHABLE = "model_unreachable"  # refused, reset, timed out, the last time it was tried
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"  # it answered 429 or 5xx until no attempt was left
    REQUEST_REJECTED = "request_rejected"  # a 4xx that a retry cannot mend: key, model, length
    UNREADABLE_RESPONSE = "unreadable_response"  # HTML, or JSON that is no chat completion
    LEASES_LOST = "leases_lost"  # poison: its worker died again and again
    ITEM_UNFIT = "item_unfit"  # the item lacks what the labeler asks by, such as a field

    # A label made elsewhere came without one.
    NOT_GIVEN = "not_given"

    # The answer: it names no label of the schema.
    NO_CHOICES = "no_choices"
    REFUSAL = "refusal"
    CONTENT_FILTER = "content_filter"
    TRUNCATED = "truncated"  # finish_reason "length", or JSON that stops in the middle
    EMPTY_ANSWER = "empty_answer"
    NOT_JSON = "not_json"
    WRONG_SHAPE = "wrong_shape"  # JSON, but not the one field that was asked for
    LABEL_OUTSIDE_SCHEMA = "label_outside_schema"
    TOO_LONG = "too_long"  # a text with more characters than the schema allows
    QUOTE_NOT_FOUND = "quote_not_found"  # what it says to quote does not stand in the item
    QUOTE_AMBIGUOUS = "quote_ambiguous"  # it stands there several times, and not where it says

    # The evidence: a label without usable logprobs.
    NO_LOGPROBS = "no_logprobs"  # null, missing or empty
    MALFORMED_LOGPROBS = "malformed_logprobs"  # not in the form of chat completions
    NAN_LOGPROB = "nan_logprob"
    POSITIVE_LOGPROB = "positive_logprob"
    INFINITE_LOGPROB = "infinite_logprob"  # -inf for a token that was sampled all the same
    BYTES_DIFFER = "bytes_differ"  # the tokens are not the tokens of the content
    NO_ALTERNATIVES = "no_alternatives"  # nothing tells how likely another label was
    CLAMPED_LOGPROB = "clamped_logprob"  # -9999: a sampled token outside what the server lists
    NOT_A_DISTRIBUTION = "not_a_distribution"  # a position's probabilities sum to well over 1


@dataclass(frozen=True, slots=True)
class Unknown:
    """No confidence, and why; never to be read as 0 or as 1.

    `detail` is one sentence for people. It says where the trouble is and quotes nothing of the
    answer, which is hostile text.
    """

    reason: UnknownReason
    detail: str


@dataclass(frozen=True, slots=True)
class Unusable:
    """An answer that is no value of the schema; `detail` quotes nothing of it."""

    reason: UnknownReason
    detail: str
