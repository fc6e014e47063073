"""The build of the C shim. Everything else about the package is in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["csrc/build_shim.py:ffibuilder"],
    # The shim keeps to the stable ABI, so one wheel serves every CPython from this one on.
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
