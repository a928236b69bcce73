from pathlib import Path

from fitness_api.embedded import mailbox
from fitness_api.embedded.mailbox_smtp import MAX_KEPT, Mailbox
from fitness_api.mail.letter import Letter
from fitness_api.mail.sender_smtp import SmtpSender


async def test_mail_is_kept_as_files_for_a_program_and_for_the_eye(tmp_path: Path) -> None:
    long = f"https://api.example.org/account/verify?token={'x' * 90}"
    letter = Letter(to="zoë@example.org", language="en", subject="Grüße", text=f"Look:\n\n{long}\n", html="<p>Hi</p>\n")
    async with mailbox.running(tmp_path) as (url, folder):
        await SmtpSender(url, sender="Fitness <no-reply@example.net>").send(letter, message_id="m1")
    (read,) = folder.glob("*.txt")
    assert read.read_text("utf-8").startswith(
        "From: Fitness <no-reply@example.net>\nTo: zoë@example.org\nSubject: Grüße\n"
    )
    assert long in read.read_text("utf-8").splitlines()
    (raw,) = folder.glob("*.eml")
    assert b"Message-ID: <m1@example.net>" in raw.read_bytes()
    assert raw.stem == read.stem


def test_a_name_is_a_file_in_the_folder_and_the_oldest_go(tmp_path: Path) -> None:
    kept = Mailbox(tmp_path)
    for number in range(MAX_KEPT + 3):
        kept.keep(b"Subject: x\r\n\r\ntext\r\n", [f"../../{number}/\0@example.org"])
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 2 * MAX_KEPT
    assert all("/" not in name and "\0" not in name for name in names)
    assert not any("_0_" in name for name in names)
