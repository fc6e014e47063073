"""What a container costs: this library beside other runtimes and beside the kernel alone.

    python -m benchmarks [--quick] [--only PATTERN] [--rounds N] [--json FILE] [--plots DIRECTORY]

    measuring.py   rows, cells, the round robin over all of them, and the numbers it leaves
    world.py       what all cells share: directories, bundles, cgroups, and their removal
    programs.py    starting other programs, as cheaply as a Python program can
    floor.c        the kernel's own price
    peers.py       other runtimes, and what each lacks to run here
    library.py     this library, inside of one program
    fresh.py       this library in a program of its own: import, first run, memory
    verbs.py       command lines: pyrunc's, and runc's and crun's for the same
    rootless.py user.py    an ordinary user's containers
    crowds.py      many at once, many alive, many mounts
    targets.py     what the numbers are held against
    report.py      the table and the JSON document
    plots.py       the pictures

As root. docs/performance.md tells how to read the table.
"""
