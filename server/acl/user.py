"""A user: a name, passwords, and selectors, of which the first is the user's own; others are in parentheses.

Passwords are kept as SHA-256 hashes. A user without any who is not `nopass` cannot log in.
"""

from __future__ import annotations

import re
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from lamina.server.acl.rules import (
    BAD_HASH,
    NO_SUCH_PASSWORD,
    RuleError,
    UnmatchedError,
    merge_selectors,
)
from lamina.server.acl.selector import Selector

DEFAULT: Final = b"default"
"""The user that connections have before they log in."""

_is_hash = re.compile(rb"[0-9a-f]{64}").fullmatch
_ALL: Final = (b"on", b"nopass", b"~*", b"&*", b"+@all")


class User:
    """A user; a new one is off and may do nothing."""

    __slots__ = ("is_on", "is_passless", "name", "passwords", "sanitizes_payloads", "selectors")

    def __init__(self, name: bytes, *, opens_channels: bool = False) -> None:
        """`opens_channels` is what acl-pubsub-default says."""
        self.name = name
        self.is_on = False
        self.is_passless = False
        """Whether any password is the right one."""
        self.sanitizes_payloads = True
        """Kept for Redis's clients: payloads of RESTORE are checked whoever brings them."""
        self.passwords: dict[bytes, None] = {}  # a set that keeps its order
        self.selectors = [Selector(allows_all_channels=opens_channels)]

    def __repr__(self) -> str:
        return f"<user {self.name!r}>"

    @classmethod
    def unlimited(cls, name: bytes) -> User:
        """Return one that may do everything, without a password: what the default user is at first."""
        user = cls(name)
        for word in _ALL:
            user.obey(word, opens_channels=False)
        return user

    def copy(self) -> User:
        """Return a user who may be changed without this one."""
        other = User(self.name)
        other.become(self)
        return other

    def become(self, other: User) -> None:
        """Be what another user is, but for the name: those who are logged in as this one are so at once."""
        self.is_on = other.is_on
        self.is_passless = other.is_passless
        self.sanitizes_payloads = other.sanitizes_payloads
        self.passwords = dict(other.passwords)
        self.selectors = [selector.copy() for selector in other.selectors]

    @property
    def is_limited(self) -> bool:
        """Whether there is anything that the user may not do."""
        return not any(selector.allows_everything for selector in self.selectors)

    # -- rules -------------------------------------------------------------------------------------

    def obey_all(self, words: list[bytes], *, opens_channels: bool) -> None:
        """Change the user as words say, in turn. Errors: UserRuleError, after which the user is of no use."""
        try:
            merged = merge_selectors(words)
        except UnmatchedError as error:
            raise UserRuleError(error.word, error) from None
        for word in merged:
            try:
                self.obey(word, opens_channels=opens_channels)
            except RuleError as error:
                raise UserRuleError(word, error) from None

    def obey(self, word: bytes, *, opens_channels: bool) -> None:
        """Change the user as one word says; one that is empty says nothing. Errors: RuleError."""
        name = word.lower()
        if name == b"on":
            self.is_on = True
        elif name == b"off":
            self.is_on = False
        elif name in (b"nopass", b"resetpass"):
            self.is_passless = name == b"nopass"
            self.passwords.clear()
        elif name in (b"sanitize-payload", b"skip-sanitize-payload"):
            self.sanitizes_payloads = name == b"sanitize-payload"
        elif word.startswith((b">", b"#")):
            self.passwords[_hash_in(word)] = None
            self.is_passless = False
        elif word.startswith((b"<", b"!")):
            hashed = _hash_in(word)
            if hashed not in self.passwords:
                raise RuleError(NO_SUCH_PASSWORD)
            del self.passwords[hashed]
        elif word.startswith(b"(") and word.endswith(b")"):
            self.selectors.append(Selector.parse(word, allows_all_channels=opens_channels))
        elif name == b"clearselectors":
            del self.selectors[1:]
        elif name == b"reset":
            self.become(User(self.name, opens_channels=opens_channels))
        elif word:
            self.selectors[0].obey(word)

    # -- what is shown -----------------------------------------------------------------------------

    @property
    def flags(self) -> list[bytes]:
        """The words that are no permissions."""
        words = [b"on" if self.is_on else b"off"]
        if self.is_passless:
            words.append(b"nopass")
        words.append(b"sanitize-payload" if self.sanitizes_payloads else b"skip-sanitize-payload")
        return words

    def describe(self) -> bytes:
        """Return words that make a user like this one."""
        own, *further = self.selectors
        return b" ".join(
            [
                *self.flags,
                *[b"#" + hashed for hashed in self.passwords],
                own.describe(),
                *[b"(%b)" % selector.describe() for selector in further],
            ]
        )

    # -- logging in --------------------------------------------------------------------------------

    def is_password(self, password: bytes) -> bool:
        """Tell whether somebody who says this password is the user, in a time that does not tell how wrong
        it is."""
        hashed = hash_password(password)
        found = [compare_digest(hashed, known) for known in self.passwords]
        return self.is_on and (self.is_passless or any(found))


class UserRuleError(RuleError):
    """A word among a user's that cannot be obeyed, and `reason`, which is why."""

    def __init__(self, word: bytes, reason: RuleError) -> None:
        super().__init__(str(reason))
        self.word = word
        self.reason = reason

    @property
    def message(self) -> bytes:
        """What ACL SETUSER says."""
        if isinstance(self.reason, UnmatchedError):
            return b"Unmatched parenthesis in acl selector starting at '%b'." % self.word
        return b"Error in ACL SETUSER modifier '%b': %b" % (self.word, str(self.reason).encode())


def hash_password(password: bytes) -> bytes:
    """Return what is kept of a password."""
    return sha256(password).hexdigest().encode()


def _hash_in(word: bytes) -> bytes:
    """Return the hash that a word is about: >password and <password, #hash and !hash. Errors: RuleError."""
    if word[:1] in b"><":
        return hash_password(word[1:])
    if _is_hash(word[1:]) is None:
        raise RuleError(BAD_HASH)
    return word[1:]


__all__ = ["DEFAULT", "User", "UserRuleError", "hash_password"]
