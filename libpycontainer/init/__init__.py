"""What becomes the container's init: it executes the plan's steps and decides nothing.

It may import the shim, :mod:`libpycontainer.syscalls`, :mod:`libpycontainer.hooks` and built-in
modules, all of them before :func:`libpycontainer.init.main.seal`.
"""
