"""Real servers on this machine that alerts are sent to, and can be away."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from aiosmtpd.controller import Controller

from infrastructure.servers.ports import LOOPBACK, take_any
from monitoring.alerting.sinks import AlertmanagerSink, EmailSink, WebhookSink


class HttpReceiver:
    """Takes POST requests; answers 503 while it is told to be unwell."""

    def __init__(self) -> None:
        self.bodies: list[object] = []
        self.paths: list[str] = []
        self.keys: list[str | None] = []
        self.is_unwell = False
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not receiver.is_unwell:
                    receiver.bodies.append(body)
                    receiver.paths.append(self.path)
                    receiver.keys.append(self.headers["Idempotency-Key"])
                self.send_response(503 if receiver.is_unwell else 200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def fail(self) -> None:
        self.is_unwell = True

    def recover(self) -> None:
        self.is_unwell = False

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Webhook(HttpReceiver):
    def sink(self) -> WebhookSink:
        return WebhookSink(f"http://{LOOPBACK}:{self.port}/hook")

    def messages(self) -> list[str]:
        return [body["text"] for body in self.bodies]

    def ids(self) -> list[str | None]:
        return self.keys


class Alertmanager(HttpReceiver):
    """What of Alertmanager takes alerts: POST /api/v2/alerts, as its OpenAPI document has it."""

    def sink(self) -> AlertmanagerSink:
        return AlertmanagerSink(f"http://{LOOPBACK}:{self.port}/")

    def messages(self) -> list[str]:
        assert set(self.paths) <= {"/api/v2/alerts"}
        found = []
        for [alert] in self.bodies:
            assert set(alert) == {"labels", "annotations", "startsAt", "endsAt"}
            assert all(isinstance(value, str) for value in alert["labels"].values())
            assert alert["labels"]["alertname"]
            found.append(alert["annotations"]["summary"])
        return found

    def ids(self) -> list[str | None]:
        return [str(alert) for [alert] in self.bodies]


class Mailbox:
    """An SMTP server."""

    def __init__(self) -> None:
        self.mails: list = []
        self.is_unwell = False
        mailbox = self

        class Handler:
            async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802
                if mailbox.is_unwell:
                    return "451 try again later"
                mailbox.mails.append(envelope)
                return "250 OK"

        # Port 0 is none for this controller: it would ask for the port before it listens.
        with closing(take_any(listening=False)) as taken:
            self.controller = Controller(Handler(), hostname=LOOPBACK, port=taken.number)
            self.controller.start()

    def sink(self) -> EmailSink:
        return EmailSink(LOOPBACK, self.controller.port, "fti@example.org", ("team@example.org",))

    def fail(self) -> None:
        self.is_unwell = True

    def recover(self) -> None:
        self.is_unwell = False

    def messages(self) -> list[str]:
        return [self._header(mail, "Subject") for mail in self.mails]

    def ids(self) -> list[str]:
        return [self._header(mail, "Message-ID") for mail in self.mails]

    def close(self) -> None:
        self.controller.stop()

    def _header(self, envelope, name: str) -> str:
        import email
        import email.policy

        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert envelope.rcpt_tos == ["team@example.org"]
        return str(mail[name])
