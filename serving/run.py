"""Start the service on this machine, say how to use it, and stop it in order."""

import logging
import os
import re
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from pm.errors import CheckpointError, ConfigError, counted
from pm.resources import resource
from serving.config import HttpConfig, ServeConfig

_PHOTO = "assets/toon/examples/woman_1.png"
# Whole sentences are what the toon base knows.
_PROMPT = "a woman img wearing a red hoodie, smiling, in front of a blue wall"


def run(config: ServeConfig) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        PmError: the configuration, a file or the port cannot be used; nothing is started then.
    """
    begin = time.monotonic()
    check(config)
    try:
        with _alive() as say:
            start(config, say)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("stopped before it was ready") from None
    print(greeting(config, time.monotonic() - begin), flush=True)
    if config.studio.enabled and config.studio.open and _has_screen():
        webbrowser.open(f"{addresses(config.http)[0]}/studio")
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stopped.wait()
    print("stopping: requests on their way are finished first; Ctrl-C again ends them", file=sys.stderr, flush=True)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        stop()
    except KeyboardInterrupt:
        sys.exit("stopped at once")


@contextmanager
def _alive() -> Iterator[Callable[[str], None]]:
    """Say what is being done: on a terminal in one line that moves, elsewhere in a line for each step."""
    console = Console(stderr=True)
    with console.status("starting") as line:

        def say(text: str) -> None:
            if console.is_terminal:
                line.update(f"{escape(text)} ...")
            else:
                print(f"{text} ...", file=sys.stderr, flush=True)

        yield say


def check(config: ServeConfig) -> None:
    """Find a user's mistakes before any process is started.

    Raises:
        PmError: the first one.
    """
    from pm.choice import import_modules
    from pm.model.adapter import check_adapter
    from pm.model.base import load_base
    from pm.sample.schedule import Schedule
    from serving.http.keys import KeyFile
    from serving.sampling import check_loras

    config.check_exposure()
    if config.keys.file is not None:
        KeyFile(config.keys.file)
    _check_port(config.http.host, config.http.port)
    import_modules(config.modules)
    base = load_base(config.base.path, (), family=config.base.family)  # its configs alone
    Schedule(config.sampler.schedule, base.scheduler_config).plan(config.sampler.steps, config.sampler.eta)
    check_loras(config)
    for name, file in config.adapters.items():
        if not Path(file).expanduser().is_file():
            raise CheckpointError(
                f"adapters.{name}={Path(file).expanduser().absolute()} is not a file; train one, or give another"
            )
        check_adapter(file, base, check_base=config.check_base)


def start(config: ServeConfig, say: Callable[[str], None] = lambda text: None) -> None:
    """Start Ray, its proxy and the application; returns when requests are served.

    Args:
        say: called with what is being done.
    """
    from ray import serve
    from ray.serve.config import HTTPOptions
    from ray.serve.schema import LoggingConfig

    from pm.ray_env import ray_init
    from serving.app import NAME, deploy

    own = {} if os.environ.get("RAY_ADDRESS") else {"_metrics_export_port": config.http.metrics_port or None}
    say("starting Ray")
    ray_init(**own)
    logging.getLogger("ray.serve").setLevel(logging.WARNING)  # Serve's lines in this process
    # Our own line of every request says more than Serve's, and nothing private.
    quiet = LoggingConfig(log_level=logging.WARNING, enable_access_log=False)
    say(f"starting the proxy on port {config.http.port}")
    serve.start(
        http_options=HTTPOptions(
            host=config.http.host,
            port=config.http.port,
            # Ours ends a request first and says so in OpenAI's words; this is for what never reaches an ingress.
            request_timeout_s=config.limits.request_s + config.limits.body_s,
        ),
        logging_config=quiet,
    )
    say(f"loading the base {config.base.path} and {counted(len(config.adapters), 'adapter')}")
    try:
        serve.run(deploy(config), name=NAME, logging_config=quiet)
    except BaseException as error:
        stop(drain=False)
        # A replica's error comes as text, with every traceback on the way; a user's mistake is one line of it.
        known = re.findall(r"pm\.errors\.\w+: (.+)", str(error))
        if known:
            raise CheckpointError(known[-1]) from error
        raise


def stop(drain: bool = True) -> None:
    """Take nothing new, finish what was accepted, and end our Ray; in another's cluster, what is ours alone."""
    import ray
    from ray import serve

    from serving.app import NAME

    joined = bool(os.environ.get("RAY_ADDRESS"))
    if drain or joined:
        serve.delete(NAME)  # replicas drain while their proxy still holds the connections; shutdown would close those
    if joined and not serve.status().applications:
        serve.shutdown()
    ray.shutdown()


def greeting(config: ServeConfig, seconds: float) -> str:
    """What to paste next."""
    url, others = addresses(config.http)
    model, secret = next(iter(config.adapters)), "not-needed" if config.keys.file is None else "YOUR-KEY"
    auth = "" if config.keys.file is None else f'  -H "Authorization: Bearer {secret}" \\\n'
    photo, metrics = resource(_PHOTO), config.http.metrics_port
    told = others + (f"\n\nStudio: {url}/studio" if config.studio.enabled else "")
    return f"""
Serving {model} at {url} after {seconds:.0f} s; Ctrl-C stops it. API: {url}/docs, Prometheus: port {metrics}.{told}

curl {url}/v1/images/edits \\
{auth}  -F "image[]=@{photo}" -F "prompt={_PROMPT}" -F seed=1 \\
  | {sys.executable} -c "import json, sys; print(json.load(sys.stdin)['data'][0]['b64_json'])" \\
  | base64 -d > portrait.png

{sys.executable} - <<'PY'
import base64
from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{secret}")
answer = client.images.edit(
    image=[open("{photo}", "rb")], prompt="{_PROMPT}", extra_body={{"seed": 1}}
)
open("portrait.png", "wb").write(base64.b64decode(answer.data[0].b64_json))
PY
"""


def _has_screen() -> bool:
    """Whether a browser would have a window; a text browser in the terminal is not wanted."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def addresses(http: HttpConfig) -> tuple[str, str]:
    """What to paste on this machine, and a sentence for the others; "all addresses" is none that can be called."""
    host, others = http.host, ""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if host == "0.0.0.0" else "::1"
        others = f"\nFrom other machines: http://{socket.getfqdn()}:{http.port}"
    return f"http://{f'[{host}]' if ':' in host else host}:{http.port}", others


def _check_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(f"http.port={port} on {host} cannot be used ({error.strerror}); set another") from error
