from __future__ import annotations

from rapport.service.interceptors.auth import hash_user


def test_users_have_names_that_tell_nothing() -> None:
    """A user's name is the same with the same salt, and another for anybody else."""
    name = hash_user("ann@example.com", b"salt")
    assert name == hash_user("ann@example.com", b"salt")
    assert len({name, hash_user("bob", b"salt"), hash_user("ann@example.com", b"pepper")}) == 3
    assert name.isalnum()
    assert len(name) == 12


def test_any_text_is_a_user() -> None:
    """Users may be named in any script, with or without a salt."""
    assert hash_user("я\0", b"") != hash_user("я", b"")
