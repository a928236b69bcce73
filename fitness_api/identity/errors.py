"""What identity refuses, as seen by its callers.

IdentityError
  ├─ EmailTaken           another account holds the address
  ├─ EmailUnverified      what is asked for needs an account whose address was verified
  ├─ IdTokenInvalid       another issuer's token, which does not hold or is not for us
  │    └─ IssuerKeyUnknown   names a key that was not fetched; fetch the keys and verify again
  ├─ IssuerUnavailable    the issuer did not answer in time, or not sensibly; send again
  ├─ LinkRequired         the identity is nobody's yet, and only a login by other means can make it an account's
  ├─ IdentityTaken        the identity is another account's
  ├─ TooManyIdentities    the account has as many as it may
  ├─ InvalidCredentials   the address and the password do not belong together, or nobody has that address
  ├─ WeakPassword         among those that are guessed first, or the account's own address or name
  ├─ LinkInvalid          a link from a mail that was used, has expired, or never was one
  ├─ PasswordHashersBusy  more passwords wait to be checked than can be in good time; nothing was checked
  ├─ AccountDeleted       the account was erased; nothing of it comes back
  ├─ ReauthenticationRequired   the login is too long ago for what is asked, or showed no second factor where there is one
  ├─ MfaRequired          the first factor holds, and the account has a second one
  ├─ FirstPartyOnly       asked by another app than our own
  ├─ AuthorizationRequestInvalid   nothing may be sent to where the request says
  ├─ TooManyClients       as many clients are registered as may be
  ├─ OAuthRefused         what a token endpoint answers in OAuth's own words
  ├─ GrantInvalid         a refresh token that does not hold (any more)
  ├─ ScopeExceeded        more scopes asked for than were granted
  ├─ AccessTokenInvalid   not an access token of ours, or not any more
  │    ├─ AccessTokenExpired  was one
  │    └─ SigningKeyUnknown   names a key that was not loaded; load the keys and verify again
  ├─ DpopProofInvalid     a request's proof that it holds the key of its token is missing, wrong, or was used before
  │    └─ DpopNonceNeeded      it lacks a nonce, or has an old one; send it again with the one given
  ├─ SecondFactorRefused  a code that is wrong, or was used
  ├─ PasskeyRefused       what a passkey answered proves nothing
  ├─ TooManyGuesses       so many codes were wrong that none is looked at for a while
  ├─ TotpNotBegun         a code to confirm an authenticator app with, and none waits for it
  ├─ NoSecondFactor       recovery codes asked for where there is nothing to recover
  ├─ TooManyPasskeys      the account holds as many as it may
  ├─ LastWayIn            without it nobody could log in to the account any more
  ├─ SigningKeysUnreadable    the stored keys were sealed under another master key
  ├─ SecretsUnreadable        so was the secret of an authenticator app
  └─ StoreUnavailable     the database did not answer in time or lost its primary; send again
"""


class IdentityError(Exception):
    """Base of this package's errors; never raised itself."""


class EmailTaken(IdentityError):
    def __init__(self) -> None:
        super().__init__("An account with this address exists; log in instead.")


class IdTokenInvalid(IdentityError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class IssuerKeyUnknown(IdTokenInvalid):
    def __init__(self) -> None:
        super().__init__("The ID token was signed by a key that its issuer does not publish.")


class IssuerUnavailable(IdentityError):
    """Nothing was done, but a nonce or a code may be spent."""

    def __init__(self, name: str, *, retry_after_s: int = 5) -> None:
        super().__init__(f"{name} does not answer.")
        self.retry_after_s = retry_after_s


class LinkRequired(IdentityError):
    """Says the same whatever stands in the way."""

    def __init__(self) -> None:
        super().__init__("Log in by other means, and link this identity to the account.")


class IdentityTaken(IdentityError):
    def __init__(self) -> None:
        super().__init__("The identity is linked to another account.")


class TooManyIdentities(IdentityError):
    def __init__(self, *, limit: int) -> None:
        super().__init__(f"An account has {limit} identities at most.")
        self.limit = limit


class InvalidCredentials(IdentityError):
    """Says the same whether or not the address is known."""

    def __init__(self) -> None:
        super().__init__("The address or the password is wrong.")


class WeakPassword(IdentityError):
    """The detail says what is wrong with it."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class LinkInvalid(IdentityError):
    """Says the same whichever of these it is."""

    def __init__(self) -> None:
        super().__init__("This link was used before, has expired, or is none of ours. Ask for another one.")


class PasswordHashersBusy(IdentityError):
    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__("Too many passwords are being checked; try again shortly.")
        self.retry_after_s = retry_after_s


class AccountDeleted(IdentityError):
    def __init__(self, user_id: str) -> None:
        super().__init__("The account was deleted.")
        self.user_id = user_id


class ReauthenticationRequired(IdentityError):
    error = "insufficient_user_authentication"  # RFC 9470 section 3

    def __init__(self, *, max_age_s: int, second_factor: bool = False) -> None:
        how = " by which the second factor was shown" if second_factor else ""
        super().__init__(f"This needs a login of the last {max_age_s // 60} minutes{how}.")
        self.max_age_s = max_age_s


class MfaRequired(IdentityError):
    """mfa_token: completes this login, once. ways: the second factors that the account has."""

    def __init__(self, *, mfa_token: str, ways: tuple[str, ...]) -> None:
        super().__init__("The account asks for a second factor.")
        self.mfa_token = mfa_token
        self.ways = ways


class EmailUnverified(IdentityError):
    def __init__(self) -> None:
        super().__init__("Verify the account's e-mail address first.")


class FirstPartyOnly(IdentityError):
    def __init__(self) -> None:
        super().__init__("Only our own apps may do this for a user.")


class AuthorizationRequestInvalid(IdentityError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class TooManyClients(IdentityError):
    def __init__(self, *, limit: int) -> None:
        super().__init__(f"There are {limit} clients already; remove one that is no longer used.")
        self.limit = limit


class OAuthRefused(IdentityError):
    """error: RFC 6749 section 5.2's word for it, or that of one of its extensions."""

    def __init__(self, error: str, detail: str, *, status: int = 400) -> None:
        super().__init__(detail)
        self.error = error
        self.status = status


class GrantInvalid(IdentityError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class ScopeExceeded(IdentityError):
    def __init__(self, scopes: frozenset[str]) -> None:
        super().__init__(f"Not granted: {' '.join(sorted(scopes))}.")


class AccessTokenInvalid(IdentityError):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class AccessTokenExpired(AccessTokenInvalid):
    """Ours, and whole but for its time."""

    def __init__(self, user_id: str) -> None:
        super().__init__("The access token has expired.")
        self.user_id = user_id


class SigningKeyUnknown(AccessTokenInvalid):
    def __init__(self) -> None:
        super().__init__("The access token was signed by an unknown key.")


class DpopProofInvalid(IdentityError):
    error = "invalid_dpop_proof"  # RFC 9449 section 12.2

    def __init__(self, detail: str) -> None:
        super().__init__(detail)


class DpopNonceNeeded(DpopProofInvalid):
    error = "use_dpop_nonce"

    def __init__(self, detail: str, *, nonce: str) -> None:
        super().__init__(detail)
        self.nonce = nonce


class SecondFactorRefused(IdentityError):
    """in_a_row: how many of an app's codes were wrong since one was right."""

    def __init__(self, *, in_a_row: int = 0) -> None:
        super().__init__("The code is wrong, or was used before.")
        self.in_a_row = in_a_row


class PasskeyRefused(IdentityError):
    """Says the same whatever is wrong, and whether or not the passkey is known; the cause says more, to us."""

    def __init__(self) -> None:
        super().__init__("The passkey's answer does not hold; ask for new options and try again.")


class TooManyGuesses(IdentityError):
    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__("Too many codes were wrong; wait, or use another way.")
        self.retry_after_s = retry_after_s


class TotpNotBegun(IdentityError):
    def __init__(self) -> None:
        super().__init__("No authenticator app waits to be confirmed; begin again.")


class NoSecondFactor(IdentityError):
    def __init__(self) -> None:
        super().__init__("The account has no second factor; add an authenticator app or a passkey first.")


class TooManyPasskeys(IdentityError):
    def __init__(self, *, limit: int) -> None:
        super().__init__(f"An account may have {limit} passkeys.")
        self.limit = limit


class LastWayIn(IdentityError):
    def __init__(self) -> None:
        super().__init__("This is the only way to log in to the account.")


class SigningKeysUnreadable(IdentityError):
    def __init__(self) -> None:
        super().__init__("The signing keys in the database were sealed under another master key.")


class SecretsUnreadable(IdentityError):
    def __init__(self) -> None:
        super().__init__("The authenticator app's secret in the database was sealed under another master key.")


class StoreUnavailable(IdentityError):
    """Whether the write took effect is not known; every request of this package may be sent again."""

    def __init__(self, detail: str, *, retry_after_s: int = 1) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s
