"""The numbers of RDB: what follows in a file, how a value is encoded, which version knows what.

They are defined by Redis and on everybody's disks. Version: the first Redis that wrote it.
"""

from __future__ import annotations

from typing import Final

VERSION_MIN: Final = 1
VERSION_MAX: Final = 12
CHECKSUM_VERSION: Final = 5
"""Files of earlier versions end without a checksum."""

REDIS_70: Final = 10
REDIS_72: Final = 11
REDIS_74: Final = 12
"""The versions that can be written, by the Redis that reads them."""

# What comes next, if not a value.
SLOT_INFO: Final = 244  # 7.4
FUNCTION2: Final = 245  # 7.0
FUNCTION_PRE_GA: Final = 246  # 7.0 before its release
MODULE_AUX: Final = 247  # 5.0
IDLE: Final = 248  # 5.0
FREQUENCY: Final = 249  # 5.0
AUX: Final = 250  # 3.2
RESIZE_DB: Final = 251  # 3.2
EXPIRES_MS: Final = 252  # 2.6
EXPIRES_S: Final = 253
SELECT_DB: Final = 254
END: Final = 255

# How a value is encoded.
STRING: Final = 0
LIST: Final = 1
SET: Final = 2
ZSET: Final = 3
HASH: Final = 4
ZSET_2: Final = 5  # 4.0
MODULE_PRE_GA: Final = 6  # 4.0 before its release
MODULE_2: Final = 7  # 4.0
HASH_ZIPMAP: Final = 9  # 2.4
LIST_ZIPLIST: Final = 10  # 2.4
SET_INTSET: Final = 11  # 2.4
ZSET_ZIPLIST: Final = 12  # 2.4
HASH_ZIPLIST: Final = 13  # 2.6
LIST_QUICKLIST: Final = 14  # 3.2
STREAM_LISTPACKS: Final = 15  # 5.0
HASH_LISTPACK: Final = 16  # 7.0
ZSET_LISTPACK: Final = 17  # 7.0
LIST_QUICKLIST_2: Final = 18  # 7.0
STREAM_LISTPACKS_2: Final = 19  # 7.0
SET_LISTPACK: Final = 20  # 7.2
STREAM_LISTPACKS_3: Final = 21  # 7.2
HASH_METADATA_PRE_GA: Final = 22  # 7.4 before its release
HASH_LISTPACK_EX_PRE_GA: Final = 23  # 7.4 before its release
HASH_METADATA: Final = 24  # 7.4
HASH_LISTPACK_EX: Final = 25  # 7.4

# How a string is encoded, where its length would be: the low six bits of a byte from 0xc0 on.
INT8: Final = 0xC0
INT16: Final = 0xC1
INT32: Final = 0xC2
LZF: Final = 0xC3

# Nodes of a LIST_QUICKLIST_2.
PLAIN_NODE: Final = 1
PACKED_NODE: Final = 2

# Parts of a module's value.
MODULE_END: Final = 0
MODULE_SIGNED: Final = 1
MODULE_UNSIGNED: Final = 2
MODULE_FLOAT: Final = 3
MODULE_DOUBLE: Final = 4
MODULE_STRING: Final = 5
