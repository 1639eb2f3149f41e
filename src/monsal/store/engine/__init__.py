"""The SQL engine under the stores on a file and in memory. Not for others: they import `monsal.store`.

It is cut so that each part can be read alone:

    schedule, kept, cache, codes,     pure: which queue is next, known states, codes, the stored form of a text
    text
    database, place, bodies, lock     the file: connections, migrations, damage, large bodies, who owns it
    pending, arrivals                 rows of the open group that are not in the database yet
    fresh, tally                      what was written lately and is wanted in a moment; what is counted and numbered
    writer                            the one connection that writes, and whether the loop has it
    data                              the open store: its connection and what it keeps in memory
    spool, turns, outbox, operator,   what is done to it: functions on `Data`, each within one transaction
    looking, pruning, clients
    operation, hand, bell, opening    calls, threads, wake-ups, the beginning and the way back after an error
    reading                           an application's reading statements, beside the writer
    figures                           what people are told of it
    promises, gathering               who waits for which group; how long a group waits for others
    core, groups, recovery            who may touch the store when; groups and flushes; the way back after an error
    face                              the asynchronous methods of the contract

Start at `face.py`; then `core.py` for *applied, then durable*, and `turns.py` for one turn, one commit (P2).
"""
