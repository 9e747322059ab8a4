"""The `lamina` command: one module per verb, and below each what it is made of.

    cli          finds the verb                         console      what all verbs share
    serve        the server
    check        logical, with logicalsource (reads and findings), logicalfixes, logicalrecords,
                 logicalelements, logicalstreams, logicalindexes, pairsums: does the Redis data fit together?
    repair       the engine's repair, and what `logical` mends
    compact      the engine's compaction; reclaim estimates
    dump         dumpfiles, segmentfile, walfile        find         haystack, provenance
    stats        survey, plot
    backup       backuplist, backupsource, serverlink, taking, copying; repository and backuprecord are what
                 lies there, retention decides what stays, verifying reads it all
    restore      restoring
    importing    filling, intake, keyfilter, freshdatabase, merging; commandfile, aofmanifest, localserver,
                 jsonlines and jsonstreams read
    exporting    commandwriter, jsonlines and jsonstreams write

Shared: rediskeys, redisview with streamview, views and selection say what engine entries mean, and which of
them are wanted; damage says what is damaged. No verb imports another, but for repair, which shows findings as
check does.
"""
