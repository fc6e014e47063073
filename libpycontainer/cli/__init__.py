"""``pyrunc``: runc's command line over this library.

    main.py       reads the global options, finds the verb, turns an error into a message and a code
    command.py    what a verb declares, and what it is handed when it runs
    options.py    one command line cut into flags and arguments, with the habits of runc's parser
    usage.py      the help texts and ``--version``
    manual.py     what the help says beyond the tables of flags
    completion.py ``--generate-completion``, from the same tables
    log.py        runc's log lines: text or JSON, on standard error or in a file
    messages.py   the sentence that a client of runc expects for each of the library's exceptions
    output.py     what goes to standard output: JSON as Go writes it, complete or an error
    signals.py    names of signals, and the queue that they are forwarded from
    launch.py     what ``run``, ``create`` and ``exec`` share: the bundle, the terminal's rules
    readiness.py  systemd's NOTIFY_SOCKET, for those that start a container
    criu.py       the flags of checkpoint and restore, and what their values may be
    measurements.py  the document that ``events`` shows
    foreground.py waits for a process, meanwhile forwards signals and relays terminals
    <verb>.py     one verb each; ``VERBS`` in main.py lists them

A cold start is most of what ``state`` or ``kill`` cost, so a module here imports at its top only
what every run of it needs, and never argparse, json, logging, signal or socket: the built-in
modules under them are enough.
"""
