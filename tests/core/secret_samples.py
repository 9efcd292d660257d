# ruff: noqa: E501  # tables of formats, a line each
"""Secrets as their makers publish their formats, made of seeded chance; and lines of entries that hold them, or that
hold nothing secret. Written from the formats, not from our rules."""

import base64
import hashlib
import json
import random
import string
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

ALNUM = string.ascii_letters + string.digits
LOWER = string.ascii_lowercase + string.digits
UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
URL64 = ALNUM + "-_"
_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BASE32 = string.ascii_uppercase + "234567"


class Chance(random.Random):
    def of(self, alphabet: str, size: int) -> str:
        return "".join(self.choices(alphabet, k=size))

    def uuid(self) -> str:
        text = self.of(HEX, 32)
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"

    def base64(self, size: int) -> str:
        return base64.b64encode(self.randbytes(size)).decode()

    def password(self) -> str:
        return self.of(string.ascii_lowercase, 4) + self.of(string.digits, 3) + self.choice("!%*^") + self.of(ALNUM, 5)


class Sample(NamedTuple):
    """`text` is the secret with what it needs around it to be known as one; `secret` may not be seen afterwards."""

    kind: str
    text: str
    secret: str


def make_pem(chance: Chance, label: str) -> tuple[str, str]:
    body = chance.base64(600)
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n", body[64:128]


def _jwt(chance: Chance) -> str:
    parts = [json.dumps({"alg": "HS256", "typ": "JWT"}), json.dumps({"sub": chance.of(string.digits, 10), "iat": 1})]
    head = ".".join(base64.urlsafe_b64encode(one.encode()).decode().rstrip("=") for one in parts)
    return f"{head}.{chance.of(URL64, 43)}"


def _wallet_key(chance: Chance) -> str:
    """A private key as a wallet imports it: with a checksum, in base 58."""
    raw = b"\x80" + chance.randbytes(32) + b"\x01"
    number = int.from_bytes(raw + hashlib.sha256(hashlib.sha256(raw).digest()).digest()[:4], "big")
    signs = ""
    while number:
        number, rest = divmod(number, 58)
        signs = _BASE58[rest] + signs
    return signs


Bare = Callable[[Chance], str]
BARE: Mapping[str, Bare] = {
    "aws-access-key": lambda c: c.choice(["AKIA", "ASIA"]) + c.of(BASE32, 16),
    "gcp-api-key": lambda c: "AIza" + c.of(URL64, 35),
    "google-oauth-secret": lambda c: "GOCSPX-" + c.of(URL64, 28),
    "google-oauth-token": lambda c: "ya29." + c.of(URL64, 120),
    "azure-client-secret": lambda c: c.of(ALNUM, 3) + "8Q~" + c.of(ALNUM + "_~.-", 34),
    "digitalocean-token": lambda c: c.choice(["dop", "doo", "dor"]) + "_v1_" + c.of(HEX, 64),
    "heroku-key": lambda c: "HRKU-AA" + c.of(ALNUM + "_", 58),
    "alibaba-key": lambda c: "LTAI5t" + c.of(ALNUM, 18),
    "anthropic-key": lambda c: "sk-ant-api03-" + c.of(URL64, 93) + "AA",
    "openai-project-key": lambda c: "sk-proj-" + c.of(URL64, 74) + "T3BlbkFJ" + c.of(URL64, 74),
    "openai-key": lambda c: "sk-" + c.of(ALNUM, 20) + "T3BlbkFJ" + c.of(ALNUM, 20),
    "openrouter-key": lambda c: "sk-or-v1-" + c.of(HEX, 64),
    "huggingface-token": lambda c: "hf_" + c.of(ALNUM, 34),
    "groq-key": lambda c: "gsk_" + c.of(ALNUM, 52),
    "replicate-token": lambda c: "r8_" + c.of(ALNUM, 37),
    "xai-key": lambda c: "xai-" + c.of(ALNUM, 80),
    "perplexity-key": lambda c: "pplx-" + c.of(ALNUM, 48),
    "github-token": lambda c: c.choice(["ghp", "gho", "ghu", "ghs", "ghr"]) + "_" + c.of(ALNUM, 36),
    "github-fine-grained": lambda c: "github_pat_" + c.of(ALNUM, 22) + "_" + c.of(ALNUM, 59),
    "gitlab-token": lambda c: c.choice(["glpat-", "gldt-", "glrt-", "glptt-"]) + c.of(URL64, 20),
    "bitbucket-token": lambda c: "ATBB" + c.of(ALNUM, 32),
    "atlassian-token": lambda c: "ATATT3xFfGF0" + c.of(URL64, 170) + "=" + c.of(UPPER, 8),
    "npm-token": lambda c: "npm_" + c.of(ALNUM, 36),
    "pypi-token": lambda c: "pypi-AgEIcHlwaS5vcmc" + c.of(URL64, 140),
    "rubygems-key": lambda c: "rubygems_" + c.of(HEX, 48),
    "crates-token": lambda c: "cio" + c.of(ALNUM, 32),
    "docker-token": lambda c: "dckr_pat_" + c.of(URL64, 27),
    "slack-bot-token": lambda c: f"xoxb-{c.of(string.digits, 12)}-{c.of(string.digits, 13)}-{c.of(ALNUM, 24)}",
    "slack-app-token": lambda c: f"xapp-1-A{c.of(UPPER, 10)}-{c.of(string.digits, 13)}-{c.of(HEX, 64)}",
    "discord-token": lambda c: "MT" + c.of(ALNUM, 24) + "." + c.of(URL64, 6) + "." + c.of(URL64, 38),
    "telegram-token": lambda c: c.of("123456789", 10) + ":AA" + c.of(URL64, 33),
    "twilio-key": lambda c: "SK" + c.of(HEX, 32),
    "sendgrid-key": lambda c: "SG." + c.of(URL64, 22) + "." + c.of(URL64, 43),
    "mailchimp-key": lambda c: c.of(HEX, 32) + "-us" + str(c.randrange(1, 22)),
    "stripe-key": lambda c: c.choice(["sk_live_", "rk_live_", "sk_test_"]) + c.of(ALNUM, 99),
    "square-token": lambda c: "sq0csp-" + c.of(URL64, 43),
    "shopify-token": lambda c: c.choice(["shpat_", "shpss_"]) + c.of(HEX, 32),
    "linear-key": lambda c: "lin_api_" + c.of(ALNUM, 40),
    "notion-token": lambda c: "ntn_" + c.of(string.digits, 11) + c.of(ALNUM, 35),
    "figma-token": lambda c: "figd_" + c.of(URL64, 40),
    "sentry-token": lambda c: "sntrys_" + c.of(ALNUM, 120) + "_" + c.of(ALNUM, 43),
    "new-relic-key": lambda c: "NRAK-" + c.of(UPPER, 27),
    "grafana-token": lambda c: "glsa_" + c.of(ALNUM, 32) + "_" + c.of(HEX, 8),
    "vault-token": lambda c: "hvs." + c.of(URL64, 95),
    "terraform-token": lambda c: c.of(ALNUM, 14) + ".atlasv1." + c.of(URL64, 67),
    "doppler-token": lambda c: "dp.pt." + c.of(ALNUM, 43),
    "postman-key": lambda c: "PMAK-" + c.of(HEX, 24) + "-" + c.of(HEX, 34),
    "databricks-token": lambda c: "dapi" + c.of(HEX, 32),
    "supabase-key": lambda c: "sbp_" + c.of(HEX, 40),
    "airtable-token": lambda c: "pat" + c.of(ALNUM, 14) + "." + c.of(HEX, 64),
    "tailscale-key": lambda c: "tskey-auth-" + c.of(ALNUM, 16) + "-" + c.of(ALNUM, 32),
    "age-key": lambda c: "AGE-SECRET-KEY-1" + c.of("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),
    "jwt": _jwt,
    "gcp-auth-key": lambda c: "AQ.Ab8RN6" + c.of(URL64, 44),
    "azure-openai-key": lambda c: c.of(ALNUM, 52) + "JQQJ99" + c.of(UPPER, 10) + "AAAB" + c.of(ALNUM, 12),
    "azure-function-key": lambda c: c.of(URL64, 44) + "AzFu" + c.of(ALNUM, 6) + "==",
    "vercel-token": lambda c: c.choice(["vcp_", "vck_", "vca_"]) + c.of(ALNUM, 56),
    "neon-key": lambda c: "napi_" + c.of(LOWER, 64),
    "convex-key": lambda c: f"prod:happy-otter-123|{c.of(HEX, 64)}",
    "fireworks-key": lambda c: "fw_3Z" + c.of(ALNUM, 21) + "7",
    "zai-key": lambda c: c.of(HEX, 32) + "." + c.of(ALNUM, 15) + "4",
    "cursor-key": lambda c: c.choice(["key_", "crsr_"]) + c.of(HEX, 64),
    "firecrawl-key": lambda c: "fc-" + c.of(HEX, 32),
    "context7-key": lambda c: "ctx7sk-" + c.uuid(),
    "e2b-key": lambda c: "e2b_" + c.of(HEX, 40),
    "mem0-key": lambda c: "m0-" + c.of(ALNUM, 40),
    "runpod-key": lambda c: "rpa_" + c.of(UPPER, 46),
    "logfire-token": lambda c: "pylf_v1_us_" + c.of(ALNUM, 43),
    "llamacloud-key": lambda c: "llx-" + c.of(ALNUM, 48),
    "wandb-key": lambda c: "wandb_v1_" + c.of(ALNUM, 77),
    "amp-key": lambda c: "sgamp_user_" + c.of(UPPER, 26) + "_" + c.of(HEX, 64),
    "slack-user-token": lambda c: f"xoxc-{c.of(string.digits, 12)}-{c.of(string.digits, 12)}-{c.of(HEX, 64)}",
    "paddle-key": lambda c: f"pdl_live_apikey_{c.of(LOWER, 26)}_{c.of(ALNUM, 22)}_{c.of(ALNUM, 3)}",
    "polar-token": lambda c: "polar_oat_" + c.of(ALNUM, 40),
    "brevo-key": lambda c: f"xkeysib-{c.of(HEX, 64)}-{c.of(ALNUM, 16)}",
    "honeycomb-key": lambda c: "hcaik_01" + c.of(LOWER, 56),
    "asana-token": lambda c: f"2/{c.of(string.digits, 16)}/{c.of(string.digits, 16)}:{c.of(HEX, 32)}",
    "clickup-token": lambda c: f"pk_{c.of(string.digits, 8)}_{c.of(UPPER, 32)}",
    "mapbox-token": lambda c: f"sk.eyJ1Ijoi{c.of(ALNUM, 60)}.{c.of(URL64, 21)}x",
    "infisical-token": lambda c: f"st.{c.of(HEX, 24)}.{c.of(HEX, 32)}.{c.of(HEX, 32)}",
    "inngest-key": lambda c: "signkey-prod-" + c.of(HEX, 64),
    "shippo-token": lambda c: "shippo_live_" + c.of(HEX, 40),
    "axiom-token": lambda c: "xaat-" + c.uuid(),
    "post-quantum-age-key": lambda c: "AGE-SECRET-KEY-PQ-1" + c.of("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58),
    "wallet-key": lambda c: "xprv9s21ZrQH143K" + c.of(ALNUM, 95),
    "aws-session-token": lambda c: "IQoJb3JpZ2luX2VjE" + c.of(ALNUM + "+/", 300),
    "harness-token": lambda c: f"pat.{c.of(URL64, 22)}.{c.of(HEX, 24)}.{c.of(ALNUM, 20)}",
    "yandex-token": lambda c: f"t1.{c.of(URL64, 60)}.{c.of(URL64, 86)}",
    "yandex-key": lambda c: "AQVN" + c.of(ALNUM + "_", 36),
    "laravel-token": lambda c: f"{c.randrange(1, 90)}|{c.of(ALNUM, 40)}{c.of(HEX, 8)}",
    "jetbrains-token": lambda c: f"perm-{c.base64(6)}.{c.base64(4)}.{c.of(ALNUM, 30)}",
    "bitcoin-key": _wallet_key,
    "nostr-key": lambda c: "nsec1" + c.of("qpzry9x8gf2tvdw0s3jn54khce6mua7l", 58),
    "readme-key": lambda c: "rdme_xn8s9h" + c.of(LOWER, 64),
    "django-key": lambda c: "django-insecure-" + c.of(string.ascii_lowercase + string.digits + "!@#$%^*(-_=+)", 50),
    "runpod-suffixed-key": lambda c: "rpa_" + c.of(UPPER, 40) + c.of(string.ascii_lowercase, 6),
    "mongodb-key": lambda c: "mdb_sa_sk_" + c.of(ALNUM, 40),
    "launchdarkly-api-key": lambda c: "api-" + c.uuid(),
    "launchdarkly-sdk-key": lambda c: "sdk-" + c.uuid(),
    "daytona-key": lambda c: "dtn_" + c.of(HEX, 64),
    "duffel-token": lambda c: c.choice(["duffel_test_", "duffel_live_"]) + c.of(URL64, 43),
    "flutterwave-key": lambda c: c.choice(["FLWSECK_TEST-", "FLWSECK-"]) + c.of(HEX, 32) + "-X",
    "adafruit-key": lambda c: "aio_" + c.of(string.ascii_letters, 4) + c.of(string.digits, 2) + c.of(ALNUM, 22),
    "prefect-key": lambda c: c.choice(["pnu_", "pnb_"]) + c.of(ALNUM, 36),
    "octopus-key": lambda c: "API-" + c.of(UPPER, 30),
    "openshift-token": lambda c: "sha256~" + c.of(URL64, 43),
    "frameio-token": lambda c: "fio-u-" + c.of(URL64, 64),
    "scalingo-token": lambda c: "tk-us-" + c.of(URL64, 48),
    "sumup-key": lambda c: "sup_sk_" + c.of(ALNUM, 32),
    "linkedin-token": lambda c: "AQV" + c.of(URL64, 347),
    "rapidapi-key": lambda c: f"{c.of(LOWER, 10)}msh{c.of(LOWER, 15)}p1{c.of(LOWER, 6)}jsn{c.of(LOWER, 12)}",
    "unkey-key": lambda c: "unkey_" + c.of(ALNUM, 22),
    "depot-token": lambda c: "depot_org_" + c.of(HEX, 64),
    "chromatic-token": lambda c: "chpt_" + c.of(HEX, 14) + "7",
    "codex-refresh-token": lambda c: f"rt_{c.of(URL64, 43)}.{c.of(URL64, 43)}",
    "ory-token": lambda c: c.choice(["ory_pat_", "ory_st_", "ory_apikey_"]) + c.of(ALNUM, 32),
    "ory-access-token": lambda c: f"ory_at_{c.of(URL64, 43)}.{c.of(URL64, 43)}",
    "zuplo-key": lambda c: f"zpka_{c.of(LOWER, 32)}_{c.of(HEX, 8)}",
    "moonshot-key": lambda c: "sk-" + c.of(ALNUM, 48),
    "kimi-key": lambda c: "sk-kimi-" + c.of(ALNUM, 64),
    "fireworks-short-key": lambda c: "fw_3Z" + c.of(ALNUM, 20) + "47",
    "shadow-hash": lambda c: f"$6${c.of(ALNUM + './', 16)}${c.of(ALNUM + './', 86)}",
    "yescrypt-hash": lambda c: f"$y$j9T${c.of(ALNUM + './', 22)}${c.of(ALNUM + './', 43)}",
    "bcrypt-hash": lambda c: "$2b$12$" + c.of(ALNUM + "./", 53),
    "key-in-der": lambda c: "MIIEvgIBADANBgkqhkiG9w0BAQEFAASC" + c.base64(600),
}
"""Those that are known by themselves."""


def _around(before: str, value: Bare, after: str = "") -> Callable[[Chance], tuple[str, str]]:
    def make(chance: Chance) -> tuple[str, str]:
        secret = value(chance)
        return before + secret + after, secret

    return make


def _service_account(chance: Chance) -> tuple[str, str]:
    pem, secret = make_pem(chance, "PRIVATE KEY")
    account = {"type": "service_account", "private_key_id": chance.of(HEX, 40), "private_key": pem}
    return json.dumps(account, indent=2), secret


def _pem64(chance: Chance) -> tuple[str, str]:
    text = base64.b64encode(make_pem(chance, "RSA PRIVATE KEY")[0].encode()).decode()
    return f"  tls.key: {text}\n", text[200:260]


def _headless(chance: Chance) -> tuple[str, str]:
    pem, secret = make_pem(chance, "RSA PRIVATE KEY")
    return pem.partition("-----END")[0], secret


def _basic(chance: Chance) -> tuple[str, str]:
    secret = base64.b64encode(f"deploy:{chance.password()}".encode()).decode()
    return f"Authorization: Basic {secret}", secret


def _docker_login(chance: Chance) -> tuple[str, str]:
    secret = base64.b64encode(f"deploy:{chance.password()}".encode()).decode()
    return json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": secret}}}), secret


def _web_key(chance: Chance) -> tuple[str, str]:
    secret = base64.urlsafe_b64encode(chance.randbytes(32)).decode().rstrip("=")
    return json.dumps({"kty": "EC", "crv": "P-256", "d": secret}), secret


def _behind_certificate(chance: Chance) -> tuple[str, str]:
    certificate = f"-----BEGIN CERTIFICATE-----\n{chance.base64(60)}\n-----END CERTIFICATE-----\n"
    text = base64.b64encode((certificate + make_pem(chance, "PRIVATE KEY")[0]).encode()).decode()
    return f"  bundle.pem: {text}\n", text[-200:-140]


def _key_file(chance: Chance) -> tuple[str, str]:
    secret = chance.of(ALNUM + "+/", 39) + "7"
    return f"Access key ID,Secret access key\nAKIA{chance.of(BASE32, 16)},{secret}\n", secret


AROUND: Mapping[str, Callable[[Chance], tuple[str, str]]] = {
    "aws-secret-key": _around("aws_secret_access_key = ", lambda c: c.of(ALNUM + "+/", 40)),
    "azure-storage-key": _around(
        "DefaultEndpointsProtocol=https;AccountName=logs;AccountKey=", lambda c: c.base64(64), ";EndpointSuffix=x"
    ),
    "azure-sas": _around(
        "https://a.blob.core.windows.net/c?sv=2024-01-01&sr=c&sig=", lambda c: c.of(ALNUM, 43) + "%3D"
    ),
    "cloudflare-token": _around("CLOUDFLARE_API_TOKEN=", lambda c: c.of(URL64, 40)),
    "heroku-uuid": _around("HEROKU_API_KEY=", lambda c: c.uuid()),
    "mistral-key": _around('MISTRAL_API_KEY: "', lambda c: c.of(ALNUM, 32), '"'),
    "gitea-token": _around("gitea_token=", lambda c: c.of(HEX, 40)),
    "datadog-key": _around("DD_API_KEY=", lambda c: c.of(HEX, 32)),
    "npmrc": _around("//registry.example.org/:_authToken=", lambda c: c.of(ALNUM, 40)),
    "slack-webhook": _around(
        "https://hooks.slack.com/services/", lambda c: f"T{c.of(UPPER, 9)}/B{c.of(UPPER, 9)}/{c.of(ALNUM, 24)}"
    ),
    "discord-webhook": _around("https://discord.com/api/webhooks/123456789012345678/", lambda c: c.of(URL64, 68)),
    "bearer": _around("Authorization: Bearer ", lambda c: c.of(URL64, 40)),
    "basic": _basic,
    "url-password": _around("postgres://app:", lambda c: c.password(), "@db.internal:5432/app"),
    "env-key": _around("export PAYMENT_API_KEY=", lambda c: c.of(ALNUM, 32)),
    "env-secret": _around("SESSION_SECRET='", lambda c: c.of(HEX, 64), "'"),
    "env-password": _around("DB_PASSWORD=", lambda c: c.password()),
    "json-token": _around('{"refresh_token": "', lambda c: c.of(URL64, 48), '"}'),
    "yaml-secret": _around("  clientSecret: ", lambda c: c.of(ALNUM + "~_", 36)),
    "wireguard-key": _around("[Interface]\nPrivateKey = ", lambda c: c.base64(32)),
    "rsa-key": lambda c: make_pem(c, "RSA PRIVATE KEY"),
    "openssh-key": lambda c: make_pem(c, "OPENSSH PRIVATE KEY"),
    "ec-key": lambda c: make_pem(c, "EC PRIVATE KEY"),
    "encrypted-key": lambda c: make_pem(c, "ENCRYPTED PRIVATE KEY"),
    "pgp-key": lambda c: make_pem(c, "PGP PRIVATE KEY BLOCK"),
    "key-without-end": _headless,
    "key-in-base64": _pem64,
    "gcp-service-account": _service_account,
    "docker-login": _docker_login,
    "web-key": _web_key,
    "key-behind-certificate": _behind_certificate,
    "env-uuid": _around("SNYK_TOKEN=", lambda c: c.uuid()),
    "app-key": _around("APP_KEY=base64:", lambda c: c.base64(32)),
    "header-uuid": _around("X-Postmark-Server-Token: ", lambda c: c.uuid()),
    "signed-url": _around("https://b.s3.amazonaws.com/x?X-Amz-Signature=", lambda c: c.of(HEX, 64)),
    "token-before-host": _around("https://", lambda c: c.of(HEX, 39) + "7", "@git.example.org/acme/shop.git"),
    "at-in-password": _around("postgres://app:p@", lambda c: c.password(), "@db.internal/app"),
    "cookie": _around("Cookie: theme=dark; session=", lambda c: c.of(ALNUM, 39) + "7"),
    "password-on-command-line": _around("tool --password ", lambda c: c.of(string.ascii_lowercase, 9) + "42x"),
    "token-on-command-line": _around("tool --api-token ", lambda c: c.of(ALNUM, 31) + "7"),
    "user-on-command-line": _around("curl -u deploy:", lambda c: c.of(ALNUM, 15) + "7", " https://example.org/"),
    "mysql-password": _around("mysql -uroot -p", lambda c: c.of(ALNUM, 15) + "7", " shop"),
    "netrc": _around("machine example.org login deploy password ", lambda c: c.password()),
    "netrc-over-lines": _around("machine example.org\n  login deploy\n  password ", lambda c: c.password(), "\n"),
    "pgpass": _around("db.internal:5432:shop:deploy:", lambda c: c.of(ALNUM, 14) + "7x"),
    "ngrok-token": _around(
        "ngrok config add-authtoken ", lambda c: "2" + c.of(ALNUM, 26) + "_" + c.of(ALNUM, 20) + "7"
    ),
    "docker-password": _around("docker login -u deploy -p ", lambda c: c.of(ALNUM, 15) + "7x", " registry.example.org"),
    "aws-key-file": _key_file,
    "wallet-phrase": _around('MNEMONIC="', lambda c: " ".join(c.of(string.ascii_lowercase, 6) for _ in range(12)), '"'),
}
"""Those that what stands around them gives away."""


def make_samples(each: int, seed: int = 1) -> list[Sample]:
    """`each` of every kind."""
    chance, samples = Chance(seed), []
    for kind, bare in BARE.items():
        for _ in range(each):
            text = bare(chance)
            samples.append(Sample(kind, text, text))
    for kind, around in AROUND.items():
        samples += [Sample(kind, *around(chance)) for _ in range(each)]
    return [one for one in samples if not _is_unlucky(one)]


def _is_unlucky(one: Sample) -> bool:
    """Whether chance drew what only looks like a placeholder."""
    return any(word in one.secret.lower() for word in ("xxxx", "your", "dummy", "fake"))


# --- entries that hold them -----------------------------------------------------------------------------------------


def make_entry(chance: Chance, content: object, **more: object) -> bytes:
    entry = {"parentUuid": chance.uuid(), "sessionId": chance.uuid(), "type": "user", "cwd": "/srv/work/shop", **more}
    entry |= {"message": {"role": "user", "content": content}, "uuid": chance.uuid()}
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=chance.random() < 0.5).encode()


def make_result(chance: Chance, text: str) -> list[object]:
    return [{"type": "tool_result", "tool_use_id": "toolu_01" + chance.of(ALNUM, 22), "content": text}]


def numbered(text: str) -> str:
    return "\n".join(f"{number:6d}\u2192{line}" for number, line in enumerate(text.split("\n"), 1))


BLOCKS = "split over blocks"


def split_over_blocks(chance: Chance, one: Sample) -> bytes:
    at = one.text.index(one.secret) + len(one.secret) // 2
    parts = ({"type": "text", "text": part} for part in (one.text[:at], one.text[at:]))
    return make_entry(chance, list(parts))


# --- entries that hold none -----------------------------------------------------------------------------------------


def _words(chance: Chance, count: int) -> str:
    return " ".join(chance.choices(_VOCABULARY, k=count))


_VOCABULARY = [
    "the",
    "token",
    "is",
    "refreshed",
    "when",
    "password",
    "reset",
    "asks",
    "for",
    "a",
    "secret",
    "key",
    "in",
    "settings",
    "and",
    "authorization",
    "header",
    "bearer",
    "auth",
    "access_token",
    "api_key",
    "getToken",
    "validatePassword",
    "SECRET_KEY",
    "client_secret",
    "tokenizer",
    "max_tokens",
    "private",
    "public",
    "test",
]

_PLACEHOLDERS = (
    "API_KEY=your-api-key-here", 'password: "changeme"', "TOKEN=<token>", "export SECRET_KEY=${SECRET_KEY}",
    "Authorization: Bearer <token>", "Authorization: Bearer $TOKEN", "postgres://user:password@localhost/db",
    "AKIAIOSFODNN7EXAMPLE", "sk-ant-xxxxxxxxxxxxxxxxxxxxxxxxxxxx", "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "secret_key_base: <%= ENV['SECRET_KEY_BASE'] %>", "DB_PASSWORD={{ vault_db_password }}", "token = process.env.TOKEN",
    "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----", "password = getpass.getpass()", "mysql://root:@127.0.0.1",
    "api_key = os.environ['OPENAI_API_KEY']", "self.token = token or self._default_token_for_user", "redis://:${PASS}@h:1",
    "const password = formData.password.trim()", "if token == expected_token_value_here:", "secretKeyRef: {name: app}",
    "passwordHash: bcrypt.hashSync(password, 10)", 'token_type = "urn:ietf:params:oauth:token-type:jwt"',
)  # fmt: skip

_CODE = (
    "def get_access_token(self, refresh_token: str) -> str:\n    return self._tokens[refresh_token]",
    "const secretManager = new SecretManagerServiceClient({projectId: config.projectId});",
    "cache_key = f'{user.id}:{token_version}:{request.path}'", "private static final String TOKEN_PREFIX = \"Bearer \";",
    "assert response.json()['access_token'] == expected['access_token']", "csrf_token: document.cookie.csrf_token,",
    "token=token, password=password, secret=secret, api_key=api_key)", "keyword_only_arguments=inspect.signature(function)",
)  # fmt: skip


def innocent_lines(count: int, seed: int = 2) -> Iterator[bytes]:
    chance = Chance(seed)
    makers: list[Callable[[], object]] = [
        lambda: f"commit {chance.of(HEX, 40)}\nAuthor: A\n\n    {_words(chance, 12)}\n",
        lambda: "\n".join(chance.uuid() for _ in range(5)),
        lambda: {"source": {"type": "base64", "media_type": "image/png", "data": chance.base64(1500)}},
        lambda: "!function(e,t){" + "".join(f"var {chance.of(string.ascii_lowercase, 2)}=n({chance.randrange(999)});" for _ in range(30)) + "}",
        lambda: "\n".join(f"{at:08x}  {chance.randbytes(16).hex(' ')}" for at in range(0, 96, 16)),
        lambda: json.dumps({"resolved": "https://registry.example.org/x/-/x-1.0.0.tgz", "integrity": "sha512-" + chance.base64(64)}),
        lambda: f'name = "serde"\nversion = "1.0.{chance.randrange(300)}"\nchecksum = "{chance.of(HEX, 64)}"\n',
        lambda: [{"type": "thinking", "thinking": _words(chance, 20), "signature": chance.base64(240)}],
        lambda: chance.choice(_PLACEHOLDERS) + "\n" + _words(chance, 6),
        lambda: chance.choice(_CODE) + "\n" + chance.choice(_CODE),
        lambda: _words(chance, 40),
        lambda: {"usage": {"input_tokens": chance.randrange(200_000), "cache_read_input_tokens": chance.randrange(10**7)}},
        lambda: f"sha256:{chance.of(HEX, 64)} /nix/store/{chance.of(LOWER, 32)}-glibc-2.39 etag: \"{chance.of(HEX, 32)}\"",
        lambda: f"GET /api/v1/items/{chance.uuid()}?page={chance.randrange(9)} HTTP/1.1\nrequest_id={chance.uuid()}\n",
    ]  # fmt: skip
    for number in range(count):
        made = makers[number % len(makers)]()
        content = made if isinstance(made, str) or chance.random() < 0.5 else make_result(chance, json.dumps(made))
        yield make_entry(chance, content, requestId="req_011" + chance.of(ALNUM, 21), version="2.1.197")
