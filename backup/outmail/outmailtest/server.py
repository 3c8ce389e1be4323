# A mail server on loopback for tests: aiosmtpd, with TLS and a password. It
# prints its address first, then each message as a line of JSON.
import asyncio, json, ssl, sys
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

mode, cert, key = sys.argv[1:4]

class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        if address.startswith("forbidden@"):
            return "550 5.7.60 not allowed to send as this sender"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 5.1.1 no such mailbox"
        if address.startswith("later@"):
            return "451 4.2.0 try later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({"from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": mode == "tls" or session.ssl is not None,
                          "authenticated": bool(session.authenticated), "data": envelope.content.decode("utf-8", "replace")}), flush=True)
        return "250 OK"

def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and data.login == b"holdfast" and data.password == b"a mail password"
    return AuthResult(success=good, handled=False)

context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
options = dict(hostname="localhost", authenticator=authenticate, auth_require_tls=False, loop=None)
if mode == "starttls":
    options.update(tls_context=context, require_starttls=True, auth_required=True, auth_require_tls=True)
elif mode == "tls":
    options.update(auth_required=True)

async def main():
    loop = asyncio.get_running_loop()
    options["loop"] = loop
    server = await loop.create_server(lambda: SMTP(Handler(), **options), "127.0.0.1", 0, ssl=context if mode == "tls" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()

asyncio.run(main())
