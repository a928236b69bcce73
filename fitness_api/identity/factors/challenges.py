"""What a passkey has to sign: drawn here, answered once, within five minutes."""

from collections.abc import Callable
from typing import Final, Literal

from fitness_api.identity import single_use
from fitness_api.identity.errors import PasskeyRefused
from fitness_api.identity.factors import passkeys
from fitness_api.identity.factors.passkeys import Assertion, NewCredential
from fitness_api.identity.single_use import Artefact, SingleUse

CHALLENGE_MS: Final = 300_000  # a phone is fetched and a finger found in less; the browser is told the same

# What it was drawn for; an answer to one is none to another.
Purpose = Literal["passkey_new", "passkey_login", "passkey_mfa"]


class Challenges:
    def __init__(self, artefacts: SingleUse, *, now_ms: Callable[[], int]) -> None:
        self._artefacts = artefacts
        self._now_ms = now_ms

    async def draw(self, purpose: Purpose, user_id: str | None = None) -> str:
        """Return a challenge, for this account only where one is named."""
        challenge = single_use.secret()  # base64url, and so just as it comes back in the client data
        await self._artefacts.add(
            Artefact(
                kind=purpose,
                digest=single_use.digest_of(challenge),
                user_id=user_id,
                expires_at_ms=self._now_ms() + CHALLENGE_MS,
            )
        )
        return challenge

    async def redeem(self, credential: NewCredential | Assertion, purpose: Purpose, user_id: str | None = None) -> str:
        """Return the challenge that is answered; it is spent, whatever the answer is worth.

        Raises PasskeyRefused if it was not drawn for this purpose and account, was answered before, or is too old.
        """
        challenge = passkeys.challenge_of(credential)
        digest = single_use.digest_of(challenge)
        drawn = await self._artefacts.use(purpose, digest, now_ms=self._now_ms())
        if not isinstance(drawn, Artefact) or drawn.user_id != user_id:
            raise PasskeyRefused
        return challenge
