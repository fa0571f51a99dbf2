"""The parser, compiled once for all tests."""

import pytest

from .parser import Parse, compile_parser


@pytest.fixture(scope="session")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Parse:
    """A function that calls the compiled parser on one frame."""
    return compile_parser(tmp_path_factory.mktemp("parser"))
