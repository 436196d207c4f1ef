"""The C extension; everything else about the package stands in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["csrc/ffi_build.py:ffi"])
