"""Access control: who may call which commands, with which keys, on which channels.

    rules.py      the words that rules are written in, and what is wrong with them
    selector.py   one set of permissions: commands, key patterns, channel patterns
    user.py       a user: a name, passwords, selectors of which one must allow a call
    access.py     whether a user may make a call, and what is answered if not
    userfile.py   users in a file: aclfile
    log.py        calls and passwords that were refused: ACL LOG
    users.py      all users of a server, and what a change of one does to clients

Whose user may do everything does not pay for this: the gate `RESTRICTED` of client.py is closed for all
others.
"""
