from tests.data.conftest import datasets_root  # noqa: F401, of use to every test here
