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
        "7.2: ZRANK and ZREVRANK take a fourth argument, so that their keys are found in such a call",
        r"command (getkeys|getkeysandflags) (zrank|zrevrank) \S+ \S+ ",
        r"-ERR Invalid number of arguments specified for command",
        r"\*1\r\n",
    ),
    Difference(
        "of several STOREs all are keys: Redis names, and asks ACLs for, the first, and stores in the last",
        r"command (getkeys|getkeysandflags) georadius(bymember)? .* (store|storedist) .*(store|storedist)",
        r"\*\d+\r\n",
        r"\*\d+\r\n",
    ),
    Difference(
        "SORT that stores in a key named STORE: Redis takes that for the option again",
        r"command (getkeys|getkeysandflags) sort .* store store( |$)",
        r"\*\d+\r\n",
        r"\*\d+\r\n",
    ),
    Difference(
        "7.2: COMMAND GETKEYS takes a command without arguments",
        r"command (getkeys|getkeysandflags) \S*$",
        r"-ERR wrong number of arguments for 'command\|(getkeys|getkeysandflags)' command",
        r"-ERR (The command has no key arguments|Invalid )",
    ),
    Difference(
        "7.2: who lacks which permission is said in new words",
        "",
        r"-(EXECABORT Transaction discarded because of: )?NOPERM this user has no permissions to run the '",
        r"-(EXECABORT Transaction discarded because of: )?NOPERM User \S+ has no permissions to run the '",
    ),
    Difference(
        "7.2: who lacks which permission is said in new words",
        "",
        r"-NOPERM this user has no permissions to access one of the (keys|channels) used as arguments\r\n",
        r"-NOPERM No permissions to access a (key|channel)\r\n",
    ),
    Difference(
        "7.2: ACL DRYRUN names the user",
        "acl dryrun ",
        r"\$\d+\r\nThis user has no permissions to (run|access) the '",
        r"\$\d+\r\nUser \S+ has no permissions to (run|access) the '",
    ),
    Difference(
        "7.2: BITCOUNT and BITPOS check their arguments before the key, and if there is none",
        "(bitcount|bitpos) ",
        r":(0|-1)\r\n|-WRONGTYPE ",
        r"-ERR (value is not an integer|syntax error)",
    ),
    Difference(
        "7.2: a blocked reader whose stream goes away gets the reason that reading would give now",
        "xreadgroup ",
        r"-UNBLOCKED ",
        r"-(NOGROUP|WRONGTYPE) ",
    ),
    Difference(
        "7.2: an odd list of streams is complained of in the name of the command that has it",
        "(xread|xreadgroup) ",
        r"-ERR Unbalanced XREAD list of streams",
        r"-ERR Unbalanced '(xread|xreadgroup)' list of streams",
    ),
    Difference(
        "7.2: consumers know when they were last given something",
        "xinfo (consumers|stream) ",
        r".*\$4\r\nname\r\n",
        r".*\$(8\r\ninactive|11\r\nactive-time)\r\n",
    ),
    Difference(
        "7.2: XSETID refuses an id below that of an entry that was removed",
        "xsetid ",
        r"(\+OK|-ERR The ID specified in XSETID is smaller than the target stream top item)",
        r"-ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
    ),
    Difference(
        "XADD says of milliseconds without any sequence number left that the id is too small",
        r"xadd .*-\*",
        r"-ERR Elements are too large to be stored",
        r"-ERR The ID specified in XADD is equal or smaller than the target stream top item",
    ),
    Difference(
        "7.4: XREAD takes + for the last entry, and XREADGROUP says what is wrong with it",
        r"(xread|xreadgroup) .*streams .* \+( |\0|$)",
        r"-ERR Invalid stream ID specified as stream command argument",
        r"(\*|%|_|-ERR The \+ ID is meaningless)",
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
