"""The confidence of a label that a model wrote bare: `Media`, where ours are asked for JSON.

It is scored by the walk of the structured answer: what the model wrote is set into the layout
`{"label":"…"}`, token by token, and its alternatives likewise, with whatever JSON must escape
escaped. Three things differ between a bare label and one in JSON, and are made alike:

- White space before the label is no part of it, whether it stands in a token of its own or not.
- What ends a bare label is white space behind it, a token that says so (`<|im_end|>`, or one of no
  text), or the end of the content. Where such a token is an alternative, it is a closing quote.
- The end of the content has no token, so nothing says how likely it was that more would follow. It
  is taken as certain, and `p_raw` is that of the content alone, unless the label is the beginning
  of another one ("ship" of "shipping"): then how sure the model was is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.answers import FoundAnswer
from app.domain.confidence import ChoiceScore, score_choice
from app.domain.labels import LabelSet, fold
from app.domain.tokens import Alternative, Token
from app.domain.unknown import Unknown, UnknownReason

_FIELD: Final = "label"
_OPENING: Final = Token(b'{"label":"', 0.0, ())
_CLOSED: Final = b'"'
# A token of another head than the one sampled is part of no label, and so is this.
_NO_LABEL: Final = b"\\u0000"
_WHITE_SPACE: Final = b" \t\n\r"
# How servers show the token that ends an answer. In the text of a label they do not occur.
_END: Final = re.compile(
    rb"(?:<\|[^<>|]*\|>|<\xef\xbd\x9c[^<>]*\xef\xbd\x9c>|</s>|<eos>|<end_of_turn>)\s*\Z"
)
_ESCAPES: Final = {byte: f"\\u{byte:04x}".encode() for byte in range(0x20)} | {
    ord('"'): b'\\"',
    ord("\\"): b"\\\\",
}


def begins_another(label: str, labels: LabelSet) -> bool:
    """Whether another label begins with this one, case aside."""
    folded = fold(label)
    return any(fold(name).startswith(folded) for name in labels.names if name != label)


def score_bare(
    tokens: Sequence[Token], *, content: str, found: FoundAnswer, labels: LabelSet, chosen: str
) -> ChoiceScore | Unknown:
    """The confidence of a label that is all the content says but for thinking and white space.

    As `app.domain.confidence.score_choice`, with what the module says of the end. The walk begins
    behind any thinking: a label that stands right there as an alternative to a line break counts.

    Unknown: also a label that begins another one, when nothing is listed where it ends.

    Args:
        tokens: they spell the content.
        content: what the model wrote.
        found: the label within it, as the model spells it.
        labels: what could be chosen.
        chosen: the label that was, as the set spells it.
    """
    data = content.encode("utf-8", "surrogatepass")
    before = data[: found.begin].decode("utf-8", "surrogatepass")
    frame = _Frame(
        labels,
        begin=len(before.rstrip().encode("utf-8", "surrogatepass")),
        end=found.begin + len(found.text.encode("utf-8", "surrogatepass")),
    )
    framed = (_OPENING, *frame.tokens(tokens))
    if not frame.end_is_listed:
        if begins_another(chosen, labels):
            return Unknown(
                UnknownReason.NO_ALTERNATIVES,
                "The label is the beginning of another one, and nothing is listed where it ends.",
            )
        framed = (*framed, Token(_CLOSED, 0.0, ()))
    return score_choice(
        framed,
        data=b"".join(token.data for token in framed),
        begin=0,
        field=_FIELD,
        labels=labels,
        chosen=chosen,
    )


@dataclass(slots=True)
class _Frame:
    """Tokens of a content as tokens of a JSON string.

    Attributes:
        labels: what could be chosen.
        begin: where in the content's bytes any thinking has ended.
        end: where the label ends.
        end_is_listed: whether alternatives were met of what stands behind the label.
    """

    labels: LabelSet
    begin: int
    end: int
    end_is_listed: bool = False

    def tokens(self, tokens: Sequence[Token]) -> Iterator[Token]:
        """From behind the thinking to what ends the label; the last is not closed without that."""
        position, said = 0, b""
        for token in tokens:
            begin, position = position, position + len(token.data)
            if begin < self.begin and position <= self.begin:
                continue
            head = token.data[: max(self.begin - begin, 0)]
            body = token.data[len(head) : max(self.end - begin, 0)]
            body = body if said else _one_space(body)
            closes = position > self.end or begin >= self.end
            sampled = _escaped(body) + (_CLOSED if closes else b"")
            alternatives = [
                sampled if other.data == token.data else self._alternative(other.data, head, said)
                for other in token.alternatives
            ]
            logprobs = [other.logprob for other in token.alternatives]
            yield Token(sampled, token.logprob, tuple(map(Alternative, alternatives, logprobs)))
            said += body if said else body.lstrip(_WHITE_SPACE)
            if closes:
                self.end_is_listed = bool(token.alternatives)
                return

    def _alternative(self, data: bytes, head: bytes, said: bytes) -> bytes:
        if not data.startswith(head):
            return _NO_LABEL
        data = data[len(head) :]
        data = data if said else _one_space(data)
        whole = said + data
        end = _END.search(whole)
        label = (whole[: end.start()] if end else whole).rstrip(_WHITE_SPACE)
        if label != whole and (end or not self._continues(whole)) and self._is_label(label):
            return _escaped(label[len(said) :]) + _CLOSED
        return _escaped(data)

    def _is_label(self, data: bytes) -> bool:
        try:
            return self.labels.parse(data.decode()) is not None
        except UnicodeDecodeError:
            return False

    def _continues(self, data: bytes) -> bool:
        folded = fold(data.decode("utf-8", "replace"))
        return any(fold(name).startswith(folded) for name in self.labels.names)


def _one_space(data: bytes) -> bytes:
    """With one space in place of any white space before it; labels are read without."""
    stripped = data.lstrip(_WHITE_SPACE)
    return data if stripped == data else b" " + stripped


def _escaped(data: bytes) -> bytes:
    """Bytes of text as they stand in a JSON string; no part of a character is ever escaped."""
    return b"".join(_ESCAPES.get(byte) or bytes((byte,)) for byte in data)
