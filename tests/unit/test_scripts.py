"""How a verb's source is made for a server's generation. What the verbs do is tested in tests/queue, on every server there is."""

from __future__ import annotations

from jobqueue.redis import scripts

OWN_BEGINNING = frozenset(
    {"cancel_pending", "cancelled", "dead_edit", "drop", "expire_dead", "leases", "purge_page"}
)  # read only, or begin with a write that frees memory


def test_each_verb_is_known_to_pass_or_to_be_refused_when_an_old_server_is_full() -> None:
    """A new verb must be put into one of these sets on purpose."""
    names = {path.stem for path in scripts.FOLDER.glob("*.lua") if not path.name.endswith(".part.lua")}
    begun = frozenset().union(*scripts.NOTHING_WRITTEN.values())
    assert not begun & scripts.PRODUCING
    assert names == begun | scripts.PRODUCING | OWN_BEGINNING


def test_old_servers_get_a_write_that_changes_nothing_and_new_ones_a_flag() -> None:
    assert scripts.load("settle", (6, 2, 5)).source.startswith("redis.call('LTRIM', KEYS[1], 0, -1)\n")
    assert scripts.load("join", (6, 2, 5)).source.startswith("redis.call('HDEL', KEYS[1], ")
    assert scripts.load("settle", (7, 0, 0)).source.startswith("#!lua flags=allow-oom\n")
    assert scripts.load("enqueue", (7, 0, 0)).source.startswith("#!lua\n")
    assert not scripts.load("enqueue", (6, 2, 5)).source.startswith(("#!", "redis.call('LTRIM'"))
