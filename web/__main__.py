"""`python -m web`: serve the page and the interfaces, make and revoke API keys, check an installation."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from core.config import Config
from core.errors import FablewrightError

from .doctor import examine
from .keys import list_keys, make_key, revoke_key
from .logs import set_up_logging
from .settings import WebSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(_run(options))
    except FablewrightError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def _run(options: argparse.Namespace) -> int:
    if options.command == "doctor":
        return await examine()
    config = Config()
    match options.command:
        case "serve":
            from .serve import serve  # loads torch, which the other commands can do without

            set_up_logging(as_json=options.json_logs)
            overrides = {"host": options.host, "port": options.port}
            settings = config.table("web", WebSettings)
            chosen = {name: value for name, value in overrides.items() if value is not None}
            await serve(config, settings.model_copy(update=chosen), replace=options.replace)
        case "keys":
            match options.action:
                case "make":
                    await make_key(config, options.name)
                case "list":
                    await list_keys(config)
                case "revoke":
                    return await revoke_key(config, options.id)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m web", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve until Ctrl-C or SIGTERM")
    serve.add_argument("--host", help="address to listen on (config.toml: [web] host)")
    serve.add_argument("--port", type=_port, help="port to listen on, 0 for any free one (config.toml: [web] port)")
    serve.add_argument("--json-logs", action="store_true", help="log one JSON object a line")
    serve.add_argument("--replace", action="store_true", help="take the socket of the server that runs; it then leaves")
    keys = commands.add_parser("keys", help="make, list and revoke API keys")
    actions = keys.add_subparsers(dest="action", required=True)
    actions.add_parser("make", help="make a key and show it, once").add_argument("name", help="whose or what for")
    actions.add_parser("list", help="list every key, without its secret")
    actions.add_parser("revoke", help="close a key for good").add_argument("id", help="from list")
    commands.add_parser("doctor", help="check configuration, checkpoint, database and port, and say what to do")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 65535, got {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
