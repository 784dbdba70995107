"""One server for the tests of this folder that want nothing else."""

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("openai")


@pytest.fixture(scope="session")
def given():
    from tests.serve.served import models

    return models()


@pytest.fixture(scope="session")
def server(given):
    from tests.serve.served import served

    with served(given) as found:
        yield found
        assert found.logged == [], "nothing failed that was not meant to"
