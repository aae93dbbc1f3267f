import asyncio

import hiredis
import pytest

from sidecar.driver import Driver
from sidecar.idempotency.connection import Command, Connection, pack


class Transport(asyncio.Transport):
    """What a connection writes, write by write."""

    def __init__(self):
        super().__init__()
        self.writes = []
        self.aborted = False

    def write(self, data):
        self.writes.append(data)

    def abort(self):
        self.aborted = True


class Playbook:
    """A connection between a script of commands and one of replies."""

    def __init__(self, on_push=None):
        self.lost = []
        self.loop = asyncio.get_running_loop()
        self.connection = Connection(self.loop, self.lost.append, on_push)
        self.transport = Transport()
        self.connection.connection_made(self.transport)

    def give(self, *arguments):
        command = Command(pack(arguments), 0.0, self.loop)
        self.connection.give(command)
        return command

    def receive(self, data):
        self.connection.data_received(data)


async def test_commands_of_one_turn_go_out_in_one_write():
    play = Playbook()
    answers = [play.give("PING"), play.give("GET", b"\0k"), play.give("SET", "k", 1)]
    assert play.transport.writes == []
    await asyncio.sleep(0)
    assert play.transport.writes == [
        b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$2\r\n\0k\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n1\r\n"
    ]
    play.receive(b"+PONG\r\n$-1\r\n:")
    play.receive(b"7\r\n")
    assert await asyncio.gather(*answers) == [b"PONG", None, 7]


async def test_the_next_turn_has_its_own_write():
    play = Playbook()
    play.give("PING")
    await asyncio.sleep(0)
    play.give("PING")
    await asyncio.sleep(0)
    assert play.transport.writes == [b"*1\r\n$4\r\nPING\r\n"] * 2


async def test_a_cancelled_waiter_does_not_shift_the_replies_of_others():
    play = Playbook()
    answers = [play.give("GET", key) for key in "abc"]
    answers[1].cancel()
    play.receive(b"+a\r\n+b\r\n+c\r\n")
    assert [answers[0].result(), answers[2].result()] == [b"a", b"c"]
    assert not play.connection.unanswered


async def test_who_waits_goes_on_as_the_replies_come_and_may_give_further_commands():
    play = Playbook()
    told = []

    async def story(number):
        told.append(await play.give("GET", number))
        told.append(await play.give("SET", number))

    for number in (1, 2):
        Driver(story(number), told.append).start()
    play.receive(b"+a\r\n+b\r\n")
    assert told == [b"a", b"b"]
    await asyncio.sleep(0)
    assert play.transport.writes[-1].count(b"SET") == 2
    play.receive(b"+c\r\n+d\r\n")
    assert told == [b"a", b"b", b"c", b"d"]


async def test_an_error_reply_is_an_answer():
    play = Playbook()
    answer = play.give("GET", "k")
    play.receive(b"-OOM full\r\n")
    assert isinstance(answer.result(), hiredis.ReplyError)


async def test_asking_raises_it():
    play = Playbook()
    asking = asyncio.ensure_future(play.connection.ask("AUTH", "x"))
    await asyncio.sleep(0)
    play.receive(b"-WRONGPASS no\r\n")
    with pytest.raises(hiredis.ReplyError, match="WRONGPASS"):
        await asking


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", b"+nobody asked\r\n"])
async def test_what_is_not_a_conversation_in_step_is_ended(data):
    play = Playbook()
    play.receive(data)
    assert play.transport.aborted


async def test_messages_of_a_subscription_are_told_from_replies():
    pushed = []
    play = Playbook(pushed.append)
    answer = play.give("SUBSCRIBE", "c")
    play.receive(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n")
    assert answer.result() == [b"subscribe", b"c", 1]
    assert pushed == [[b"message", b"c", b"hi"]]


async def test_what_a_lost_connection_leaves_behind():
    play = Playbook()
    answers = [play.give("GET", key) for key in "ab"]
    play.receive(b"+a\r\n")
    play.connection.connection_lost(None)
    assert play.lost == [play.connection]
    assert list(play.connection.unanswered) == answers[1:]
    play.connection.abort()
    await asyncio.sleep(0)
    assert play.transport.writes == []
    assert not play.transport.aborted
