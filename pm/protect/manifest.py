"""C2PA manifests: who made a picture, with what and when, bound to its bytes by a signature (specification 2.2)."""

import datetime
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pm.errors import ConfigError, reason
from pm.protect.certificates import LOCAL, SigningKey

MIME: Mapping[str, str] = {"png": "image/png", "jpeg": "image/jpeg", "jpg": "image/jpeg", "webp": "image/webp"}
MADE_BY_AI = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
LABEL = "photomaker.generation"  # of the assertion that is our own
_TOOL = "PhotoMaker on Ray"
# No thumbnail: it would be the larger part of a small picture, and of the time.
_SETTINGS: dict[str, Any] = {"builder": {"thumbnail": {"enabled": False}}, "verify": {"remote_manifest_fetch": False}}


@dataclass(frozen=True)
class Signature:
    """What a manifest says, and whether it still fits its picture."""

    found: bool
    valid: bool = False  # the bytes are those that were signed
    trusted: bool = False  # a given root vouches for the signer
    local: bool = False  # signed with a test certificate that this software made
    signer: str | None = None
    tool: str | None = None
    made_by_ai: bool = False
    when: str | None = None  # as the signer says, ISO 8601
    made: dict[str, Any] = field(default_factory=dict)  # base, adapter, ...: fingerprints
    problems: tuple[str, ...] = ()  # C2PA's codes


def sign(file: bytes, format: str, key: SigningKey, made: Mapping[str, Any], timestamps: str | None = None) -> bytes:
    """A picture's file with its manifest; everything else in it stays.

    Args:
        file: PNG, JPEG or WebP.
        format: of it.
        key: what signs.
        made: plain values for the assertion `LABEL`.
        timestamps: URL of a time stamping authority, or None.

    Raises:
        ConfigError: the key cannot sign, or the authority does not answer.
    """
    import c2pa

    try:
        algorithm = c2pa.C2paSigningAlg[key.algorithm]
        info = c2pa.C2paSignerInfo(algorithm, key.certificates.encode(), key.key.encode(), timestamps or None)
        with (
            c2pa.Context(c2pa.Settings.from_dict(_SETTINGS)) as context,
            c2pa.Signer.from_info(info) as signer,
            c2pa.Builder(json.dumps(_manifest(made)), context=context) as builder,
        ):
            signed = io.BytesIO()
            builder.sign(signer, MIME[format], io.BytesIO(file), signed)
            return signed.getvalue()
    except c2pa.C2paError as error:
        raise ConfigError(
            f"the picture cannot be signed ({reason(error)}); correct protect.signature, or protect.signature=null"
        ) from error


def read(file: bytes, format: str, roots: str | None = None) -> Signature:
    """What the manifest of a picture says.

    Args:
        file: PNG, JPEG or WebP.
        format: of it.
        roots: PEM of certificates that are trusted, or None.
    """
    import c2pa

    settings: dict[str, Any] = {"verify": dict(_SETTINGS["verify"])}
    if roots:
        settings["verify"]["verify_trust"], settings["trust"] = True, {"trust_anchors": roots}
    try:
        with (
            c2pa.Context(c2pa.Settings.from_dict(settings)) as context,
            c2pa.Reader(MIME[format], io.BytesIO(file), context=context) as reader,
        ):
            return _said(json.loads(reader.json()))
    except c2pa.C2paError as error:
        if "ManifestNotFound" in str(error):
            return Signature(False)
        return Signature(True, problems=(reason(error),))


def _manifest(made: Mapping[str, Any]) -> dict[str, Any]:
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    tool = {"name": _TOOL, "version": _version()}
    created = {"action": "c2pa.created", "when": now, "digitalSourceType": MADE_BY_AI, "softwareAgent": tool}
    return {
        "claim_generator_info": [tool],
        "assertions": [
            {"label": "c2pa.actions.v2", "data": {"actions": [created]}},
            {"label": LABEL, "data": dict(made)},
        ],
    }


def _said(store: Mapping[str, Any]) -> Signature:
    manifest = store["manifests"][store["active_manifest"]]
    said = {each["label"]: each.get("data", {}) for each in manifest.get("assertions", ())}
    actions = next((v.get("actions", ()) for k, v in said.items() if k.startswith("c2pa.actions")), ())
    created: Mapping[str, Any] = next((a for a in actions if a.get("action") == "c2pa.created"), {})
    signer, state = manifest.get("signature_info", {}), store.get("validation_state")
    codes = [each["code"] for each in store.get("validation_status", ())]
    return Signature(
        True,
        valid=state in ("Valid", "Trusted"),
        trusted=state == "Trusted",
        local=signer.get("issuer") == LOCAL,
        signer=signer.get("common_name") or signer.get("issuer"),
        tool=next((each.get("name") for each in manifest.get("claim_generator_info", ())), None),
        made_by_ai=created.get("digitalSourceType") == MADE_BY_AI,
        when=signer.get("time") or created.get("when"),
        made=dict(said.get(LABEL, {})),
        problems=tuple(dict.fromkeys(code for code in codes if code != "signingCredential.untrusted")),
    )


def _version() -> str:
    try:
        return version("photomaker-ray")
    except PackageNotFoundError:
        return "unknown"
