"""What a host has in etcd of a shared pool is taken back: by itself when it leaves, by an operator when it is gone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address

from netplugin.cluster import keys
from netplugin.cluster.etcd import Delete, Entry, Etcd, Is, Put
from netplugin.ipam.blocks import block_of
from netplugin.ipam.pools import IPAddress
from pluginkit import wire

# Returns whether the conditions held, and the changes are made.
Write = Callable[[Sequence[Is], Sequence[Put | Delete]], bool]
_TRIES = 20
# etcd takes 128 operations in one transaction.
_MOST_CHANGES = 100


def leave_pool(etcd: Etcd, write: Write, host: str, name: str, version: int) -> None:
    """The host has no block and no address of the pool, which is no more if no other host uses it.

    Raises: Unavailable.
    """
    found = etcd.get(keys.pool_key(name, version))
    if not found.revision:
        return
    value = wire.decode(found.value, keys.PoolValue)
    for entry in etcd.list(keys.addresses_prefix(name)).entries:
        address = ip_address(entry.key.rpartition("/")[2])
        if address.version == version and wire.decode(entry.value, keys.AddressValue).host == host:
            free_address(etcd, write, host, name, address, value.block)
    for entry in etcd.list(keys.blocks_prefix(name, version)).entries:
        if owner_of(entry) == host:
            _leave_block(etcd, write, name, entry, value.block)
    write([], [Delete(keys.user_key(name, version, host))])
    ends = [
        Delete(entry.key)
        for entry in etcd.list(keys.addresses_prefix(name)).entries
        if ip_address(entry.key.rpartition("/")[2]).version == version
    ][:_MOST_CHANGES]
    nobody = [Is(keys.users_prefix(name, version), 0, every=True), Is(found.key, found.revision)]
    if write(nobody, [Delete(found.key), Delete(keys.blocks_prefix(name, version), every=True), *ends]):
        write([Is(keys.POOL, 0, every=True)], [Delete(keys.POOLS_CHANGED)])


def free_address(etcd: Etcd, write: Write, host: str, name: str, address: IPAddress, prefixlen: int) -> None:
    """The address is not the host's, and whose block it is in is told. Raises: Unavailable.

    prefixlen: of the pool's blocks.
    """
    for _ in range(_TRIES):
        held = etcd.get(keys.address_key(name, address))
        lent = etcd.get(keys.lent_key(name, address))
        changes: list[Put | Delete] = []
        if held.revision and wire.decode(held.value, keys.AddressValue).host == host:
            changes.append(Delete(held.key))
        if lent.revision and wire.decode(lent.value, keys.LentValue).host == host:
            changes.append(Delete(lent.key))
        if not changes:
            return
        block = etcd.get(keys.block_key(name, block_of(address, prefixlen)))
        conditions = [Is(held.key, held.revision), Is(lent.key, lent.revision), Is(block.key, block.revision)]
        if block.revision and not owner_of(block):
            # Whoever takes the block just now has to look again.
            changes.append(Put(block.key, block.value))
        if write(conditions, changes):
            return


def owner_of(block: Entry) -> str:
    """Return whose a block is; "": nobody's."""
    return wire.decode(block.value, keys.BlockValue).host if block.revision else ""


def _leave_block(etcd: Etcd, write: Write, name: str, entry: Entry, prefixlen: int) -> None:
    """The block is nobody's; who has an address of it keeps that."""
    block = block_of(ip_address(entry.key.rpartition("/")[2]), prefixlen)
    lent = [
        one
        for one in etcd.list(keys.lent_prefix(name)).entries
        if ip_address(one.key.rpartition("/")[2]) in block and wire.decode(one.value, keys.LentValue).granted
    ]
    left: Put | Delete = Put(entry.key, wire.encode(keys.BlockValue(""))) if lent else Delete(entry.key)
    write([Is(entry.key, entry.revision)], [left, *(Delete(one.key) for one in lent[:_MOST_CHANGES])])
