"""What an operator can decide: one frozen dataclass.

Responsible for names, types, defaults and the rules a single value has to
obey. It knows neither the command line's syntax (`hypha.cli`) nor what any
setting is used for. Spec: server §1.1-1.2.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, cast

from hypha.settings.environment import SettingsError, read_environment
from hypha.settings.limits import Limits
from hypha.settings.mounts import StaticMount

__all__ = [
    "LATER_OPTIONS",
    "OptionInfo",
    "Settings",
    "check_root_token",
    "default_state_dir",
    "option_info",
    "option_name",
]

T = TypeVar("T")

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_ANY_ADDRESS = frozenset({"", "0.0.0.0", "::", "localhost"})

#: Accepted and ignored (server §1.1, mark L): programs of the ecosystem start
#: the server with them, and none may make the start fail.
LATER_OPTIONS: Mapping[str, Any] = {
    "enable_a2a": bool,
    "enable_admin_terminal": bool,
    "interactive": bool,
    "enable_server": bool,
    "enable_service_search": bool,
    "database_uri": str,
    "migrate_database": str,
    "in_docker": bool,
    "enable_s3": bool,
    "endpoint_url": str,
    "endpoint_url_public": str,
    "access_key_id": str,
    "secret_access_key": str,
    "region_name": str,
    "s3_admin_type": str,
    "workspace_bucket": str,
    "enable_s3_proxy": bool,
    "enable_s3_for_anonymous_users": bool,
    "s3_cleanup_period": str,
    "executable_path": str,
    "start_minio_server": bool,
    "minio_workdir": str,
    "minio_port": str,
    "minio_console_port": str,
    "minio_root_user": str,
    "minio_root_password": str,
    "minio_version": str,
    "mc_version": str,
    "minio_file_system_mode": bool,
    "triton_servers": tuple[str, ...],
    "ollama_host": str,
    "openai_base_url": str,
    "openai_api_key": str,
    "enable_k8s_worker": bool,
    "enable_terminal_worker": bool,
}

_WEAK_ROOT_WORDS = ("test", "root", "admin", "password", "token", "secret", "123", "abc", "hypha", "default")


@dataclass(frozen=True, slots=True)
class OptionInfo:
    """What is known about one setting beside its type and default.

    Attributes:
        help: one line for a reader of ``--help``.
        group: heading it appears under; empty for settings that only the
            environment carries.
        env: variables that are always read, the first one set wins. Options
            of the command line have ``HYPHA_<OPTION>`` besides, read with
            ``--from-env`` only.
        commas: a list whose items may be parted by commas as well.
    """

    help: str
    group: str = ""
    env: tuple[str, ...] = ()
    commas: bool = False


def _setting(
    default: T,
    help_text: str,
    *,
    group: str = "",
    env: tuple[str, ...] = (),
    commas: bool = False,
    secret: bool = False,
) -> T:
    info = OptionInfo(help_text, group, env, commas)
    return dataclasses.field(default=default, repr=not secret, metadata={"info": info})


def option_info(field: dataclasses.Field[Any]) -> OptionInfo:
    """The description of a field of `Settings`."""
    return cast("OptionInfo", field.metadata["info"])


_NET, _AUTH, _STORE, _WEB = "Network", "Identity and access", "State and scaling", "Web and extras"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything an operator can decide, fixed at start.

    Build it with `from_env` (environment), `hypha.cli.parse` (command line)
    or directly (tests, embedding).

    Raises:
        SettingsError: a value breaks its rule; the text names the option.
    """

    # network
    host: str = _setting("127.0.0.1", "Address to listen on.", group=_NET)
    port: int = _setting(9527, "Port to listen on; 0 lets the system choose.", group=_NET)
    public_base_url: str | None = _setting(
        None, "URL under which others reach this server [default: the local one].", group=_NET
    )
    base_path: str = _setting("/", "Prefix of every route, /ws included.", group=_NET)
    allow_origins: tuple[str, ...] = _setting(
        ("*",),
        "Origins that may call from a browser, comma-separated.",
        group=_NET,
        env=("ALLOW_ORIGINS",),
        commas=True,
    )
    disable_ssl: bool = _setting(False, "Do not verify TLS when the server itself calls out.", group=_NET)

    # identity and access
    root_token: str | None = _setting(None, "Secret that admits as user root.", group=_AUTH, secret=True)
    enable_local_auth: bool = _setting(False, "Offer built-in e-mail and password accounts.", group=_AUTH)

    # state and scaling
    state_dir: str | None = _setting(
        None, "Directory of secret, accounts and records [default: the user's].", group=_STORE, env=("HYPHA_STATE_DIR",)
    )
    in_memory: bool = _setting(False, "Keep nothing: no state directory, nothing is written.", group=_STORE)
    cache_dir: str | None = _setting(None, "Directory of the cache.", group=_STORE)
    server_id: str | None = _setting(
        None, "Unique name of this replica [default: made once, kept].", group=_STORE, env=("HYPHA_SERVER_ID",)
    )
    redis_uri: str | None = _setting(None, "redis://... store shared by replicas.", group=_STORE)
    reset_redis: bool = _setting(False, "Empty that store at start, unless another server lives.", group=_STORE)

    # web and extras
    static_mounts: tuple[str, ...] = _setting(
        (), "Directories to serve, one or more, each '/mount:directory'.", group=_WEB
    )
    startup_functions: tuple[str, ...] = _setting(
        (), "Functions to run at start, one or more, each 'file.py:function' or 'module:function'.", group=_WEB
    )
    enable_server_apps: bool = _setting(False, "Run browser apps on this machine.", group=_WEB)
    browser_executable: str | None = _setting(
        None, "Browser of these apps [default: found].", group=_WEB, env=("HYPHA_BROWSER",)
    )
    enable_mcp: bool = _setting(False, "Serve services to MCP clients.", group=_WEB)
    disable_agent_skills: bool = _setting(False, "Do not serve /WORKSPACE/agent-skills.", group=_WEB)

    # from the environment only
    jwt_secret: str | None = _setting(
        None, "HS256 key of all tokens.", env=("HYPHA_JWT_SECRET", "JWT_SECRET"), secret=True
    )
    jwt_secret_previous: str | None = _setting(
        None, "Former key, verifies only.", env=("HYPHA_JWT_SECRET_PREVIOUS", "JWT_SECRET_PREVIOUS"), secret=True
    )
    auth0_client_id: str | None = _setting(None, "Client id at the login provider.", env=("AUTH0_CLIENT_ID",))
    auth0_domain: str | None = _setting(None, "Domain of the login provider.", env=("AUTH0_DOMAIN",))
    auth0_audience: str = _setting(
        "https://amun-ai.eu.auth0.com/api/v2/", "Claim aud of tokens.", env=("AUTH0_AUDIENCE",)
    )
    auth0_issuer: str = _setting("https://amun.ai/", "Claim iss of tokens.", env=("AUTH0_ISSUER",))
    auth0_namespace: str = _setting("https://amun.ai/", "Prefix of claims of ours.", env=("AUTH0_NAMESPACE",))
    loglevel: str = _setting("WARNING", "Least level logged.", env=("HYPHA_LOGLEVEL",))
    access_log: bool = _setting(False, "Log every HTTP request.", env=("HYPHA_ACCESS_LOG",))
    expose_detailed_errors: bool = _setting(False, "Tracebacks in HTTP errors.", env=("HYPHA_EXPOSE_DETAILED_ERRORS",))
    global_name_lookup: bool = _setting(
        True, "Bare service names find public services of any workspace.", env=("HYPHA_GLOBAL_NAME_LOOKUP",)
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (), "Proxies whose headers count.", env=("HYPHA_TRUSTED_PROXIES",), commas=True
    )
    allowed_hosts: tuple[str, ...] = _setting(
        (), "Host names served besides ours.", env=("HYPHA_ALLOWED_HOSTS",), commas=True
    )
    login_frame_ancestors: tuple[str, ...] = _setting(
        (), "Sites that may frame the login page.", env=("HYPHA_LOGIN_FRAME_ANCESTORS",), commas=True
    )
    apps_origin: str | None = _setting(None, "Own host of provider pages.", env=("HYPHA_APPS_ORIGIN",))
    trust_apps: bool = _setting(False, "Serve provider pages without sandbox.", env=("HYPHA_TRUST_APPS",))
    audit_log: str | None = _setting(None, "File of the audit records.", env=("HYPHA_AUDIT_LOG",))
    security_contact: str | None = _setting(None, "Contact in security.txt.", env=("HYPHA_SECURITY_CONTACT",))

    # not options
    limits: Limits = dataclasses.field(default_factory=Limits, metadata={"info": OptionInfo("Limits.")})
    ignored_options: tuple[str, ...] = _setting((), "Options given that this server accepts and ignores.")

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise SettingsError(f"--port must be between 0 and 65535, not {self.port}")
        object.__setattr__(self, "base_path", "/" + self.base_path.strip("/"))
        for field in dataclasses.fields(self):
            if option_info(field).commas:
                items = ",".join(getattr(self, field.name)).split(",")
                object.__setattr__(self, field.name, tuple(item.strip() for item in items if item.strip()))
        if self.public_base_url is not None:
            object.__setattr__(self, "public_base_url", _checked_url(self.public_base_url))
        if self.in_memory and self.state_dir is not None:
            raise SettingsError("--in-memory keeps nothing, so it does not go with --state-dir")
        for mount in self.static_mounts:
            StaticMount.parse(mount)
        if self.loglevel.upper() not in logging.getLevelNamesMapping():
            raise SettingsError(
                f"HYPHA_LOGLEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL, not {self.loglevel!r}"
            )
        if self.root_token is not None:
            check_root_token(self.root_token)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, *, options: bool = True, **given: Any) -> Self:
        """Read the settings from environment variables.

        Args:
            environ: variables; the process's own by default.
            options: also read the options of the command line from
                ``HYPHA_<OPTION>`` (what ``--from-env`` means).
            given: values that win over the environment.

        Raises:
            SettingsError: a variable has a bad value; the text names it.
        """
        environ = os.environ if environ is None else environ
        names = {field.name: _variables(field, options=options) for field in dataclasses.fields(cls)}
        values: dict[str, Any] = dict(read_environment(cls, names, environ))
        ignored = [option_name(name) for name in LATER_OPTIONS if options and environ.get(_option_variable(name))]
        values["ignored_options"] = tuple(dict.fromkeys((*given.pop("ignored_options", ()), *ignored)))
        values["limits"] = Limits.from_env(environ)
        for asked, other in (("in_memory", "state_dir"), ("state_dir", "in_memory")):
            if given.get(asked) and other not in given:
                # The two exclude each other, and what is given wins.
                values.pop(other, None)
        return cls(**(values | given))

    @property
    def uses_redis(self) -> bool:
        """Whether a shared store is configured; any other text means the store of this process."""
        return self.redis_uri is not None and self.redis_uri.startswith(("redis://", "rediss://", "unix://"))

    def local_url(self, port: int | None = None) -> str:
        """URL of this server on its own machine, without a trailing slash.

        Args:
            port: the port really bound, where ``port`` is 0.
        """
        host = "127.0.0.1" if self.host in _ANY_ADDRESS else self.host
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self.port if port is None else port}{self.base_path.rstrip('/')}"

    def public_url(self, port: int | None = None) -> str:
        """URL of this server for others, without a trailing slash."""
        return self.public_base_url or self.local_url(port)

    def mounts(self) -> tuple[StaticMount, ...]:
        """The static mounts, taken apart.

        Raises:
            SettingsError: a directory does not exist, or a mount is there twice.
        """
        found = tuple(StaticMount.parse(text) for text in self.static_mounts)
        for mount in found:
            mount.check()
            if sum(other.path == mount.path for other in found) > 1:
                raise SettingsError(f"--static-mounts: The route '{mount.path}' collides with an existing route.")
        return found

    def resolved_state_dir(self) -> Path | None:
        """Where state is kept; None with ``in_memory``."""
        if self.in_memory:
            return None
        return Path(self.state_dir).expanduser() if self.state_dir else default_state_dir()

    def cautions(self) -> list[str]:
        """Combinations an operator should be warned of (security S52)."""
        found: list[str] = []
        if self.host not in _LOOPBACK and self.public_url().startswith("http://"):
            found.append(f"listening on {self.host}, but the public base URL is not https: tokens travel in the clear")
        if self.root_token is not None and "*" in self.allow_origins:
            found.append("a root token is set and any origin may call: set --allow-origins")
        if self.trust_apps:
            found.append("HYPHA_TRUST_APPS is set: pages of any provider run with the rights of this site")
        if self.uses_redis:
            found.append("--redis-uri is accepted and has no effect yet: this server shares nothing with others")
        if self.enable_mcp:
            found.append("--enable-mcp is accepted and has no effect yet")
        return found


def option_name(field: str) -> str:
    """How the option of *field* is written on the command line."""
    return "--" + field.replace("_", "-")


def default_state_dir() -> Path:
    """The user's state directory on this platform, plus ``hypha``."""
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "hypha"
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "hypha"


def check_root_token(token: str) -> None:
    """Refuse a root token that can be guessed (server §4.8).

    Raises:
        SettingsError: too short, or short and made of a common word.
    """
    if len(token) < 32:
        raise SettingsError(
            "Root token must be at least 32 characters long for security. "
            "Make one with: python -c 'import secrets; print(secrets.token_urlsafe(48))'"
        )
    weak = next((word for word in _WEAK_ROOT_WORDS if word in token.lower()), None)
    if len(token) < 64 and weak is not None:
        raise SettingsError(
            f"Root token appears to be too simple (contains '{weak}'). Use a random one, or at least 64 characters."
        )


def _checked_url(url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise SettingsError(f"--public-base-url must start with http:// or https://, not {url!r}")
    return url.rstrip("/")


def _option_variable(name: str) -> str:
    return f"HYPHA_{name.upper()}"


def _variables(field: dataclasses.Field[Any], *, options: bool) -> tuple[str, ...]:
    info = option_info(field)
    if not info.group or not options:
        return info.env
    return (_option_variable(field.name), *(name for name in info.env if name != _option_variable(field.name)))
