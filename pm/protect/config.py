"""Settings of protection (`conf/protect/*.yaml`)."""

from dataclasses import dataclass

from pm.errors import ConfigError
from pm.protect.checks.check import CheckChoice
from pm.protect.watermarks.mark import WatermarkChoice


@dataclass(frozen=True)
class SignatureConfig:
    """The C2PA manifest of every picture and what signs it."""

    certificate: str | None  # PEM file, the signer's first; None: the environment, else a local chain made on first use
    key: str | None  # PEM file of its private key
    timestamps: str | None  # URL of an RFC 3161 authority, asked for every picture; None: no proof of the time
    prompt: bool  # say it in the manifest, which everybody reads

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            missing = "key" if self.key is None else "certificate"
            raise ConfigError(f"protect.signature.{missing} is not set; give certificate and key, or neither")


@dataclass(frozen=True)
class ProtectConfig:
    """What is done to every picture before it leaves."""

    signature: SignatureConfig | None  # None: none
    watermark: WatermarkChoice | None
    results: CheckChoice | None  # of pictures before they leave
    references: CheckChoice | None  # of photos of people


def protection(config: ProtectConfig) -> dict[str, str]:
    """What protects, in a word each, for a service's state: nothing is off without saying so."""
    checks = {"results": config.results, "references": config.references}
    return {
        "signature": "none" if config.signature is None else "c2pa",
        "watermark": "none" if config.watermark is None else config.watermark.name,
        **{name: "off" if check is None else f"{check.name}: {check.policy}" for name, check in checks.items()},
    }
