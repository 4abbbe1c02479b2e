"""Kombu's transport of Redis, without the moment in which a message is on no list: taken, and not yet noted as held.

A connection that was lost is noticed here, too: redis-py makes another one in its place without a word, and whoever
held messages would believe for ever that they are still his.
"""

from __future__ import annotations

import time
from queue import Empty
from typing import Any, Final

from kombu.utils.json import loads

__all__ = ["OneStep"]

_TAKE: Final = """
for number = 3, #KEYS do
    local raw = redis.call('RPOP', KEYS[number])
    if raw then
        local read, message = pcall(cjson.decode, raw)
        local properties = read and type(message) == 'table' and message.properties
        local tag = type(properties) == 'table' and properties.delivery_tag
        local info = type(properties) == 'table' and properties.delivery_info
        if type(tag) == 'string' and type(info) == 'table' then
            local exchange = type(info.exchange) == 'string' and info.exchange or ''
            local key = type(info.routing_key) == 'string' and info.routing_key or ''
            redis.call('ZADD', KEYS[1], ARGV[1], tag)
            local place = cjson.encode(exchange) .. ',' .. cjson.encode(key)
            redis.call('HSET', KEYS[2], tag, '[' .. raw .. ',' .. place .. ']')
        end
        return raw
    end
end
return false
"""
"""What kombu does in two requests: a worker that is killed between them, or whose connection is cut, loses a message.
What is noted is what kombu notes, so that its own workers give it back."""


class OneStep:
    """Takes a message in one step of the server's; in the place of a channel's ``_get``.

    Args:
        channel: kombu's, of Redis; it has been opened.
    """

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._replaced = False
        opened = channel.Client(connection_pool=channel.pool, single_connection_client=True)
        opened.connection.register_connect_callback(self._connected)
        opened.close()
        self._take = channel._create_client().register_script(_TAKE)  # noqa: SLF001 - as the channel's own scripts are

    def __call__(self, queue: str) -> Any:
        """Return the next message of a queue, the most urgent first.

        Raises:
            Empty: there is none.
            ConnectionResetError: as :meth:`ping` says.
        """
        self._check()
        channel, prefix = self._channel, self._channel.global_keyprefix
        lists = [prefix + channel._q_for_pri(queue, step) for step in channel.priority_steps]  # noqa: SLF001 - its names
        with channel.conn_or_acquire() as client:
            # The prefix is put before the first key only, by kombu's client.
            keys = [channel.unacked_index_key, prefix + channel.unacked_key, *lists]
            raw = self._take(keys=keys, args=[time.time()], client=client)
        if not raw:
            raise Empty
        return loads(raw if isinstance(raw, str) else raw.decode("utf-8", "surrogatepass"))

    def ping(self) -> None:
        """Make one round trip on the connection that messages are taken on; the channel has another one.

        Raises:
            ConnectionResetError: it was lost, and redis-py has made another one in its place.
        """
        with self._channel.conn_or_acquire() as client:
            client.ping()
        self._check()

    def _check(self) -> None:
        if self._replaced:
            raise ConnectionResetError("the connection was lost, and another one was made in its place")

    # The connection keeps this weakly.
    def _connected(self, _connection: Any) -> None:
        self._replaced = True
