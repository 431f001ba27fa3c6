from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from hypha.settings import LATER_OPTIONS, Limits, Settings, SettingsError, option_info

GOOD_ROOT_TOKEN = "kQ9vX2mB7nL4wR8zT5yU1pH6jF3dS0gV"


def test_defaults_are_those_of_the_specification() -> None:
    settings = Settings()
    assert (settings.host, settings.port, settings.base_path) == ("127.0.0.1", 9527, "/")
    assert settings.allow_origins == ("*",)
    assert settings.public_url() == "http://127.0.0.1:9527"
    assert settings.limits.max_frame_bytes == 16 * 1024 * 1024
    assert settings.limits.reconnection_token_life_time == 172_800


def test_from_env_reads_every_kind_of_option() -> None:
    settings = Settings.from_env(
        {
            "HYPHA_HOST": "0.0.0.0",
            "HYPHA_PORT": "1234",
            "HYPHA_ENABLE_MCP": "Yes",
            "HYPHA_STARTUP_FUNCTIONS": "./a.py:f  ./b.py:g",
            "HYPHA_STATIC_MOUNTS": "/tools:./web,tools",
            "HYPHA_REDIS_URI": "redis://localhost",
        }
    )
    assert (settings.host, settings.port, settings.enable_mcp) == ("0.0.0.0", 1234, True)
    assert settings.startup_functions == ("./a.py:f", "./b.py:g")
    assert settings.static_mounts == ("/tools:./web,tools",)
    assert settings.redis_uri == "redis://localhost"


@pytest.mark.parametrize(
    ("text", "value"),
    [("true", True), ("1", True), ("YES", True), ("y", True), ("On", True), ("no", False), ("0", False)],
)
def test_booleans_have_the_usual_spellings(text: str, value: bool) -> None:
    assert Settings.from_env({"HYPHA_DISABLE_SSL": text}).disable_ssl is value


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("HYPHA_PORT", "many"),
        ("HYPHA_ENABLE_MCP", "perhaps"),
        ("HYPHA_ACCESS_LOG", "2"),
        ("HYPHA_WS_PONG_TIMEOUT", "nan"),
        ("HYPHA_WS_MSG_RATE_LIMIT", "1.5"),
        ("RECONNECTION_TOKEN_LIFE_TIME", "-1"),
    ],
)
def test_bad_value_names_its_variable(variable: str, text: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        Settings.from_env({variable: text})


def test_without_options_only_variables_that_are_always_read_count() -> None:
    environ = {
        "HYPHA_PORT": "1",
        "HYPHA_SERVER_ID": "s1",
        "HYPHA_STATE_DIR": "/var/lib/hypha",
        "ALLOW_ORIGINS": "http://a, http://b",
        "HYPHA_MAX_SERVICES_PER_CLIENT": "5",
    }
    settings = Settings.from_env(environ, options=False)
    assert (settings.port, settings.server_id) == (9527, "s1")
    assert settings.allow_origins == ("http://a", "http://b")
    assert settings.limits.max_services_per_client == 5
    assert settings.resolved_state_dir() == Path("/var/lib/hypha")


def test_prefixed_secret_wins_and_an_empty_variable_is_not_set() -> None:
    environ = {"JWT_SECRET": "plain", "HYPHA_JWT_SECRET": "prefixed", "HYPHA_LOGLEVEL": ""}
    settings = Settings.from_env(environ, options=False)
    assert settings.jwt_secret == "prefixed"
    assert settings.loglevel == "WARNING"
    assert Settings.from_env({"JWT_SECRET": "plain"}).jwt_secret == "plain"


def test_given_values_win_over_the_environment() -> None:
    assert Settings.from_env({"HYPHA_PORT": "1"}, port=2).port == 2


def test_ignored_options_are_found_in_the_environment_once() -> None:
    environ = {"HYPHA_ENABLE_S3": "1", "HYPHA_MINIO_PORT": "9000"}
    settings = Settings.from_env(environ, ignored_options=("--enable-s3",))
    assert settings.ignored_options == ("--enable-s3", "--minio-port")
    assert Settings.from_env(environ, options=False).ignored_options == ()


def test_secrets_are_not_shown() -> None:
    settings = Settings(root_token=GOOD_ROOT_TOKEN, jwt_secret="hidden-one", jwt_secret_previous="hidden-two")
    assert GOOD_ROOT_TOKEN not in repr(settings)
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("short", "Root token must be at least 32 characters long for security."),
        ("test" + "x" * 40, "Root token appears to be too simple (contains 'test')."),
        ("x" * 40 + "123", "Root token appears to be too simple (contains '123')."),
        ("x" * 40 + "HyPha", "Root token appears to be too simple (contains 'hypha')."),
    ],
)
def test_weak_root_token_is_refused(token: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings(root_token=token)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("token", [GOOD_ROOT_TOKEN, "test" + "x" * 60])
def test_good_root_token_is_accepted(token: str) -> None:
    assert Settings(root_token=token).root_token == token


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"port": 70000}, "--port"),
        ({"public_base_url": "ftp://x"}, "--public-base-url"),
        ({"static_mounts": ("tools:./x",)}, "--static-mounts"),
        ({"static_mounts": ("/tools",)}, "--static-mounts"),
        ({"static_mounts": ("/",)}, "--static-mounts"),
        ({"static_mounts": ("/:.",)}, "--static-mounts"),
        ({"static_mounts": ("/a/b:.",)}, "Only top-level routes are supported."),
        ({"loglevel": "LOUD"}, "HYPHA_LOGLEVEL"),
        ({"in_memory": True, "state_dir": "/x"}, "--in-memory"),
    ],
)
def test_value_that_breaks_its_rule_names_the_option(given: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        Settings(**given)  # type: ignore[arg-type]


def test_urls_carry_the_base_path_and_the_bound_port() -> None:
    settings = Settings(port=0, base_path="hypha/")
    assert settings.base_path == "/hypha"
    assert settings.local_url(4321) == "http://127.0.0.1:4321/hypha"
    assert settings.public_url(4321) == "http://127.0.0.1:4321/hypha"
    assert Settings(public_base_url="https://example.org/x/").public_url() == "https://example.org/x"


def test_state_directory_follows_option_home_and_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert Settings().resolved_state_dir() == tmp_path / "hypha"
    assert Settings(state_dir="/s").resolved_state_dir() == Path("/s")
    assert Settings(in_memory=True).resolved_state_dir() is None


@pytest.mark.parametrize(
    ("uri", "shared"),
    [(None, False), ("", False), ("/tmp/store", False), ("redis://h:6379/0", True), ("rediss://h", True)],
)
def test_only_a_redis_uri_means_a_shared_store(uri: str | None, shared: bool) -> None:
    assert Settings(redis_uri=uri).uses_redis is shared


def test_cautions_name_what_is_risky() -> None:
    assert Settings().cautions() == []
    risky = Settings(host="0.0.0.0", root_token=GOOD_ROOT_TOKEN, trust_apps=True)
    assert [caution.split()[0] for caution in risky.cautions()] == ["listening", "a", "HYPHA_TRUST_APPS"]
    safe = Settings(
        host="0.0.0.0", public_base_url="https://x", root_token=GOOD_ROOT_TOKEN, allow_origins=("https://x",)
    )
    assert safe.cautions() == []


def test_every_setting_is_described_and_none_is_both_known_and_ignored() -> None:
    fields = {field.name: option_info(field) for field in dataclasses.fields(Settings)}
    assert all(info.help.endswith((".", "].")) for info in fields.values())
    assert not fields.keys() & LATER_OPTIONS.keys()


def test_limits_read_their_variables() -> None:
    limits = Limits.from_env(
        {"HYPHA_SEND_QUEUE_BYTES": "10", "MAXIMUM_LOGIN_TIME": "2.5", "ACTIVITY_CHECK_INTERVAL": "1"}
    )
    assert (limits.send_queue_bytes, limits.maximum_login_time, limits.activity_check_interval) == (10, 2.5, 1.0)
    with pytest.raises(SettingsError, match="HYPHA_SEND_QUEUE_BYTES"):
        Limits(send_queue_bytes=-1)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:9527"),
        ("::", "http://127.0.0.1:9527"),
        ("localhost", "http://127.0.0.1:9527"),
        ("::1", "http://[::1]:9527"),
        ("192.0.2.7", "http://192.0.2.7:9527"),
    ],
)
def test_the_local_url_leads_to_the_address_it_listens_on(host: str, url: str) -> None:
    assert Settings(host=host).local_url() == url


def test_of_two_that_exclude_each_other_the_given_one_wins_over_the_environment() -> None:
    environ = {"HYPHA_STATE_DIR": "/s"}
    assert Settings.from_env(environ, in_memory=True).resolved_state_dir() is None
    assert Settings.from_env({"HYPHA_IN_MEMORY": "1"}, state_dir="/s").resolved_state_dir() == Path("/s")


def test_mounts_are_taken_apart(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    settings = Settings(static_mounts=(f"/tools:{tmp_path}", f"/odd/:{tmp_path / 'a:b'}"))
    assert [(mount.path, mount.directory) for mount in settings.mounts()] == [
        ("/tools", tmp_path),
        ("/odd", tmp_path / "a:b"),
    ]


def test_a_mount_without_a_directory_or_twice_is_refused_at_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"--static-mounts /tools: the directory .* does not exist"):
        Settings(static_mounts=(f"/tools:{tmp_path / 'none'}",)).mounts()
    with pytest.raises(SettingsError, match="The route '/tools' collides with an existing route."):
        Settings(static_mounts=(f"/tools:{tmp_path}", f"/tools/:{tmp_path}")).mounts()


def test_what_has_no_effect_yet_is_said() -> None:
    said = Settings(redis_uri="redis://h", enable_mcp=True).cautions()
    assert [text.split()[0] for text in said] == ["--redis-uri", "--enable-mcp"]
