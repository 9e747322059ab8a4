"""Redis's files and payloads: a codec that knows nothing of how Lamina stores things.

    loading.py    RdbReader: a file, item by item          saving.py     RdbWriter: the other way round
    payload.py    decode(), encode(): DUMP payloads        rules.py      SavingRules: versions and limits
    values.py     what all of them take and give           errors.py     what reading raises

    with open("dump.rdb", "rb", buffering=0) as file:
        for item in RdbReader(file):
            if not isinstance(item, Key):
                continue                                   # Aux, Function, DatabaseSize, Skipped
            value = item.value
            if isinstance(value, bytes):
                ...                                        # a string
            elif isinstance(value, HashValue):
                for chunk in value.chunks:                 # some thousand fields: a large hash is never whole
                    for field, content in chunk: ...

    value = payload.decode(data)                           # the same classes, whole in memory
    data = payload.encode(value, SavingRules(version=REDIS_72))

Reading: source.py (the buffer) < listpack.py ziplist.py intset.py zipmap.py lzf.py (packed strings)
< streams.py decoding.py (values) < loading.py. Writing: lengths.py (strings) < listpack.py intset.py
< listpacking.py streampacking.py encoding.py (values) < saving.py.

Bytes come from strangers. Whatever they say, reading ends in RdbError, and memory is bounded by what has been
read, not by what was claimed: a chunk, a packed string, a consumer group.
"""
