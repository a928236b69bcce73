"""The port to whoever takes our mail on. Adapter: `sender_smtp`."""

from typing import Protocol

from fitness_api.mail.letter import Letter


class Sender(Protocol):
    """What every adapter keeps to; tests/fitness_api/mail/test_sender_smtp.py checks each bullet.

    - When `send` returns, another server has the letter and answers for it.
    - It goes to one mailbox, whatever the address holds.
    - A letter that is sent again under the same message id is the same message to whoever receives it.
    - `send` ends within SEND_WITHIN_S, whatever the other side does.
    - Raises MailDeferred if the letter may be taken later, MailRefused if it will never be.
    """

    async def send(self, letter: Letter, *, message_id: str) -> None: ...
