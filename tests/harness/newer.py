"""What the command table of Redis 7.2 has that the redis-server the tests run, 7.0, does not have, or has in
another way. The values are those of 7.2; a test holds that they are Lamina's, and that 7.0 has others.
"""

from __future__ import annotations

from typing import Any, Final

NEW_IN_7_2: Final = frozenset(("CLIENT|NO-TOUCH", "CLIENT|SETINFO", "CLUSTER|MYSHARDID", "WAITAOF"))

NEW_IN_7_4: Final = frozenset(
    "HEXPIRE HEXPIREAT HEXPIRETIME HPERSIST HPEXPIRE HPEXPIREAT HPEXPIRETIME HPTTL HTTL".split()
)
"""The expiry of fields, which is all that Lamina has of 7.4's commands."""

NEWER: Final = NEW_IN_7_2 | NEW_IN_7_4

LAMINAS_OWN: Final = frozenset(("CHECKPOINT",))
"""What no Redis has."""

_ALL_NODES: Final = [b"request_policy:all_nodes", b"response_policy:all_succeeded"]

IN_7_2: Final[dict[str, dict[str, Any]]] = {
    "ACL|DELUSER": {"tips": _ALL_NODES},
    "ACL|SAVE": {"tips": _ALL_NODES},
    "ACL|SETUSER": {"tips": _ALL_NODES},
    "CLIENT|PAUSE": {"since": b"3.0.0"},
    "CLIENT|SETNAME": {"tips": _ALL_NODES},
    "CLUSTER|SHARDS": {"flags": ["loading", "stale"]},
    "CLUSTER|SLOTS": {"flags": ["loading", "stale"]},
    "COMMAND|GETKEYS": {"arity": -3},
    "COMMAND|GETKEYSANDFLAGS": {"arity": -3},
    "CONFIG|RESETSTAT": {"tips": _ALL_NODES},
    "CONFIG|REWRITE": {"tips": _ALL_NODES},
    "LATENCY|RESET": {"tips": [b"request_policy:all_nodes", b"response_policy:agg_sum"]},
    "MSETNX": {"tips": []},
    "PSETEX": {"doc_flags": [b"deprecated"]},
    "QUIT": {"doc_flags": [b"deprecated"]},
    "RANDOMKEY": {
        "tips": [b"nondeterministic_output", b"request_policy:all_shards", b"response_policy:special"]
    },
    "SCAN": {"tips": [b"nondeterministic_output", b"request_policy:special", b"response_policy:special"]},
    "SETEX": {"doc_flags": [b"deprecated"]},
    "SETNX": {"doc_flags": [b"deprecated"]},
    "WAIT": {"flags": []},  # scripts may call it, and do not wait
    "ZRANK": {"arity": -3},  # WITHSCORE
    "ZREVRANK": {"arity": -3},
}
"""What 7.2 says in another way than 7.0, by command."""

FOR_SCRIPTS_IN_7_2: Final = frozenset("BLMOVE BLPOP BRPOP BRPOPLPUSH BZPOPMAX BZPOPMIN WAIT".split())
"""Commands that lost the flag `noscript`: they do not wait in scripts."""

ARGUMENTS_TOLD_DIFFERENTLY: Final = {
    "BITFIELD": "an operation is given twice, as it is written",
    "BITOP": "7.2: the operations are named",
    "CLIENT|LIST": "7.2: the numbers behind ID are one argument",
    "COMMAND|GETKEYS": "7.2: the command's own arguments may be missing",
    "COMMAND|GETKEYSANDFLAGS": "7.2: the command's own arguments may be missing",
    "CONFIG|GET": "7.2: the parameters are one argument",
    "GEOHASH": "7.2: the members may be missing",
    "GEOPOS": "7.2: the members may be missing",
    "GEORADIUS": "7.2: STORE and STOREDIST exclude each other",
    "GEORADIUSBYMEMBER": "7.2: STORE and STOREDIST exclude each other",
    "HSCAN": "7.4: NOVALUES",
    "MODULE|LOADEX": "7.2: ARGS are one argument",
    "PFMERGE": "7.2: the sources may be missing",
    "PSUBSCRIBE": "7.2: the patterns are one argument",
    "XINFO|STREAM": "7.2: FULL and its count are one argument",
    "ZRANK": "7.2: WITHSCORE",
    "ZREVRANK": "7.2: WITHSCORE",
    "CLIENT|KILL": "7.2: SKIPME is yes or no; 7.4: MAXAGE; `slave` is left out",
    "DEBUG": "what it takes is told",
    "GEOSEARCH": "BYBOX is the token of width, height and unit together",
    "GEOSEARCHSTORE": "BYBOX is the token of width, height and unit together",
    "LOLWUT": "it takes the number of columns and rows",
    "MIGRATE": "the empty string in place of a key is a value",
    "REPLCONF": "what it takes is told",
    "XADD": "MINID and its threshold are one argument",
    "XREAD": "STREAMS is the token of the first of the keys",
    "XREADGROUP": "STREAMS is the token of the first of the keys",
    "XTRIM": "MINID and its threshold are one argument",
}
"""Commands whose arguments COMMAND DOCS arranges in another way, by what is different."""
