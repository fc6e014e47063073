"""Functions of the caller's that run in a container, and what may come back from there.

packing         the caller's function as bytes, for an interpreter of his own
interpreters    how one is started, or cloned from another
inside          what it does: load the function, go inside, call it
frames, codec   the bytes that cross: anybody may have made them
exchange        the caller's end of the line
answers         a value, or an exception, out of what came back
session         one that runs: asked, heard, ended; Container.call
"""
