"""Settings of the server: from flags, FEWSTEP_SERVE_… in the environment, and a TOML file, in descending priority."""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from fewstep.generation.request import IMAGES, STEPS
from fewstep.models.text import MAX_PROMPT
from fewstep.serving.engine.limits import Limits
from fewstep.serving.engine.validation import complaint
from fewstep.serving.http.keys import KeyRing, read_keys
from fewstep.serving.http.security import Access


class ServeSettings(BaseSettings):
    """Serve a model over HTTP: OpenAI's Images API at /v1, MCP at /mcp. Settings come from flags, from
    FEWSTEP_SERVE_… in the environment, and from a TOML file (--file), in descending priority."""

    model_config = SettingsConfigDict(
        env_prefix="FEWSTEP_SERVE_",
        extra="forbid",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_prog_name="fewstep serve",
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_exit_on_error=False,
    )

    model: tuple[str, ...] = Field(
        ("emoji",),
        min_length=1,
        description="A built-in model, a directory, or user/name on the Hugging Face hub. Further ones, each with a "
        "--model of its own, are loaded when a request names them.",
    )
    model_bytes: int | None = Field(
        None, ge=1, description="Most bytes of memory for the further models together; all may be loaded if left out."
    )
    unload_seconds: float = Field(600, gt=0, description="Seconds after which a further model that nobody uses goes.")
    host: str = Field("127.0.0.1", description="Address to listen on; any but this machine's own requires API keys.")
    port: int = Field(8642, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    engine: str = Field("auto", description="onnx, openvino, eager or compiled; auto takes the fastest one measured.")
    precision: str | None = Field(None, description="float32, or bfloat16 where the engine supports it.")
    device: str = Field("cpu", description="Device of the engines eager and compiled: cpu, cuda or mps.")
    threads: int | None = Field(None, ge=1, description="Threads of one network call; one per core if left out.")
    network_cpus: tuple[int, ...] | None = Field(None, description="Cores that the network's thread is pinned to.")

    aliases: tuple[str, ...] = Field(
        ("gpt-image-*", "chatgpt-image-*", "dall-e-*"),
        description="Other names that requests may use for the model, * standing for any text, so * alone for any "
        "name; replaces the default list.",
    )
    keys_file: Path | None = Field(
        None,
        description="File of hashed API keys, one per line, as printed by `fewstep serve-key`; read again on change.",
    )
    without_keys: bool = Field(False, description="Allow listening beyond this machine without API keys.")
    trusted_proxies: tuple[str, ...] = Field(
        ("127.0.0.1", "::1"),
        description="Addresses or networks whose X-Forwarded-For is believed; replaces the default.",
    )
    origins: tuple[str, ...] = Field(
        (), description="Origins of web pages that may call the server, such as https://example.org."
    )
    hosts: tuple[str, ...] = Field((), description="Host names that clients may use besides this machine's own.")
    public_url: str | None = Field(None, description="URL at which clients reach the server behind a proxy.")

    jobs: int = Field(32, ge=1, le=1024, description="Requests that run at the same time and share network calls.")
    max_waiting: int = Field(256, ge=0, description="Longest queue of waiting requests; further ones get 429.")
    max_batch: int = Field(32, ge=1, le=1024, description="Most samples in one network call.")
    keep_seconds: float = Field(3600, gt=0, description="Seconds for which images are kept under their id.")
    keep_images: int = Field(1000, ge=1, description="Most images kept at a time.")
    keep_bytes: int = Field(1_000_000_000, ge=1, description="Largest total size of the kept images, in bytes.")
    keep_alive: int = Field(75, ge=1, le=3600, description="Seconds for which an idle connection stays open.")
    shutdown_timeout: float = Field(30, ge=0, description="Seconds that running requests get when the server stops.")

    max_body_bytes: int = Field(50_000_000, ge=1, description="Largest request body, in bytes.")
    max_pixels: int = Field(
        16_777_216, ge=64, description="Most pixels of an uploaded image, and of all images of one answer together."
    )
    max_held_pixels: int = Field(
        134_217_728, ge=64, description="Most pixels of uploaded images in memory at a time; then requests get 429."
    )
    max_answer_pixels: int = Field(
        134_217_728,
        ge=64,
        description="Most pixels of images that are drawn or sent at a time; then requests get 429.",
    )
    write_timeout: float = Field(
        60, gt=0, description="Seconds after which a client that reads nothing of its answer is cut off."
    )
    max_images: int = Field(10, ge=1, le=IMAGES.maximum, description="Most images per request.")
    max_steps: int = Field(64, ge=1, le=STEPS.maximum, description="Most steps per request.")
    max_prompt: int = Field(MAX_PROMPT, ge=1, le=MAX_PROMPT, description="Longest prompt, in characters.")
    fetch_images: bool = Field(False, description="Fetch images that a request names by a public URL.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")
    log_prompts: bool = Field(False, description="Write prompts to the log.")

    file: Path | None = Field(None, description="TOML file with any of these settings.")

    @field_validator("model", mode="before")
    @classmethod
    def _models(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("origins")
    @classmethod
    def _pages(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_origin, values))

    @field_validator("hosts")
    @classmethod
    def _names(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_host, values))

    @field_validator("keys_file")
    @classmethod
    def _keys(cls, value: Path | None) -> Path | None:
        if value is not None:
            read_keys(value)
        return value

    @field_validator("public_url")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(f"must begin with http:// or https://, got '{value}'")
        return value and value.rstrip("/")

    @model_validator(mode="after")
    def _guarded(self) -> ServeSettings:
        if not self.is_local and self.keys_file is None and not self.without_keys:
            raise ValueError(
                f"listening at {self.host} lets others in: give --keys-file, or --without-keys if that is intended"
            )
        return self

    @property
    def limits(self) -> Limits:
        """The limits of a single request."""
        return Limits(self.max_images, self.max_steps, self.max_pixels, self.max_prompt)

    def access(self) -> Access:
        """Who may call; the keys file is read.

        Raises:
            ValueError: it holds no keys.
        """
        own = ("localhost", "127.0.0.1", "::1", self.host.strip("[]").lower())
        names = () if self.without_keys and not self.hosts else (*own, *self.hosts)
        return Access(frozenset(names), frozenset(self.origins), KeyRing(self.keys_file))

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return False

    def shown(self) -> str:
        """All settings on one line. None of them is secret: keys are in a separate file, hashed."""
        return " ".join(f"{name}={value}" for name, value in self.model_dump(mode="json").items())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources in order: flags, the environment, and the file named by either of them."""
        _check_environment(settings_cls)
        env_settings = _Environment(settings_cls)
        try:
            variables = env_settings()
        except SettingsError as error:
            name = str(error).split('"')[1].upper()
            raise ValueError(f'FEWSTEP_SERVE_{name}: must be a JSON list, such as ["a", "b"]') from None
        named: Any = {**variables, **init_settings()}.get("file")
        file = (_file(settings_cls, Path(named)),) if named else ()
        return (init_settings, env_settings, *file)


def _origin(value: str) -> str:
    """A page's origin as browsers send it: without the scheme's default port."""
    scheme, _, place = value.rstrip("/").lower().partition("://")
    if scheme not in _PORTS or not _PLACE.fullmatch(place):
        raise ValueError(f"must be like https://example.org, got '{value}'")
    return f"{scheme}://{place.removesuffix(_PORTS[scheme])}"


def _host(value: str) -> str:
    """A host name in the form used for comparison: IPv6 addresses have no brackets."""
    name = value.lower()
    try:
        return str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        if _NAME.fullmatch(name):
            return name
    raise ValueError(f"must be a name without scheme and port, such as images.example.org, got '{value}'")


_PORTS = {"http": ":80", "https": ":443"}
_NAME = re.compile(r"[\w.-]+", re.ASCII)
_PLACE = re.compile(r"([\w.-]+|\[[0-9a-f:.]+\])(:\d{1,5})?", re.ASCII)


def wrong_setting(error: ValidationError, arguments: Sequence[str] = ()) -> str:
    """The first of pydantic's errors on one line: the setting, by the name under which it was given, and its value.

    Args:
        error: validation error of `ServeSettings`.
        arguments: arguments of the command line.
    """
    first = error.errors()[0]
    if not first["loc"]:
        return complaint({**first, "input": {}})
    message = complaint(first)
    name = str(first["loc"][0])
    flag, variable = f"--{name.replace('_', '-')}", f"{ServeSettings.model_config['env_prefix']}{name.upper()}"
    if any(argument.partition("=")[0] == flag for argument in arguments):
        return f"{flag}: {message}"
    return f"{variable}: {message}" if variable in map(str.upper, os.environ) else f"{name} in the file: {message}"


def settings_from_environment(**given: Any) -> ServeSettings:
    """The settings of a command with only a few of the flags.

    Raises:
        ValueError: a setting is wrong; the message is one line and names it.
    """
    try:
        return ServeSettings(**given)
    except ValidationError as error:
        raise ValueError(f"{wrong_setting(error)} (FEWSTEP_SERVE_… in the environment apply here too)") from None


class _Environment(EnvSettingsSource):
    """The environment, in which one model is written as itself and several as a JSON list."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        if field_name == "model" and not value.startswith("["):
            return value
        return super().decode_complex_value(field_name, field, value)


def _check_environment(settings: type[BaseSettings]) -> None:
    """Check for misspelt variables, which would otherwise be ignored silently.

    Raises:
        ValueError: the environment has a FEWSTEP_SERVE_… variable that is not a setting.
    """
    prefix = settings.model_config["env_prefix"]
    for name in os.environ:
        if name.upper().startswith(prefix) and name.upper().removeprefix(prefix).lower() not in settings.model_fields:
            raise ValueError(f"{name} is not a setting: see fewstep serve --help")


def _file(settings: type[BaseSettings], path: Path) -> TomlConfigSettingsSource:
    """The settings in a file.

    Raises:
        ValueError: the file does not exist or is not valid TOML.
    """
    if not path.is_file():
        raise ValueError(f"there is no file '{path}'")
    try:
        source = TomlConfigSettingsSource(settings, path)
        if unknown := sorted(source.toml_data.keys() - settings.model_fields.keys()):
            raise ValueError(f"'{path}' has no setting {', '.join(unknown)}: see fewstep serve --help")
        return source
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"'{path}' is not valid TOML: {error}") from None
