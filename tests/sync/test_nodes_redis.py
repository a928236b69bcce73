from collections import Counter
from uuid import uuid4

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from sync.nodes_redis import PARTITIONS, Nodes, Topology, hash_tag, partition_of


def test_partitions_never_change() -> None:
    """Gateways of two versions run side by side."""
    assert PARTITIONS == 1024
    assert partition_of("7f1d5c9e-0000-4000-8000-000000000000") == 294
    assert hash_tag(294) == "{h294}"


def test_partitions_are_even() -> None:
    count = Counter(partition_of(str(uuid4())) for _ in range(100 * PARTITIONS))
    assert len(count) == PARTITIONS
    assert max(count.values()) < 200


def test_accounts_are_grouped_by_the_node_of_their_partition() -> None:
    topology = Topology([("a", 1) if number % 2 else ("b", 2) for number in range(PARTITIONS)])
    users = [str(uuid4()) for _ in range(100)]
    groups = topology.by_node(users)
    assert topology.addresses == [("b", 2), ("a", 1)]
    assert sorted(user for group in groups.values() for user in group) == sorted(users)
    assert all(partition_of(user) % 2 for user in groups["a", 1])


async def test_a_server_that_is_not_there_is_the_driver_s_error() -> None:
    with pytest.raises(RedisConnectionError):
        await Nodes("redis://127.0.0.1:9/0").topology()
