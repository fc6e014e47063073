"""What the help texts say beyond the tables of flags: exit codes, examples, the environment.

Only ``--help`` loads this; a verb that does its work does not pay for the words about it.
"""

from __future__ import annotations

Sections = tuple[tuple[str, str], ...]


def _codes(*rows: tuple[str, str]) -> tuple[str, str]:
    width = max(len(code) for code, _ in rows) + 2
    return "EXIT CODE", "\n".join(f"   {code:<{width}}{meaning}" for code, meaning in rows)


_DONE = ("0", "it is done")
_FAILED = ("1", "it could not be done, or the command line is wrong; standard error says why")
_PLAIN = _codes(_DONE, _FAILED)
_BUNDLE_EXAMPLE = """\
   A bundle with a static busybox in it, run by the name of hello:

       mkdir -p hello/rootfs/bin
       cp /usr/bin/busybox hello/rootfs/bin/sh
       pyrunc spec --bundle hello
       pyrunc {verb} --bundle hello hello"""
_NOTIFY = """\
   NOTIFY_SOCKET           whom to tell that the container is ready (man 3 sd_notify): see start"""
_SOCKETS = """\
   LISTEN_FDS, LISTEN_PID  descriptors from 3 on that the container gets (man 3 sd_listen_fds)"""

PROGRAM: Sections = (
    _codes(
        ("0", "it is done, or help or the version was asked for"),
        ("1", "it could not be done, or the command line is wrong; standard error says why"),
        ("3", "there is no such command"),
        ("255", "exec could not start the process"),
        (
            "other",
            "run and exec, unless detached, end with the exit code of the process: 128 and the"
            " number\n          of the signal where one killed it",
        ),
    ),
    (
        "LOG",
        """\
   Errors and warnings are lines on standard error, or in the file of --log; an error is then also
   on standard error, as its bare message. With --log-format json each line is an object with the
   keys "level", "msg" and "time". The last error is why the command failed.""",
    ),
    (
        "ENVIRONMENT",
        """\
   XDG_RUNTIME_DIR  the state root of a caller without privilege lies in it
   PATH             where ps is found, and the programs of hooks without a path""",
    ),
    (
        "FILES",
        """\
   config.json          the configuration in a bundle; see the runtime specification
   /run/libpycontainer  the state root, a directory for each container""",
    ),
)

VERBS: dict[str, Sections] = {
    "checkpoint": (_codes(_FAILED),),
    "create": (
        _codes(("0", "the container waits for start"), _FAILED),
        ("ENVIRONMENT", f"{_NOTIFY}\n{_SOCKETS}"),
        (
            "EXAMPLES",
            "   Created, looked at, started and deleted:\n\n"
            "       pyrunc create --bundle hello --pid-file hello.pid hello\n"
            "       pyrunc state hello\n"
            "       pyrunc start hello\n"
            "       pyrunc delete --force hello",
        ),
    ),
    "delete": (_codes(("0", "it is gone; with --force also when it was not there"), _FAILED),),
    "events": (
        _codes(("0", "the container has ended, or its --stats were shown"), _FAILED),
        (
            "OUTPUT",
            """\
   One JSON object a line, with the keys "type" ("stats" or "oom"), "id" and, for measurements,
   "data".""",
        ),
        ("EXAMPLES", "   pyrunc events --stats hello\n   pyrunc events --interval 1m30s hello"),
    ),
    "exec": (
        _codes(
            ("0", "detached: the process runs"),
            ("255", "the process could not be started; standard error says why"),
            ("1", "the command line is wrong"),
            ("other", "the exit code of the process, or 128 and the signal that killed it"),
        ),
        (
            "CGROUPS",
            """\
   The process is in the container's own groups, unless --cgroup names one below them, which must
   be there already. On cgroup v2 it is one path. On v1 a path alone is meant for every hierarchy;
   controller[,controller...]:path, which may be repeated, is meant for these, and the process is
   in the container's own group of the others.""",
        ),
        (
            "EXAMPLES",
            "   pyrunc exec --tty hello sh\n"
            "   pyrunc exec --user 1000:1000 --cwd /tmp --env LANG=C hello id\n"
            "   pyrunc exec --process process.json --detach --pid-file p.pid hello\n"
            "   pyrunc exec --cgroup workers hello ps\n"
            "   pyrunc exec --cgroup memory,cpu:workers hello ps",
        ),
    ),
    "features": (_PLAIN,),
    "kill": (
        _codes(("0", "the signal was sent; with --all also when nobody was left"), _FAILED),
        (
            "EXAMPLES",
            "   pyrunc kill hello\n   pyrunc kill hello 9\n   pyrunc kill --all hello TERM",
        ),
    ),
    "list": (
        _PLAIN,
        ("EXAMPLES", "   pyrunc list --format json\n   pyrunc --root /run/mine list --quiet"),
    ),
    "pause": (_PLAIN,),
    "ps": (
        _PLAIN,
        ("EXAMPLES", "   pyrunc ps hello -o pid,rss,cmd\n   pyrunc ps --format json hello"),
    ),
    "restore": (_codes(_FAILED),),
    "resume": (_PLAIN,),
    "run": (
        _codes(
            ("0", "detached: the container runs"),
            _FAILED,
            (
                "other",
                "the exit code of the container's process, or 128 and the signal that killed it",
            ),
        ),
        ("ENVIRONMENT", f"{_NOTIFY}\n{_SOCKETS}"),
        ("EXAMPLES", _BUNDLE_EXAMPLE.format(verb="run")),
    ),
    "spec": (_PLAIN,),
    "start": (_PLAIN, ("ENVIRONMENT", _NOTIFY)),
    "state": (
        _PLAIN,
        (
            "OUTPUT",
            """\
   A JSON object: the state as the runtime specification has it ("ociVersion", "id", "status",
   "pid", "bundle", "annotations"), and "rootfs", "created" and "owner". The status is creating,
   created, running, paused or stopped.""",
        ),
    ),
    "update": (
        _codes(("0", "the new limits are in force"), ("1", "the old limits are in force")),
        (
            "EXAMPLES",
            "   pyrunc update --memory 256M --pids-limit 100 hello\n"
            "   pyrunc update --cpu-quota 50000 --cpu-period 100000 hello\n"
            """   echo '{"cpu": {"shares": 512}}' | pyrunc update --resources - hello""",
        ),
    ),
}
