"""A local Claude Message Batches API over HTTP, for demos, for this package's tests and for users' own.

Run ``claude-batch-emulator`` and point an API client at the URL that it prints; any non-empty key works.
State is in memory. In tests use `emulator.testing`, or the fixture of `emulator.pytest_plugin`. It shares no
code with this package's engine, so that one misreading of the API cannot hide in both.

Time: the emulated clock starts at the real now and runs at real speed, so ``created_at`` is true wall time
and ``expires_at`` is 24 real hours later. ``--speed`` shortens the processing of batches and nothing else;
advancing the clock shifts everything at once: what is due then ends, expires, is archived, goes stale in
the prompt cache.

Admin interface, JSON in and out, no key needed:

=======  =====================================  ===========================================================
method   path                                   what it does
=======  =====================================  ===========================================================
GET      /_emulator/state                       clock, numbers of batches, counters of all requests
POST     /_emulator/reset                       back to how it was started
GET      /_emulator/settings                    all settings (`settings.Settings`)
PATCH    /_emulator/settings                    change those that are named
POST     /_emulator/clock/advance               ``{"seconds": s}``; all that is due has happened on return
GET      /_emulator/faults                      fault rules with how often each matched and hit
POST     /_emulator/faults                      one rule or a list (`faults.Rule`); answers their numbers
DELETE   /_emulator/faults[/{number}]           all rules, or one
GET      /_emulator/batches                     every batch ever created, deleted ones too
POST     /_emulator/batches/{id}/end            end now
POST     /_emulator/batches/{id}/expire         end now, the rest expired: ``{"finished_share": 0.0}``
POST     /_emulator/batches/{id}/archive        end if need be; results are gone
POST     /_emulator/batches/{id}/delete         end if need be; gone, as if somebody had deleted it
POST     /_emulator/batches/{id}/hide           404 for ``{"lookups": n, "seconds": s}``
GET      /_emulator/batches/{id}/custom_ids     plain text, one a line, in the order sent
GET      /_emulator/journal                     API requests; ``?since=n&method=&path=`` (path: regex)
GET      /_emulator/journal/wait                blocks until ``count`` of them were answered, at most
                                                ``timeout`` s (then 504); ``waiting=true`` counts those
                                                that have only arrived, too
GET      /_emulator/ledger                      how many custom_ids were submitted, are live (in a batch in
                                                progress, or answered), were billed; which more than once
=======  =====================================  ===========================================================

A fault rule is ``{"match": {"method", "path", "api_key"}, "skip", "times", "probability", "seed",
"action"}``; without ``times`` it hits all matching requests. Actions by ``kind``, their fields in `faults`:

===================  ==================================================================================
``status``           answer an error: ``status``, ``type``, ``message``, ``details``, ``headers``, ``body``
``status_after``     the same, but the request has been processed
``drop_before``      cut the connection; nothing was processed
``drop_after``       cut the connection; the request was processed, a batch exists
``hang``             hold for ``seconds`` (``when``: before or after processing), then cut
``delay``            answer rightly, ``seconds`` late (``when``: processed before or after the wait)
``cut_results``      end a download at ``fraction``, ``mid_line`` or not, ``clean_end`` or dropped
``duplicate_lines``  send lines twice: ``custom_ids``, or ``count``
``raw_lines``        add ``lines`` (``text``, ``base64`` or ``size``) at ``position`` start, spread or end
``omit``             leave out the lines of ``custom_ids``
``damage_lines``     damage the lines of ``custom_ids``; ``how``: half, garbled, without_id, other_id,
                     joined, torn
===================  ==================================================================================

What goes wrong inside batches (errored, expired, refused requests) is a setting: `settings.Outcomes`.
"""
