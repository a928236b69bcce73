import base64

import pytest

from fitness_api.settings import Settings, SettingsInvalid, from_environment

KEY = base64.b64encode(bytes(32)).decode()
LEAST = {
    "FITNESS_MONGO_URL": "mongodb://127.0.0.1:27017",
    "FITNESS_REDIS_URL": "redis://127.0.0.1:6379/0",
    "FITNESS_MASTER_KEY": KEY,
}


def test_the_rest_has_defaults_and_foreign_names_are_left_alone() -> None:
    settings = from_environment({**LEAST, "PATH": "/bin", "MONGO_URL": "elsewhere"})
    assert (settings.host, settings.port, settings.mongo_database) == ("127.0.0.1", 8080, "fitness")


def test_numbers_are_read_from_text() -> None:
    assert from_environment({**LEAST, "FITNESS_PORT": "9000"}).port == 9000


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FITNESS_PORT", "70000"),
        ("FITNESS_PORT", "http"),
        ("FITNESS_MONGO_URL", "127.0.0.1:27017"),
        ("FITNESS_REDIS_URL", "127.0.0.1"),
        ("FITNESS_PUBLIC_URL", "example.com"),
        ("FITNESS_MONGO_DATABASE", "Fitness.x"),
        ("FITNESS_MASTER_KEY", ""),
        ("FITNESS_MASTER_KEY", KEY[:-4]),
        ("FITNESS_MASTER_KEY", "not base64, but 44 characters of text......."),
        ("FITNESS_PROT", "8080"),
    ],
)
def test_a_refusal_names_the_variable(variable: str, value: str) -> None:
    with pytest.raises(SettingsInvalid, match=variable):
        from_environment({**LEAST, variable: value})


@pytest.mark.parametrize("variable", LEAST)
def test_what_is_missing_is_named(variable: str) -> None:
    with pytest.raises(SettingsInvalid, match=f"Missing required field {variable}"):
        from_environment({name: value for name, value in LEAST.items() if name != variable})


def test_no_secret_is_shown() -> None:
    settings = from_environment({**LEAST, "FITNESS_MONGO_URL": "mongodb://ada:secret@db/"})
    assert isinstance(settings, Settings)
    for shown in (repr(settings), str(settings), f"{settings}"):
        assert "secret" not in shown
        assert KEY not in shown


def test_a_bad_key_is_not_repeated() -> None:
    with pytest.raises(SettingsInvalid) as refused:
        from_environment({**LEAST, "FITNESS_MASTER_KEY": "hunter2"})
    assert "hunter2" not in str(refused.value)
