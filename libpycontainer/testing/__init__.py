"""The pytest plugin: containers and namespaces for tests, and tests inside of them.

    plugin.py        fixtures, the marker and the hooks; loaded by every pytest run that finds it
    boxes.py         throw-away containers
    netns.py         a network namespace to hold
    isolation.py     what a marked test asks for, and whether this host can
    entering.py      the child that enters the namespaces
    remote.py        a test's call there, and what comes back of it

An entry point names the plugin, so whoever has libpycontainer installed loads it in each run of
pytest: nothing of the library is imported before a test uses it.
"""
