"""Where the redis-server compared with and Lamina answer differently on purpose.

Lamina follows Redis 7.2 (and 7.4 for the expiry of hash fields), the reference may be an older one. Every
difference is listed here, as narrowly as it can be said: a difference applies only if the command, the
reference's reply and the tested server's reply all match. Nothing else may differ.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference. The expressions must match from the beginning of what they are held against."""

    why: str
    command: str
    """Of the command's words in lower case, joined by spaces."""
    reference: str
    """Of the reference's reply as it was on the wire."""
    tested: str
    """Of the tested server's reply."""

    def applies(self, words: Sequence[bytes], reference: bytes, tested: bytes) -> bool:
        """Tell whether this difference explains two replies to one command."""
        return (
            _matches(self.command, b" ".join(words).lower())
            and _matches(self.reference, reference)
            and _matches(self.tested, tested)
        )


def _matches(expression: str, text: bytes) -> bool:
    return re.match(expression.encode("latin-1"), text, re.DOTALL) is not None


NEW_IN_7_2 = "client no-touch|client setinfo|waitaof|command docs|object help|xinfo help"

DIFFERENCES = (
    Difference(
        "Redis remembers how a string was made; Lamina goes by what it is",
        "object encoding ",
        r"\$(3\r\nraw|6\r\nembstr)",
        r"\$(6\r\nembstr|3\r\nint)",
    ),
    Difference(
        "7.2: a short list is a listpack",
        "object encoding ",
        r"\$9\r\nquicklist",
        r"\$8\r\nlistpack",
    ),
    Difference(
        "7.2: blocking commands may be called from scripts, in which they do not wait",
        "command info (blpop|brpop|blmove|brpoplpush)$",
        ".*noscript",
        "(?!.*noscript)",
    ),
    Difference(
        "7.2: LPOS refuses the smallest of all ranks",
        "lpos .* rank -9223372036854775808",
        "",
        r"-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
    ),
    Difference(
        "7.2: a timeout too large for the clock is out of range, not negative",
        "(blpop|brpop|blmove|brpoplpush|blmpop|bzpopmin|bzpopmax|bzmpop) ",
        r"-ERR timeout is negative",
        r"-ERR timeout is out of range",
    ),
    Difference(
        "7.2: a small set of strings is a listpack",
        "object encoding ",
        r"\$9\r\nhashtable",
        r"\$8\r\nlistpack",
    ),
    Difference(
        "7.2: ZRANK and ZREVRANK take WITHSCORE",
        r"(zrank|zrevrank) .* withscore$",
        r"-ERR (wrong number of arguments|syntax error)",
        r"[:*_$]",
    ),
    Difference(
        "7.2: ZRANK and ZREVRANK take a fourth argument, so that a wrong one is a syntax error",
        r"(zrank|zrevrank) ",
        r"-ERR wrong number of arguments",
        r"-ERR syntax error",
    ),
    Difference(
        "7.2: who lacks which permission is said in new words",
        "",
        r"-NOPERM this user has no permissions",
        r"-NOPERM User \S+ has no permissions",
    ),
    Difference(
        "7.2: BITCOUNT and BITPOS check their arguments even if the key does not exist",
        "(bitcount|bitpos) ",
        r":(0|-1)\r\n",
        r"-ERR (value is not an integer|syntax error)",
    ),
    Difference(
        "7.2: a blocked reader whose stream goes away gets the reason that reading would give now",
        "xreadgroup ",
        r"-UNBLOCKED ",
        r"-(NOGROUP|WRONGTYPE) ",
    ),
    Difference(
        "7.2: new subcommands",
        f"({NEW_IN_7_2})",
        r"-ERR unknown (command|subcommand)",
        "",
    ),
    Difference(
        "7.4: expiry of hash fields",
        "(hexpire|hpexpire|hexpireat|hpexpireat|hexpiretime|hpexpiretime|httl|hpttl|hpersist)",
        r"-ERR unknown command",
        "",
    ),
)


def explanation(words: Sequence[bytes], reference: bytes, tested: bytes) -> str | None:
    """Return why two replies may differ, or None if they may not."""
    for difference in DIFFERENCES:
        if difference.applies(words, reference, tested):
            return difference.why
    return None


__all__ = ["DIFFERENCES", "Difference", "explanation"]
