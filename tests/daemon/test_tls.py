"""Certificates that cannot be used are told at the start, in one sentence; those that can be are used."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import certificates
import pytest
from cryptography.hazmat.primitives import serialization as keys
from serving import TOKEN, run, serving

from model_runtime.cli import main
from model_runtime.client import RuntimeDown, connect
from model_runtime.daemon.discovery import DiscoveryError, RuntimeFile
from model_runtime.daemon.server import Sharing
from model_runtime.daemon.tls import PASSPHRASE
from model_runtime.opening import open_to
from model_runtime.protocol import FillRequest, RequestError
from model_runtime.remote import remote_of

REQUEST = FillRequest(text="x", holes=[(0, 0)])


@pytest.fixture(scope="module")
def papers(tmp_path_factory):
    return certificates.issue(tmp_path_factory.mktemp("papers"))


def encrypt(path, passphrase: bytes) -> None:
    """Put a passphrase on a key."""
    key = keys.load_pem_private_key(path.read_bytes(), None)
    form = keys.BestAvailableEncryption(passphrase)
    path.write_bytes(key.private_bytes(keys.Encoding.PEM, keys.PrivateFormat.PKCS8, form))


def spoil(papers, how, folder, monkeypatch):
    """Make one thing wrong."""
    if how == "no certificate":
        papers.certificate.unlink()
    elif how == "no key":
        papers.key.unlink()
    elif how == "not PEM":
        papers.certificate.write_bytes(b"\x30\x82" * 50)
    elif how == "a key for a certificate":
        papers.certificate.write_bytes(papers.key.read_bytes())
    elif how == "another's key":
        papers.key.write_bytes(certificates.issue(folder, name="other").key.read_bytes())
    elif how == "everybody's key":
        papers.key.chmod(0o644)
    elif how == "passphrase":
        encrypt(papers.key, b"open sesame")
    elif how == "wrong passphrase":
        encrypt(papers.key, b"open sesame")
        monkeypatch.setenv(PASSPHRASE, "open barley")
    elif how == "damaged":
        text = papers.certificate.read_text().splitlines()
        papers.certificate.write_text("\n".join([*text[:3], *text[5:]]))


@pytest.mark.parametrize(
    ("how", "options", "sentence"),
    [
        ("no certificate", {}, "cannot read .*server.pem: No such file"),
        ("no key", {}, "cannot read .*server.key: No such file"),
        ("not PEM", {}, "server.pem holds no certificate in PEM"),
        ("a key for a certificate", {}, "server.pem holds no certificate in PEM"),
        ("another's key", {}, "is not that of the certificate"),
        ("everybody's key", {}, "chmod 600"),
        ("passphrase", {}, f"give its passphrase as {PASSPHRASE}"),
        ("wrong passphrase", {}, f"the passphrase in {PASSPHRASE} does not open"),
        ("damaged", {}, "cannot be used for TLS"),
        ("expired", {"days": -1.0, "starts": -9.0}, "has expired: renew it"),
        ("not yet", {"days": 9.0, "starts": 1.0}, "not valid yet"),
    ],
)
def test_what_clients_could_not_use_is_told_at_the_start(
    how, options, sentence, tmp_path, runtime, monkeypatch, capsys
):
    monkeypatch.delenv(PASSPHRASE, raising=False)
    papers = certificates.issue(tmp_path, **options)
    spoil(papers, how, tmp_path, monkeypatch)
    with pytest.raises(RequestError, match=sentence) as caught:
        papers.identity.context()
    arguments = ["serve", "--tls-certificate", str(papers.certificate), "--tls-key", str(papers.key)]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert said == f"diffill: {caught.value}\n"
    assert "sesame" not in said
    assert not (runtime / "daemon.json").exists()


def test_a_passphrase_opens_a_key(tmp_path, monkeypatch):
    papers = certificates.issue(tmp_path)
    encrypt(papers.key, b"open sesame")
    monkeypatch.setenv(PASSPHRASE, "open sesame")
    assert 29 < papers.identity.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) < 31


def test_a_client_with_the_authority_is_served_over_wss(papers):
    async def scene():
        async with serving(sharing=Sharing(identity=papers.identity)) as (_, port):
            server = remote_of(f"wss://localhost:{port}", TOKEN, str(papers.authority))
            async with await connect(server=server) as client:
                assert (await client.fill(REQUEST)).holes[0].text == "ok"
            own = remote_of(f"wss://127.0.0.1:{port}", TOKEN, str(papers.certificate))
            async with await connect(server=own) as client:  # the certificate itself will do as the authority
                assert (await client.status())["clients"] == 1

    run(scene())


def test_servers_that_cannot_be_trusted_are_not_told_the_token(papers, tmp_path):
    stranger = certificates.issue(tmp_path, name="stranger")
    elsewhere = certificates.issue(tmp_path, "elsewhere.example", name="elsewhere")

    async def scene():
        async with serving(sharing=Sharing(identity=papers.identity)) as (_, port):
            for authority in (None, str(stranger.authority)):
                with pytest.raises(RuntimeDown, match="cannot be trusted: its certificate was not accepted") as caught:
                    await connect(server=remote_of(f"wss://localhost:{port}", TOKEN, authority))
                assert TOKEN not in str(caught.value)
        async with serving(sharing=Sharing(identity=elsewhere.identity)) as (_, port):
            server = remote_of(f"wss://localhost:{port}", TOKEN, str(elsewhere.authority))
            with pytest.raises(RuntimeDown, match=r"cannot be trusted.*localhost"):
                await connect(server=server)
        async with serving() as (_, port):  # no TLS there
            with pytest.raises(RuntimeDown, match=r"cannot be (trusted|reached)"):
                await connect(server=remote_of(f"wss://localhost:{port}", TOKEN, str(papers.authority)))

    run(scene())


def test_authorities_that_cannot_be_read_make_a_server_one_that_is_down(tmp_path):
    missing = remote_of("wss://team.example", TOKEN, str(tmp_path / "none.pem"))
    with pytest.raises(RuntimeDown, match=r"team\.example/ cannot be trusted: cannot read .*none\.pem"):
        run(connect(server=missing))


def test_a_daemon_whose_certificate_is_gone_cannot_be_talked_to(tmp_path):
    found = RuntimeFile("127.0.0.1", 1, TOKEN, 1, "0", str(tmp_path / "gone.pem"))
    with pytest.raises(DiscoveryError, match=r"cannot read .*gone\.pem"):
        run(open_to(found))


def test_what_speaks_no_tls_to_a_port_that_does_is_hung_up_on(papers):
    async def scene():
        async with serving(sharing=Sharing(identity=papers.identity)) as (daemon, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert b"200" not in await reader.read()
            writer.close()
            assert daemon.status()["clients"] == 0

    run(scene())


def test_a_renewed_certificate_is_used_for_new_connections_and_a_bad_one_is_not(tmp_path, caplog):
    papers = certificates.issue(tmp_path)

    async def serial(port):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        seen = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return seen

    async def scene():
        async with serving(sharing=Sharing(identity=papers.identity)) as (daemon, port):
            first = await serial(port)
            certificates.issue(tmp_path)
            daemon.renew()
            second = await serial(port)
            assert first != second
            papers.certificate.write_text("nothing")
            daemon.renew()
            assert await serial(port) == second
            assert "holds no certificate" in caplog.text

    run(scene())
