"""The port's contract against a real SMTP server."""

import asyncio
import inspect
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword
from aiosmtplib import errors as smtp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fitness_api.mail.errors import MailDeferred, MailRefused
from fitness_api.mail.letter import Letter
from fitness_api.mail.sender_smtp import SmtpSender, place, refusal
from tests.fitness_api.smtp import html_of, inbox, text_of

LETTER = Letter(to="Ada@example.org", language="en", subject="Hello", text="A text.\n", html="<p>A text.</p>\n")
FROM = "Fitness <no-reply@example.net>"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed one for 127.0.0.1, which nobody trusts unless told to."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.fromtimestamp(time.time(), UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_another_server_has_the_letter() -> None:
    async with inbox() as kept:
        await SmtpSender(kept.url, sender=FROM).send(LETTER, message_id="m1")
    assert kept.recipients == [["Ada@example.org"]]
    (mail,) = kept.mails
    assert (mail["Message-ID"], mail["From"], mail["Subject"]) == ("<m1@example.net>", FROM, "Hello")
    assert (text_of(mail), html_of(mail)) == ("A text.\n", "<p>A text.</p>\n")


@pytest.mark.parametrize("address", ["a,b@example.org", "a<b>@example.org", "a;b@example.org", 'a"b@example.org'])
async def test_it_goes_to_one_mailbox_whatever_the_address_holds(address: str) -> None:
    local = address.partition("@")[0].replace('"', '\\"')
    async with inbox() as kept:
        await SmtpSender(kept.url, sender=FROM).send(
            Letter(to=address, language="en", subject="s", text="t\n", html="h\n"), message_id="m1"
        )
    assert kept.recipients == [[f'"{local}"@example.org']]


@pytest.mark.parametrize("address", ["a\r\nRCPT TO:<b@example.org>@example.org", "nobody", "a@b@exa mple.org"])
async def test_what_is_no_address_is_refused_before_a_server_is_asked(address: str) -> None:
    async with inbox() as kept:
        with pytest.raises(MailRefused):
            await SmtpSender(kept.url, sender=FROM).send(
                Letter(to=address, language="en", subject="s", text="t\n", html="h\n"), message_id="m1"
            )
    assert kept.mails == []


async def test_a_local_part_beyond_ascii_needs_a_server_that_takes_it() -> None:
    letter = Letter(to="zoë@example.org", language="en", subject="s", text="t\n", html="h\n")
    async with inbox() as kept:
        with pytest.raises(MailRefused):
            await SmtpSender(kept.url, sender=FROM).send(letter, message_id="m1")
    async with inbox(enable_SMTPUTF8=True) as kept:
        await SmtpSender(kept.url, sender=FROM).send(letter, message_id="m1")
    assert kept.recipients == [["zoë@example.org"]]


@pytest.mark.parametrize(
    ("said", "kind"),
    [("550 no such user", MailRefused), ("450 try later", MailDeferred), ("421 closing", MailDeferred)],
)
async def test_what_the_server_says_decides_whether_it_is_tried_again(said: str, kind: type[Exception]) -> None:
    async with inbox() as kept:
        kept.refusal = said
        with pytest.raises(kind) as caught:
            await SmtpSender(kept.url, sender=FROM).send(LETTER, message_id="m1")
    assert "Ada" not in str(caught.value)


async def test_nobody_there_is_for_later() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        with pytest.raises(MailDeferred):
            await SmtpSender(f"smtp://127.0.0.1:{taken.getsockname()[1]}", sender=FROM).send(LETTER, message_id="m1")


async def test_a_server_that_hangs_is_left() -> None:
    async with inbox() as kept:
        kept.hangs = True
        with pytest.raises(MailDeferred):
            await SmtpSender(kept.url, sender=FROM, within_s=0.2).send(LETTER, message_id="m1")


async def test_one_that_never_greets_is_left() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(MailDeferred):
            await SmtpSender(f"smtp://127.0.0.1:{port}", sender=FROM, within_s=0.2).send(LETTER, message_id="m1")


@pytest.mark.parametrize("from_the_start", [False, True])
async def test_a_password_goes_over_tls_to_a_server_that_is_known(
    tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch, *, from_the_start: bool
) -> None:
    seen: list[tuple[str, str]] = []

    def check(server: object, session: object, envelope: object, mechanism: str, data: LoginPassword) -> AuthResult:
        seen.append((data.login.decode(), data.password.decode()))
        return AuthResult(success=True)

    async with inbox(
        tls=tls,
        from_the_start=from_the_start,
        authenticator=check,
        auth_required=not from_the_start,
        auth_require_tls=not from_the_start,
    ) as kept:
        url = f"{'smtps' if from_the_start else 'smtp'}://ada:p%40ss@localhost:{kept.port}"
        with pytest.raises(MailDeferred):  # a certificate that nobody vouches for
            await SmtpSender(url, sender=FROM).send(LETTER, message_id="m1")
        assert (kept.mails, seen) == ([], [])
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        await SmtpSender(url, sender=FROM).send(LETTER, message_id="m1")
    assert len(kept.mails) == 1
    assert seen == [("ada", "p@ss")]


async def test_without_starttls_nothing_is_sent_where_it_must_be() -> None:
    async with inbox() as kept:
        sender = SmtpSender(f"smtp://mail.example.org:{kept.port}", sender=FROM)
        assert sender._place.starttls is True
        # The same server, by a name that is not taken for this machine's own.
        sender._place = place(f"smtp://[::ffff:127.0.0.1]:{kept.port}")
        assert sender._place.starttls is True
        with pytest.raises((MailDeferred, MailRefused)):
            await sender.send(LETTER, message_id="m1")
    assert kept.mails == []


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "starttls"),
    [
        ("smtp://127.0.0.1:1025", "127.0.0.1", 1025, False, None),
        ("smtp://localhost", "localhost", 587, False, None),
        ("smtp://smtp.example.org", "smtp.example.org", 587, False, True),
        ("smtps://smtp.example.org", "smtp.example.org", 465, True, True),
        ("smtp://mailpit:1025?starttls=never", "mailpit", 1025, False, False),
    ],
)
def test_a_url_says_where_and_how(url: str, host: str, port: int, tls: bool, starttls: bool | None) -> None:
    found = place(url)
    assert (found.host, found.port, found.tls, found.starttls) == (host, port, tls, starttls)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org",
        "smtp://",
        "smtp://host/path",
        "smtp://host?starttls=maybe",
        "smtp://host?x",
        "smtp://user:word@mailpit?starttls=never",
        "smtp://host:port",
    ],
)
def test_a_url_that_means_nothing_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        place(url)


def test_a_place_does_not_show_its_password() -> None:
    assert "secret" not in repr(place("smtps://ada:secret@smtp.example.org"))


def test_every_error_of_the_driver_is_one_of_ours() -> None:
    for name in smtp.__all__:
        kind = getattr(smtp, name)
        if name == "SMTPRecipientsRefused":
            continue  # below
        parameters = inspect.signature(kind).parameters
        error = kind(*([550, "said", "ada@example.org"][: len(parameters)] if "code" in parameters else ["said"]))
        is_final = name in {"SMTPRecipientRefused", "SMTPDataError", "SMTPNotSupported"}
        assert isinstance(refusal(error), MailRefused if is_final else MailDeferred), name
        assert "ada" not in str(refusal(error))
    refused = smtp.SMTPRecipientsRefused([smtp.SMTPRecipientRefused(550, "no", "ada@example.org")])
    assert isinstance(refusal(refused), MailRefused)
    assert isinstance(refusal(smtp.SMTPRecipientsRefused([])), MailDeferred)
    assert isinstance(refusal(ConnectionRefusedError()), MailDeferred)
    assert isinstance(refusal(TimeoutError()), MailDeferred)
    assert isinstance(refusal(ssl.SSLCertVerificationError()), MailDeferred)
    assert isinstance(refusal(ValueError()), MailRefused)
