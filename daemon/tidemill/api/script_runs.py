"""Runs of plain scripts: a flow that somebody calls in a process of their own reports to the daemon over HTTP.

The values are those of ``tidemill.core.script_runs``, encoded and decoded with msgspec as JSON. As on every route the
body needs ``Content-Type: application/json``, and errors are ``{"detail": text}``.

``POST /api/script_runs/``: ScriptBegins → 201 ScriptBegun
    Begin a run that no deployment has: it is RUNNING and durable when this answers. A lost answer is asked for again
    with the same ``key``; it begins nothing anew while the run lives, and is 409 once it has ended.
``POST /api/script_runs/{id}/reports``: ScriptReports → 200 ScriptHeard
    Reports in their order; answered when all of them are durable, so an answer is also a flush. ``number`` is 1 for
    the first body of a session, then 2, and so on, an end included; a body is taken once: sent again after a lost
    answer, under the same number, it is answered and not taken twice. One body at a time: a gap is 409. A body is at
    most 4 MiB and 10,000 reports. An empty one is a sign of life.
``POST /api/script_runs/{id}/ask``: ScriptAsks → 200 ScriptAnswer
    A question, kept waiting for at most ``wait_s`` (20 s); ``answered`` false: ask again with the same ``number``.
    Questions have numbers of their own and may be asked side by side (1,000 at most); one is forgotten 60 s after its
    answer. What was reported before, and must be known to the answer, is sent first. Not to be had over HTTP: secrets,
    and blocks that hold some (422): a script reads its own.
``POST /api/script_runs/{id}/end``: ScriptEnds → 200 the flow run's document
    The end: terminal and durable when this answers. Sent again it answers the same.

The lease: a run whose script has said nothing (reports, questions or an end; a question that is being waited for
counts) for ``lease_s`` is CRASHED "the script stopped reporting", and its slots and subflows go with it; so report or
send an empty body every ``heartbeat_s``. A restarted daemon gives every script a new lease: numbers go on counting
where they were (the first body after a restart may have any number), slots are lost as with any restart and questions
are asked anew.

Cancelling: ``cancel`` in an answer is the reason for which the script is to end itself as CANCELLED. It has its lease's
time for it, after which the run is CANCELLED without it.

404: there is no such run. 409: it is not this session's, or it has ended without its script: nothing more is taken,
and a script may go on by itself. 503: the store cannot write now: send the same again.
"""
