from hypothesis import given
from hypothesis import strategies as st

from fitness_api.identity.gravestones import derive_key, hash_of


@given(st.text(), st.text(), st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_a_hash_is_of_one_address_under_one_key(one: str, other: str, key: bytes, another: bytes) -> None:
    try:
        first, second = hash_of(one, key), hash_of(other, key)
    except UnicodeEncodeError:
        return  # a lone surrogate, which no normalised address has
    assert (first == second) == (one == other)
    assert (first == hash_of(one, another)) == (key == another)


def test_the_key_is_its_own_and_not_the_master_key() -> None:
    master_key = b"m" * 32
    assert derive_key(master_key) == derive_key(master_key) != master_key
    assert len(derive_key(master_key)) == 32
