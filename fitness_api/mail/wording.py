"""What our letters say, in English and German. A letter names nothing that a stranger chose: no display name, no user agent.

Whoever types an address into a form of ours can have mail sent there, and must not be able to say anything in it.
"""

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

Language = Literal["en", "de"]

# A letter with a link does what is asked only after a button on the page behind it; a notice tells what was done.
LetterKind = Literal[
    "verify_email",
    "reset_password",
    "change_email_here",
    "change_email_there",
    "address_in_use",
    "new_login",
    "password_changed",
    "password_reset",
    "email_changed",
    "codes_guessed",
    "factor_added",
    "factor_removed",
    "recovery_codes_renewed",
    "recovery_code_used",
    "passkey_added",
    "passkey_removed",
    "identity_linked",
    "identity_unlinked",
    "account_taken_over",
    "session_stolen",
    "client_authorised",
    "exported",
]


class Words(Struct, frozen=True):
    """`before` and `after` the button, a string a paragraph; an action of None is a letter without a button."""

    subject: str
    before: tuple[str, ...]
    action: str | None = None
    after: tuple[str, ...] = ()


class Frame(Struct, frozen=True):
    """What letters of one language share. `alarm` and `alarm_action` end every notice."""

    plain_link: str
    when: str
    where: str
    unknown_place: str
    alarm: str
    alarm_action: str
    footer: str


FRAMES: Final[Mapping[Language, Frame]] = {
    "en": Frame(
        plain_link="If the button does not work, open this address:",
        when="When",
        where="From",
        unknown_place="an app that did not say what it is",
        alarm="If it was you, there is nothing to do. If it was not, choose a new password now: that ends every other login.",
        alarm_action="Choose a new password",
        footer="This mail was sent by {service} because of an account with this address. Nobody reads replies to it.",
    ),
    "de": Frame(
        plain_link="Wenn die Schaltfläche nicht funktioniert, öffnen Sie diese Adresse:",
        when="Wann",
        where="Von",
        unknown_place="einer App, die sich nicht zu erkennen gab",
        alarm="Waren Sie es, ist nichts zu tun. Waren Sie es nicht, wählen Sie jetzt ein neues Passwort: Das beendet jede andere Anmeldung.",
        alarm_action="Neues Passwort wählen",
        footer="Diese Mail kam von {service} wegen eines Kontos mit dieser Adresse. Antworten darauf liest niemand.",
    ),
}

_ENGLISH: Final[Mapping[LetterKind, Words]] = {
    "verify_email": Words(
        "Confirm your address",
        ("Somebody registered an account with this address. If it was you, confirm it within {within}.",),
        "Confirm the address",
        (
            "If it was not you, do not confirm: the account then stays unconfirmed, and you may still register or take it over with this address.",
        ),
    ),
    "reset_password": Words(
        "Choose a new password",
        ("Somebody asked for a new password for the account with this address. The link works once, within {within}.",),
        "Choose a new password",
        (
            "A new password ends all logins. A second factor stays as it is and is asked for at the next one.",
            "If it was not you, there is nothing to do: the password stays as it is.",
        ),
    ),
    "change_email_here": Words(
        "Confirm that your account leaves this address",
        (
            "Somebody who is logged in to your account asked to move it from this address to {new_address}.",
            "It moves once both addresses have confirmed, within {within}.",
        ),
        "Confirm the move",
        ("If it was not you, do not confirm, and choose a new password: whoever asked was logged in.",),
    ),
    "change_email_there": Words(
        "Confirm your new address",
        ("Somebody asked to move their account to this address. If it was you, confirm it within {within}.",),
        "Confirm the address",
        ("If it was not you, do not confirm; nothing happens then.",),
    ),
    "address_in_use": Words(
        "Your address is in use already",
        (
            "Somebody asked to move another account to this address, which has an account here already. Nothing was changed.",
            "If it was you, log in with this address instead, or erase this account first.",
        ),
    ),
    "new_login": Words(
        "New login to your account", ("Somebody logged in to your account from a device that was new to it.",)
    ),
    "password_changed": Words("Your password was changed", ("The password of your account was changed.",)),
    "password_reset": Words(
        "Your password was reset",
        (
            "The password of your account was chosen anew, by the link in a mail to this address. All logins were ended.",
        ),
    ),
    "email_changed": Words(
        "Your account has another address",
        ("Your account moved from {old_address} to {new_address}. Mail goes there from now on.",),
    ),
    "codes_guessed": Words(
        "Wrong codes were tried on your account",
        (
            "Somebody got as far as your second factor, and then typed wrong codes of your authenticator app, several in a row.",
            "New codes have to wait a while now. A passkey or a recovery code does not.",
        ),
    ),
    "factor_added": Words("A second factor was added", ("An authenticator app was added to your account.",)),
    "factor_removed": Words("A second factor was removed", ("The authenticator app was removed from your account.",)),
    "recovery_codes_renewed": Words(
        "Your recovery codes were renewed", ("Your account has new recovery codes. The old ones hold no more.",)
    ),
    "recovery_code_used": Words("A recovery code was used", ("A recovery code was used to log in to your account.",)),
    "passkey_added": Words("A passkey was added", ("A passkey was added to your account. Whoever has it can log in.",)),
    "passkey_removed": Words("A passkey was removed", ("A passkey was removed from your account.",)),
    "identity_linked": Words(
        "Another way to log in was added", ("A login with another provider was linked to your account.",)
    ),
    "identity_unlinked": Words(
        "A way to log in was removed", ("A login with another provider was removed from your account.",)
    ),
    "account_taken_over": Words(
        "Your address was confirmed by another provider",
        (
            (
                "Whoever holds this address logged in with another provider. The address had not been confirmed before, so every "
                "older login, password and second factor of the account was ended. What is recorded in it stayed."
            ),
        ),
    ),
    "session_stolen": Words(
        "A login was ended to protect you",
        (
            (
                "A token of one of your logins was used twice, as happens when somebody copied it. That login was ended; "
                "the device has to log in again."
            ),
        ),
    ),
    "client_authorised": Words(
        "An app got access to your account",
        ("You let another app use your account. You can end its access in the settings.",),
    ),
    "exported": Words("Your data was exported", ("All data of your account was downloaded.",)),
}

_GERMAN: Final[Mapping[LetterKind, Words]] = {
    "verify_email": Words(
        "Bestätigen Sie Ihre Adresse",
        ("Jemand hat mit dieser Adresse ein Konto angelegt. Waren Sie es, bestätigen Sie sie innerhalb von {within}.",),
        "Adresse bestätigen",
        (
            "Waren Sie es nicht, bestätigen Sie nicht: Das Konto bleibt dann unbestätigt, und Sie können es mit dieser Adresse immer noch übernehmen.",
        ),
    ),
    "reset_password": Words(
        "Neues Passwort wählen",
        (
            "Jemand hat für das Konto mit dieser Adresse ein neues Passwort verlangt. Der Link gilt einmal, innerhalb von {within}.",
        ),
        "Neues Passwort wählen",
        (
            "Ein neues Passwort beendet alle Anmeldungen. Ein zweiter Faktor bleibt und wird bei der nächsten verlangt.",
            "Waren Sie es nicht, ist nichts zu tun: Das Passwort bleibt, wie es ist.",
        ),
    ),
    "change_email_here": Words(
        "Bestätigen Sie, dass Ihr Konto diese Adresse verlässt",
        (
            "Jemand, der in Ihrem Konto angemeldet ist, will es von dieser Adresse auf {new_address} umziehen.",
            "Es zieht um, sobald beide Adressen bestätigt haben, innerhalb von {within}.",
        ),
        "Umzug bestätigen",
        (
            "Waren Sie es nicht, bestätigen Sie nicht und wählen Sie ein neues Passwort: Wer es verlangte, war angemeldet.",
        ),
    ),
    "change_email_there": Words(
        "Bestätigen Sie Ihre neue Adresse",
        (
            "Jemand will sein Konto auf diese Adresse umziehen. Waren Sie es, bestätigen Sie sie innerhalb von {within}.",
        ),
        "Adresse bestätigen",
        ("Waren Sie es nicht, bestätigen Sie nicht; dann geschieht nichts.",),
    ),
    "address_in_use": Words(
        "Ihre Adresse ist schon in Gebrauch",
        (
            "Jemand will ein anderes Konto auf diese Adresse umziehen, zu der es schon eines gibt. Geändert wurde nichts.",
            "Waren Sie es, melden Sie sich mit dieser Adresse an, oder löschen Sie zuerst dieses Konto.",
        ),
    ),
    "new_login": Words(
        "Neue Anmeldung in Ihrem Konto",
        ("Jemand hat sich von einem Gerät, das ihm neu war, in Ihrem Konto angemeldet.",),
    ),
    "password_changed": Words("Ihr Passwort wurde geändert", ("Das Passwort Ihres Kontos wurde geändert.",)),
    "password_reset": Words(
        "Ihr Passwort wurde zurückgesetzt",
        (
            "Das Passwort Ihres Kontos wurde neu gewählt, über den Link in einer Mail an diese Adresse. Alle Anmeldungen wurden beendet.",
        ),
    ),
    "email_changed": Words(
        "Ihr Konto hat eine andere Adresse",
        ("Ihr Konto ist von {old_address} auf {new_address} umgezogen. Mail geht von nun an dorthin.",),
    ),
    "codes_guessed": Words(
        "Für Ihr Konto wurden falsche Codes probiert",
        (
            "Jemand kam bis zu Ihrem zweiten Faktor und gab dann mehrmals nacheinander falsche Codes der Authenticator-App ein.",
            "Neue Codes müssen jetzt eine Weile warten. Ein Passkey oder ein Wiederherstellungscode muss das nicht.",
        ),
    ),
    "factor_added": Words("Ein zweiter Faktor ist dazugekommen", ("Ihr Konto hat jetzt eine Authenticator-App.",)),
    "factor_removed": Words(
        "Ein zweiter Faktor wurde entfernt", ("Die Authenticator-App Ihres Kontos wurde entfernt.",)
    ),
    "recovery_codes_renewed": Words(
        "Ihre Wiederherstellungscodes sind neu",
        ("Ihr Konto hat neue Wiederherstellungscodes. Die alten gelten nicht mehr.",),
    ),
    "recovery_code_used": Words(
        "Ein Wiederherstellungscode wurde benutzt",
        ("Zur Anmeldung in Ihrem Konto wurde ein Wiederherstellungscode benutzt.",),
    ),
    "passkey_added": Words(
        "Ein Passkey ist dazugekommen", ("Ihr Konto hat einen weiteren Passkey. Wer ihn hat, kann sich anmelden.",)
    ),
    "passkey_removed": Words("Ein Passkey wurde entfernt", ("Ein Passkey Ihres Kontos wurde entfernt.",)),
    "identity_linked": Words(
        "Ein Weg zur Anmeldung ist dazugekommen",
        ("Ihr Konto wurde mit der Anmeldung bei einem anderen Anbieter verknüpft.",),
    ),
    "identity_unlinked": Words(
        "Ein Weg zur Anmeldung wurde entfernt",
        ("Die Anmeldung bei einem anderen Anbieter wurde von Ihrem Konto gelöst.",),
    ),
    "account_taken_over": Words(
        "Ihre Adresse wurde von einem anderen Anbieter bestätigt",
        (
            (
                "Wem diese Adresse gehört, hat sich über einen anderen Anbieter angemeldet. Bestätigt war die Adresse vorher nicht; "
                "darum wurden alle älteren Anmeldungen, das Passwort und die zweiten Faktoren des Kontos beendet. Was darin "
                "aufgezeichnet ist, blieb."
            ),
        ),
    ),
    "session_stolen": Words(
        "Eine Anmeldung wurde zu Ihrem Schutz beendet",
        (
            (
                "Ein Token einer Ihrer Anmeldungen wurde zweimal benutzt, wie es geschieht, wenn jemand es kopiert hat. Diese "
                "Anmeldung wurde beendet; das Gerät muss sich neu anmelden."
            ),
        ),
    ),
    "client_authorised": Words(
        "Eine App hat Zugang zu Ihrem Konto",
        ("Sie haben einer anderen App Zugang zu Ihrem Konto gegeben. Sie können ihn in den Einstellungen beenden.",),
    ),
    "exported": Words("Ihre Daten wurden exportiert", ("Alle Daten Ihres Kontos wurden heruntergeladen.",)),
}

LETTERS: Final[Mapping[Language, Mapping[LetterKind, Words]]] = {"en": _ENGLISH, "de": _GERMAN}

# What a link is good for, in words.
SPANS: Final[Mapping[Language, tuple[str, str, str]]] = {
    "en": ("{} minutes", "{} hours", "{} days"),
    "de": ("{} Minuten", "{} Stunden", "{} Tagen"),
}
