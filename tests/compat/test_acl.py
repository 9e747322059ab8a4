"""Users and their rules, side by side: what is taken, what is shown, what it allows."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.compat import Pair
from harness.users import forget_users, listed, run, show, users

__all__ = ["users"]

REFUSED = r"""
ACL SETUSER
ACL SETUSER "a b" on
ACL SETUSER u foo
ACL SETUSER u off on ON Off
ACL SETUSER u ""
ACL SETUSER "" on
ACL SETUSER u %~a
ACL SETUSER u %RR~a
ACL SETUSER u %RWR~a
ACL SETUSER u %x~a
ACL SETUSER u "~a b"
ACL SETUSER u "~a	b"
ACL SETUSER u "&a b"
ACL SETUSER u allkeys ~a
ACL SETUSER u ~a allkeys %R~b
ACL SETUSER u allchannels &a
ACL SETUSER u &a &* &b
ACL SETUSER u +nosuch
ACL SETUSER u -nosuch
ACL SETUSER u +
ACL SETUSER u -
ACL SETUSER u +@
ACL SETUSER u +@nosuch
ACL SETUSER u -@nosuch
ACL SETUSER u +config|nosuch
ACL SETUSER u -config|nosuch
ACL SETUSER u +config|get|x
ACL SETUSER u -config|get|x
ACL SETUSER u +config|
ACL SETUSER u -config|
ACL SETUSER u +select|
ACL SETUSER u +select|1|2
ACL SETUSER u -select|1
ACL SETUSER u +nosuch|1
ACL SETUSER u +|1
ACL SETUSER u <nopw
ACL SETUSER u #abc
ACL SETUSER u !abc
ACL SETUSER u #E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855
ACL SETUSER u !e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855
ACL SETUSER u (~a
ACL SETUSER u "(~a" +get x
ACL SETUSER u ()a
ACL SETUSER u (foo)
ACL SETUSER u (on)
ACL SETUSER u "(~a (b) +get)"
ACL SETUSER u "(~a" "(b)"
ACL SETUSER u on >p +@all ~x foo
ACL GETUSER
ACL GETUSER nosuch
ACL GETUSER default x
ACL DELUSER
ACL DELUSER default
ACL DELUSER u default
ACL DELUSER nosuch
ACL DELUSER nosuch "" u u
ACL USERS x
ACL LIST x
ACL LOAD
ACL SAVE
ACL LOAD x
ACL SAVE x
ACL LOG x
ACL LOG -1
ACL LOG 1.5
ACL LOG 1 2
ACL LOG reset x
ACL LOG reset
ACL DRYRUN
ACL DRYRUN default
ACL DRYRUN nosuch get
ACL DRYRUN default nosuch
ACL DRYRUN default get
ACL DRYRUN default GET k
ACL DRYRUN default config
ACL DRYRUN default config nosuch
ACL DRYRUN default CONFIG get
ACL DRYRUN default ping a b
ACL DRYRUN default acl getuser
AUTH
AUTH nobody x
AUTH default x
AUTH x
AUTH a b c
HELLO 3 AUTH nobody x
CLIENT KILL USER nosuch
CLIENT KILL USER default
CONFIG SET acl-pubsub-default x
CONFIG SET acllog-max-len -1
CONFIG SET aclfile x
ACL WHOAMI
ACL USERS
"""


def test_what_is_refused(users: Pair) -> None:
    run(users, REFUSED)
    users.pairs("CONFIG", "GET", "acl*")


RULES = {
    "new": "",
    "passwords": ">a >b >a <b #e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "no password": ">a nopass",
    "a password again": "nopass >a",
    "resetpass": ">a nopass resetpass on",
    "removed by hash": "> >b !e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "keys": "~a* %R~b %W~c %RW~d %WR~e %r~f %R~c %W~b ~a* ~",
    "all keys for reading": "%R~* ~b",
    "allkeys": "~a allkeys",
    "resetkeys": "allkeys resetkeys ~b",
    "channels": "&a* &b &a* &",
    "allchannels": "&a allchannels",
    "resetchannels": "allchannels resetchannels &b",
    "a command": "+get -set +GET",
    "a container": "+config -config|get",
    "a container, later": "+config|get +config",
    "subcommands": "+config|get +CONFIG|SET +acl|list -acl",
    "taken away": "+@all -config|get -@write",
    "given back": "+@all -get +get",
    "first arguments": "+select|0 +select|1 +SELECT|a +debug|digest -debug +debug|log",
    "first argument of an allowed one": "+select|0 +select +get|x -get",
    "categories": "+@read -hget +@hash -@dangerous +@READ",
    "all but": "allcommands -@admin -@dangerous +info +acl|whoami",
    "begun anew": "+get nocommands +set +@all -set",
    "selectors": "(~a +get) (%R~b &c +@all -@write +set) ( ) (allkeys allcommands allchannels)",
    "a selector in words": "(~a +get &b) ~c +set (~d)",
    "clearselectors": "(~a +get) clearselectors (~b)",
    "flags": "skip-sanitize-payload on",
    "flags again": "skip-sanitize-payload sanitize-payload",
    "reset": "on >p ~a &b +get (~c +set) skip-sanitize-payload reset",
    "quotes in a selector": """(~a"b +get) ('~a' "+get")""",
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES.keys())
def test_what_is_shown(users: Pair, rules: str) -> None:
    users("ACL", "SETUSER", "u", *rules.split(" "))
    show(users, "u")


def test_changes_one_by_one(users: Pair) -> None:
    for rules in RULES.values():
        users.by(type, "ACL", "SETUSER", "u", *rules.split(" "))
        show(users, "u")
    users.by(listed, "ACL", "LIST")


def test_channels_by_default(users: Pair) -> None:
    users("CONFIG", "SET", "acl-pubsub-default", "allchannels")
    try:
        users("ACL", "SETUSER", "u", "(~a)", "on")
        users("ACL", "SETUSER", "v", "&a")
        users("ACL", "SETUSER", "v", "resetchannels", "&a", "(&b)")
        users("ACL", "SETUSER", "w", "resetchannels", "reset")
    finally:
        users("CONFIG", "SET", "acl-pubsub-default", "resetchannels")
    users("ACL", "SETUSER", "u", "(~b)")
    users.by(listed, "ACL", "LIST")


CALLS = (
    """
get r1|get w1|get b1|get z|set r1 x|set w1 x|set w1 x get|set b1 x|exists r1|exists w1|exists z|copy r1 w2
copy w1 w2|copy r1 r2|select 0|select 1|select A|select 2|config get x|config set x y|config rewrite
publish ch1 x|publish d x|subscribe ch1 d|subscribe ch1|psubscribe ch*|psubscribe ch1|unsubscribe z
punsubscribe z|spublish ch1 x|spublish d x|ssubscribe d|ssubscribe ch2 ch3|sunsubscribe z|pubsub channels
sort r1 by w* get x*|sort r1 store w1|sort r1 store r2|sort_ro r1|mget r1 b1 z1|mget r1 r2|mset w1 1 b1 2
mset w1 1 r1 2|zunionstore w1 2 r1 b1|zunionstore w1 x r1 b1|zunionstore w1 9 r1 b1|zunionstore r1 1 b1
zunion 2 r1 w1|auth x y|hello 3|quit|reset|rename b1 b2|rename r1 b2|rename w1 w2|getex r1|getex b1
migrate h 1 r1 0 1|migrate h 1 '' 0 1 keys b1 r1|migrate h 1 '' 0 1 keys b1 b2|object encoding z
object encoding w1|memory usage z|memory usage r1|watch z|watch w1|touch z|type z|type r1|lmpop 1 b1 left
lmpop 1 r1 left|lmpop 2 b1 b2 left|blpop b1 w1 0|blpop b1 b2 0|brpoplpush b1 w1 0|lmove r1 w1 left left
del r1|del w1|unlink b1 z|expire r1 1|ttl r1|ttl w1|persist b1|keys *|scan 0|dbsize|randomkey|flushall|ping
info|acl whoami|acl list|client id|client list|multi|exec|discard|incr w1|incr b1|append w1 x|getset b1 x
getdel b1|getdel w1|hset w1 a b|hget r1 a|hgetall w1|lpush w1 1|lrange r1 0 1|sadd w1 1|smembers r1
sintercard 2 r1 b1|sinterstore w1 r1|sinterstore b1 r1|spop b1|spop w1|smove b1 b2 x|smove b1 w2 x|zadd w1 1 a
zrange r1 0 1|zrangestore w1 r1 0 1|zrangestore r1 w1 0 1|dump r1|dump w1|restore w1 0 x|restore r1 0 x
setnx w1 1|msetnx w1 1 b1 2|lcs r1 r2|lcs r1 w1|wait 0 0|swapdb 0 1|monitor|debug object z|debug digest|time
""".replace("\n", "|")
    .strip("|")
    .split("|")
)

POLICIES = {
    "keys and channels": "resetkeys %R~r* %W~w* ~b* +@all &ch*",
    "commands": "allkeys allchannels +@read +set -get +select|0 +select|a +config|get +client -client|list",
    "all but dangerous": "allkeys allchannels +@all -@dangerous -@pubsub +subscribe",
    "nothing": "allkeys allchannels",
    "selectors": "~b* +@all (%R~r* +@read) (%W~w* +@write) (&ch* +publish +psubscribe) (~z +exists +type)",
    "a selector that comes closer": "(~b* +get) (+publish) (~r1 +mget +publish &ch*) (+copy ~r1)",
    "patterns with brackets": r"+@all ~[br][12] &c[^d]? %R~\w*",
}


@pytest.mark.parametrize("rules", POLICIES.values(), ids=POLICIES.keys())
def test_dry_runs(users: Pair, rules: str) -> None:
    users("ACL", "SETUSER", "u", *shlex.split(rules) if "(" not in rules else rules.split(" "))
    for call in CALLS:
        users("ACL", "DRYRUN", "u", *shlex.split(call))


COMMANDS = (
    "get set GET config config|get config|set CONFIG|Rewrite acl|list client client|id select hset del"
    " publish"
    " subscribe ping auth sort nosuch config|nosuch object object|encoding"
).split()
GROUPS = (
    "all read WRITE dangerous admin keyspace fast slow pubsub connection hash string blocking nosuch".split()
)

COMMAND_RULES = st.one_of(
    st.builds("{}{}".format, st.sampled_from("+-"), st.sampled_from(COMMANDS)),
    st.builds("{}@{}".format, st.sampled_from("+-"), st.sampled_from(GROUPS)),
    st.builds(
        "+{}|{}".format, st.sampled_from(["select", "get", "config"]), st.sampled_from(["0", "a", "A", "get"])
    ),
    st.sampled_from(["allcommands", "nocommands"]),
)
# %RW~* beside others is what Redis shows in a way that cannot be given back.
PATTERNS = st.text("abrw1*?[]^-\\", max_size=4).filter(lambda pattern: pattern != "*")
OTHER_RULES = st.one_of(
    st.builds("{}~{}".format, st.sampled_from(["", "%R", "%W", "%RW", "%wr"]), PATTERNS),
    st.builds("&{}".format, PATTERNS),
    st.sampled_from("allkeys resetkeys allchannels resetchannels ~* &*".split()),
)
SELECTOR_RULES = st.one_of(COMMAND_RULES, OTHER_RULES)
USER_RULES = st.one_of(
    SELECTOR_RULES,
    SELECTOR_RULES,
    st.sampled_from("on off nopass resetpass >a >b <a reset clearselectors sanitize-payload".split()),
    st.lists(SELECTOR_RULES, max_size=5).map(lambda words: f"({' '.join(words)})"),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=st.lists(st.lists(USER_RULES, max_size=6), min_size=1, max_size=5),
    calls=st.lists(st.sampled_from(CALLS), max_size=12, unique=True),
)
def test_drawn_rules(users: Pair, steps: list[list[str]], calls: list[str]) -> None:
    users.both(forget_users)
    users("ACL", "SETUSER", "u")
    for rules in steps:
        users("ACL", "SETUSER", "u", *rules)
        show(users, "u")
    for call in calls:
        users("ACL", "DRYRUN", "u", *shlex.split(call))
