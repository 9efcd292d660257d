"""The shapes of secrets, as a table: what is known of them from what their makers published.

A rule's regular expression is in RE2's syntax over bytes. The first group that took part is the secret; without a group
all of the match is. `check` names a further look at what matched, in `agent/core/secret_checks.py`.
"""

from typing import NamedTuple


class Rule(NamedTuple):
    """`screen` is a cheaper expression that matches wherever `pattern` does, and that does not mind how the text around
    is escaped; empty: derived from `pattern`."""

    kind: str
    pattern: str
    check: str = ""
    screen: str = ""


_BEGIN = r"(?:\b|\\[nrtbf]|\\u[0-9A-Fa-f]{4})"
"""The beginning of a word, also where an escape stands before it."""

# Between a name and its value: blanks, quotes, and what JSON makes of them, once or several times.
_GAP = r"""(?:[\s"'`\\]|\\[nrt])*"""
_IS = _GAP + r"(?:=>|:=|=|:|,)" + _GAP
_END = r"(?:[^A-Za-z0-9+/_-]|$)"
_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"


def _named(words: str, value: str) -> str:
    """A value that only its name gives away."""
    return rf"(?i:{words})[A-Za-z0-9_.-]{{0,24}}{_IS}({value}){_END}"


def _named_screen(words: str, value: str) -> str:
    return rf"(?i:{words})[A-Za-z0-9_.-]*{_IS}(?:{value})"


def _in_context(kind: str, words: str, value: str, check: str = "") -> Rule:
    return Rule(kind, _named(words, value), check, _named_screen(words, value))


CLOUD = (
    Rule("aws-access-key", r"\b((?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})\b", "example"),
    _in_context("aws-secret-key", r"(?:aws|secret)[a-z0-9_. -]*key", r"[A-Za-z0-9/+]{40}", "random"),
    _in_context("aws-session-token", r"(?:session|security)_?-?token", r"[A-Za-z0-9/+=]{100,}"),
    Rule("aws-bedrock-key", r"\b(ABSK[A-Za-z0-9+/]{80,}={0,2})"),
    Rule("gcp-api-key", r"\b(AIza[0-9A-Za-z_-]{35})"),
    Rule("google-oauth-secret", r"\b(GOCSPX-[A-Za-z0-9_-]{28})"),
    Rule("google-oauth-token", r"\b(ya29\.[A-Za-z0-9_-]{30,})"),
    Rule("google-refresh-token", r"\b(1//0[A-Za-z0-9_-]{35,})"),
    _in_context("gcp-key-id", r"private_key_id", r"[0-9a-f]{40}"),
    Rule("azure-storage-key", r"(?i:Account|SharedAccess)Key=([A-Za-z0-9+/]{40,}={1,2})"),
    Rule("azure-sas", r"[?&;]sig=([A-Za-z0-9+/]{20,}(?:[A-Za-z0-9+/]|%[0-9A-Fa-f]{2})*(?:%3[Dd]|=))"),
    Rule(
        "azure-client-secret", r"\b([A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34})", "", r"[0-9]Q~[A-Za-z0-9_~.-]{10}"
    ),
    Rule("azure-devops-token", r"\b([A-Za-z0-9]{76}AZDO[A-Za-z0-9]{4})\b", "", r"AZDO[A-Za-z0-9]{4}"),
    Rule("digitalocean-token", r"\b(do[opr]_v1_[a-f0-9]{64})"),
    Rule("cloudflare-token", r"\b(v1\.0-[a-f0-9]{24}-[a-f0-9]{100,})"),
    Rule("cloudflare-token", r"\b(cf(?:k|ut|at)_[A-Za-z0-9]{40,})"),
    _in_context("cloudflare-token", r"cloudflare|\bcf_api", r"[A-Za-z0-9_-]{37,45}", "random"),
    Rule("heroku-key", r"\b(HRKU-[0-9a-zA-Z_-]{36,})"),
    _in_context("heroku-key", r"heroku", _UUID),
    Rule("alibaba-key", r"\b(LTAI[A-Za-z0-9]{12,26})\b"),
    Rule("tencent-key", r"\b(AKID[A-Za-z0-9]{32})\b"),
    Rule("fly-token", r"\b(fm[12][ar]?_[A-Za-z0-9+/_-]{60,}={0,2})"),
    Rule("planetscale-token", r"\b(pscale_(?:tkn|oauth|pw)_[A-Za-z0-9_.-]{32,})"),
    Rule("netlify-token", r"\b(nfp_[A-Za-z0-9]{36,})"),
    Rule("render-key", r"\b(rnd_[A-Za-z0-9]{28,})"),
    Rule("pulumi-token", r"\b(pul-[a-f0-9]{40})"),
)

MODELS = (
    Rule("anthropic-key", r"\b(sk-ant-[a-z0-9]{3,12}-[A-Za-z0-9_-]{20,})"),
    Rule("openrouter-key", r"\b(sk-or-v1-[a-f0-9]{64})"),
    Rule("openai-key", r"\b(sk-(?:proj|svcacct|admin|None)-[A-Za-z0-9_-]{20,})"),
    Rule("openai-key", r"\b(sk-[A-Za-z0-9]{32,64})\b", "random"),
    Rule("huggingface-token", r"\b(hf_[A-Za-z0-9]{34,})"),
    Rule("huggingface-token", r"\b(api_org_[A-Za-z0-9]{34,})"),
    Rule("groq-key", r"\b(gsk_[A-Za-z0-9]{40,})"),
    Rule("replicate-token", r"\b(r8_[A-Za-z0-9]{37,})"),
    Rule("xai-key", r"\b(xai-[A-Za-z0-9]{60,})"),
    Rule("perplexity-key", r"\b(pplx-[A-Za-z0-9]{40,})"),
    Rule("together-key", r"\b(tgp_v1_[A-Za-z0-9_-]{40,})"),
    Rule("cerebras-key", r"\b(csk-[a-z0-9]{40,})"),
    Rule("nvidia-key", r"\b(nvapi-[A-Za-z0-9_-]{50,})"),
    Rule("tavily-key", r"\b(tvly-[A-Za-z0-9-]{28,})", "prefixed"),
    Rule("elevenlabs-key", r"\b(sk_[a-f0-9]{48})\b"),
    Rule("langsmith-key", r"\b(lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{10})"),
    Rule("langfuse-key", rf"\b([sp]k-lf-{_UUID})", "", r"[sp]k-lf-[0-9a-f]{8}"),
    Rule("pinecone-key", r"\b(pcsk_[A-Za-z0-9_]{50,})"),
    Rule("jina-key", r"\b(jina_[A-Za-z0-9_-]{50,})"),
    Rule("voyage-key", r"\b(pa-[A-Za-z0-9_-]{43})", "random"),
    Rule("apify-token", r"\b(apify_api_[A-Za-z0-9]{30,})"),
    _in_context("mistral-key", r"mistral|codestral", r"[A-Za-z0-9]{32}", "random"),
    _in_context("cohere-key", r"cohere|\bco_api", r"[A-Za-z0-9]{40}", "random"),
    _in_context("wandb-key", r"wandb", r"[a-f0-9]{40}"),
)

CODE_HOSTS = (
    Rule("github-token", r"\b(gh[pousr]_[A-Za-z0-9]{36,251})"),
    Rule("github-token", r"\b(github_pat_[A-Za-z0-9_]{50,251})"),
    Rule("gitlab-token", r"\b(gl(?:pat|dt|ft|soat|rtr?|cbt|imt|ptt|agent|ffct|wt)-[A-Za-z0-9_.-]{20,300})", "prefixed"),
    Rule("gitlab-token", r"\b(gloas-[A-Za-z0-9_-]{64})"),
    Rule("gitlab-token", r"\b(GR1348941[A-Za-z0-9_-]{20})"),
    Rule("bitbucket-token", r"\b(ATBB[A-Za-z0-9_=.-]{28,})"),
    Rule("bitbucket-token", r"\b(ATCTT3xFfG[A-Za-z0-9_=.-]{60,})"),
    Rule("atlassian-token", r"\b(ATATT3[A-Za-z0-9_=.-]{80,})"),
    Rule("sourcegraph-token", r"\b(sgp_(?:[a-f0-9]{16}_|local_)?[a-f0-9]{40})", "", r"sgp_[a-fl0-9]"),
    _in_context("gitea-token", r"gitea|forgejo|codeberg", r"[a-f0-9]{40}"),
    Rule("buildkite-token", r"\b(bk[ru]a?_[a-f0-9]{40})"),
    Rule("circleci-token", r"\b(CCIP(?:AT|RJ)_[A-Za-z0-9]{22}_[a-f0-9]{40})"),
    Rule("sonarqube-token", r"\b(sq[apu]_[a-f0-9]{40})"),
)

PACKAGES = (
    Rule("npm-token", r"\b(npm_[A-Za-z0-9]{36})"),
    Rule("npm-token", r":_(?:authToken|password|auth)\s*=\s*\\*\"?([A-Za-z0-9+/=_.-]{16,})"),
    Rule("pypi-token", r"\b(pypi-[A-Za-z0-9_-]{60,})"),
    Rule("rubygems-key", r"\b(rubygems_[a-f0-9]{48})"),
    Rule("crates-token", r"\b(cio[A-Za-z0-9]{32})\b", "prefixed", _BEGIN + r"cio[A-Za-z0-9]{20}"),
    Rule("nuget-key", r"\b(oy2[a-z0-9]{43})\b"),
    Rule("docker-token", r"\b(dckr_[op]at_[A-Za-z0-9_-]{20,})"),
    Rule("clojars-token", r"\b(CLOJARS_[a-z0-9]{60})"),
    Rule("artifactory-key", r"\b(AKCp[A-Za-z0-9]{60,})"),
    Rule("artifactory-key", r"\b(cmVmdGtu[A-Za-z0-9]{56})"),
)

SERVICES = (
    Rule("slack-token", r"\b(xox[abeoprs]-[A-Za-z0-9-]{10,})", "prefixed"),
    Rule("slack-token", r"\b(xoxe\.xox[bp]-[0-9]-[A-Za-z0-9]{40,})"),
    Rule("slack-token", r"\b(xapp-[0-9]-[A-Z0-9]+-[0-9]+-[a-f0-9]{40,})"),
    Rule("slack-webhook", r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9+/_]{30,})", "prefixed"),
    Rule(
        "discord-token",
        r"\b([MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40})",
        "random",
        r"\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}",
    ),
    Rule("discord-webhook", r"discord(?:app)?\.com/api/webhooks/[0-9]{16,20}/([A-Za-z0-9_-]{60,})"),
    Rule("telegram-token", r"\b([0-9]{8,10}:AA[A-Za-z0-9_-]{33})", "", r"[0-9]:AA[A-Za-z0-9_-]{10}"),
    Rule("twilio-key", r"\b((?:SK|AC)[a-f0-9]{32})\b"),
    Rule("sendgrid-key", r"\b(SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64})", "prefixed"),
    Rule("mailchimp-key", r"\b([a-f0-9]{32}-us[0-9]{1,2})\b", "", r"[a-f0-9]-us[0-9]"),
    Rule("mailgun-key", r"\b(key-[a-f0-9]{32})\b"),
    Rule("mailgun-key", r"\b([a-f0-9]{32}-[a-f0-9]{8}-[a-f0-9]{8})\b", "", r"[a-f0-9]-[a-f0-9]{8}-[a-f0-9]{8}"),
    Rule("resend-key", r"\b(re_[A-Za-z0-9]{8}_[A-Za-z0-9]{24})\b"),
    Rule("stripe-key", r"\b([sr]k_(?:live|test|prod)_[A-Za-z0-9]{16,})", "prefixed"),
    Rule("stripe-key", r"\b(whsec_[A-Za-z0-9+/]{32,}={0,2})"),
    Rule("square-token", r"\b(sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,})"),
    Rule("square-token", r"\b(EAAA[A-Za-z0-9_-]{60})\b"),
    Rule("facebook-token", r"\b(EAA[A-Za-z0-9]{90,})"),
    Rule("shopify-token", r"\b(shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32})"),
    Rule("braintree-token", r"\b(access_token\$production\$[a-z0-9]{16}\$[a-f0-9]{32})"),
    Rule(
        "plaid-token", rf"\b(access-(?:sandbox|development|production)-{_UUID})", "", r"access-[sdp][a-z]+-[0-9a-f]{8}"
    ),
    Rule("razorpay-key", r"\b(rzp_(?:live|test)_[A-Za-z0-9]{14,})"),
    Rule("linear-key", r"\b(lin_(?:api|oauth)_[A-Za-z0-9]{32,})"),
    Rule("notion-token", r"\b(ntn_[A-Za-z0-9]{40,})"),
    Rule("notion-token", r"\b(secret_[A-Za-z0-9]{43})\b", "prefixed"),
    Rule("figma-token", r"\b(fig[dour]h?_[A-Za-z0-9_-]{38,})"),
    Rule("sentry-token", r"\b(sntr(?:ys|yu|yi|yr)_[A-Za-z0-9+/=_-]{40,})"),
    Rule("sentry-dsn", r"https?://([a-f0-9]{32})(?::[a-f0-9]{32})?@[A-Za-z0-9.-]+"),
    _in_context("datadog-key", r"datadog|\bdd_(?:api|app)", r"[a-f0-9]{32}|[a-f0-9]{40}"),
    Rule("new-relic-key", r"\b(NR(?:AK|II|IQ|JS|BR|AA)-[A-Za-z0-9_-]{19,42})"),
    Rule("new-relic-key", r"\b([a-f0-9]{36}NRAL)\b", "", r"[a-f0-9]NRAL"),
    Rule("grafana-token", r"\b(gl(?:sa|c)_[A-Za-z0-9+/_]{32,}={0,2})", "prefixed"),
    Rule("grafana-token", r"\b(eyJrIjoi[A-Za-z0-9+/]{60,}={0,2})"),
    Rule("vault-token", r"\b(hv[sbr]\.[A-Za-z0-9_-]{24,})", "prefixed"),
    Rule("terraform-token", r"\b([A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,})", "", r"\.atlasv1\.[A-Za-z0-9_=-]{10}"),
    Rule("doppler-token", r"\b(dp\.(?:pt|st|ct|sa|scim|audit|said)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44})"),
    Rule("postman-key", r"\b(PMAK-[a-f0-9]{24}-[a-f0-9]{34})"),
    Rule("dropbox-token", r"\b(sl\.(?:u\.)?[A-Za-z0-9_-]{100,})"),
    Rule("databricks-token", r"\b(dapi[a-f0-9]{32}(?:-[0-9])?)\b"),
    Rule("supabase-key", r"\b(sbp_(?:oauth_)?[a-f0-9]{40})"),
    Rule("supabase-key", r"\b(sb_secret_[A-Za-z0-9_-]{20,})"),
    Rule("airtable-token", r"\b(pat[A-Za-z0-9]{14}\.[a-f0-9]{64})\b", "", _BEGIN + r"pat[A-Za-z0-9]{14}\."),
    Rule("dynatrace-token", r"\b(dt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64})"),
    Rule("hubspot-token", rf"\b(pat-(?:na|eu)[0-9]-{_UUID})", "", r"pat-(?:na|eu)[0-9]-"),
    Rule("contentful-token", r"\b(CFPAT-[A-Za-z0-9_-]{43})"),
    Rule("posthog-key", r"\b(ph[xs]_[A-Za-z0-9]{40,})"),
    Rule("onepassword-token", r"\b(ops_eyJ[A-Za-z0-9+/=_-]{100,})"),
    Rule("easypost-key", r"\b(EZ[AT]K[A-Za-z0-9]{54})"),
    Rule("tailscale-key", r"\b(tskey-[a-z]+-[A-Za-z0-9]{8,}-[A-Za-z0-9]{16,})"),
    Rule("twitter-token", r"\b(A{20,22}[A-Za-z0-9%]{60,})", "random"),
    Rule("prefect-key", r"\b(pn[ub]_[A-Za-z0-9]{36})"),
    Rule("okta-token", r"\bSSWS\s+([A-Za-z0-9_-]{40,44})"),
)

_PEM_HEAD = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_TAIL = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_KEY_LINE_LEAD = r"""(?:[\s>|*#+,"'\\0-9\x80-\xff-]|\\[nrt])"""

KEYS = (
    # Everything up to the end, whatever stands before the lines: numbers, quotes, signs of a diff.
    Rule(
        "private-key",
        rf"""{_PEM_HEAD}((?:-{{0,4}}[A-Za-z0-9+/=_:;,.()@<>|*#"'\s\\\x80-\xff])*){_PEM_TAIL}""",
        "pem",
        r"PRIVATE KEY(?: BLOCK)?-----",
    ),
    # No end: only what looks like key material behind the header.
    Rule(
        "private-key",
        rf"""{_PEM_HEAD}((?:{_KEY_LINE_LEAD}*[A-Za-z0-9+/]{{16}}[A-Za-z0-9+/]*={{0,2}})+)""",
        "pem",
        r"PRIVATE KEY(?: BLOCK)?-----",
    ),
    Rule(
        "private-key",
        r"\b((?:LS0tLS1CRUdJTi|S0tLS1CRUdJTi|0tLS0tQkVHSU4g|tLS0tLUJFR0lOI)[A-Za-z0-9+/]{20}[A-Za-z0-9+/]*"
        r"(?:(?:\r?\n|\\+[nr])[ \t]*[A-Za-z0-9+/]{16}[A-Za-z0-9+/]*)*={0,2})",
        "pem64",
        r"(?:0tLS1CRUdJTi|tLS0tQkVHSU4g|LS0tLUJFR0lOI)",
    ),
    Rule(
        "private-key",
        r"Private-Lines:\s*[0-9]+((?:(?:\s|\\+[nr])+[A-Za-z0-9+/=]{20,64})+)",
        "",
        r"Private-Lines:",
    ),
    Rule("age-key", r"\b(AGE-SECRET-KEY-1[0-9A-Z]{58})"),
    _in_context("wireguard-key", r"privatekey|presharedkey", r"[A-Za-z0-9+/]{43}="),
    Rule("jwt", r"\b(eyJ[A-Za-z0-9_-]{14,}\.[A-Za-z0-9_-]{14,}\.[A-Za-z0-9_-]*)", "jwt"),
    Rule(
        "jwt",
        r"\b(eyJ[A-Za-z0-9_-]{14,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,})",
        "jwt",
    ),
)

_MIXED = r"(?:[A-Za-z_.+/~!%^*=-]{6}[A-Za-z_.+/~!%^*=-]*[0-9]|[A-Za-z_.+/~!%^*=-]{0,5}[0-9][A-Za-z0-9_.+/~!%^*=-]{10})"
"""Sixteen signs of a value, one of them a digit: a count of tokens is shorter, a name has none."""

_HEADER = r"(?i:authorization|x-api-key|x-auth-token|api-key|private-token|x-vault-token)"
_SCHEME = r"(?:(?i:bearer|basic|token|digest|apikey)(?:\s|\\[nrt])+)"

# What a name has to hold so that a random value beside it is taken for a secret.
_NAME_OF_ONE = (
    r"(?i:api_?-?key|apikey|access_?-?key|secret|token|passw(?:or)?d|passwd|passphrase|pwd|credential|auth_?-?key"
    r"|private_?-?key|encryption_?-?key|signing_?-?key|master_?-?key|account_?-?key|client_?-?key|_key|bearer)"
)
_NAME_OF_A_WORD = r"(?i:passw(?:or)?d|passwd|passphrase|_pwd|pgpassword|secret)"
_ASSIGN = r"""(?:[ \t"'`\\]|\\t)*(?:=>|:=|=|:)(?:[ \t"'`\\]|\\t)*"""

CONTEXTS = (
    Rule(
        "auth-header",
        rf"{_HEADER}{_IS}{_SCHEME}?([A-Za-z0-9._~+/=-]{{16,}})",
        "header",
        rf"{_HEADER}{_IS}{_SCHEME}?{_MIXED}",
    ),
    Rule("auth-header", r"(?i:authorization)" + _IS + r"(?i:basic)\s+([A-Za-z0-9+/=]{8,})", "basic"),
    Rule("auth-header", r"\b[Bb]earer\s+([A-Za-z0-9._~+/-]{20,}=*)", "random", r"[Bb]earer(?:\s|\\[nrt])+" + _MIXED),
    Rule(
        "url-password",
        r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:/?#@\"'\\<>\[\]()]*:([^\s/?#@\"'\\<>]{3,})@[A-Za-z0-9.\[-]",
        "password",
        r"://[^\s:/?#@\"'\\<>\[\]()]*:[^\s/?#@\"'\\<>]+@",
    ),
    Rule(
        "secret",
        rf"""{_NAME_OF_ONE}[A-Za-z0-9_-]{{0,24}}{_ASSIGN}([A-Za-z0-9_+/~!%^*=-]{{16,}})""",
        "assigned",
        rf"""{_NAME_OF_ONE}[A-Za-z0-9_-]*{_ASSIGN}{_MIXED}""",
    ),
    Rule(
        "password",
        rf"""{_NAME_OF_A_WORD}[A-Za-z0-9_-]{{0,24}}{_ASSIGN}([^\s"'\\`,;<>(){{}}\[\]]{{8,}})""",
        "assigned-password",
        rf"""{_NAME_OF_A_WORD}[A-Za-z0-9_-]*{_ASSIGN}[A-Za-z_.:/|-]*[0-9!@#$%^&*~?+=]""",
    ),
)

RULES = (*CLOUD, *MODELS, *CODE_HOSTS, *PACKAGES, *SERVICES, *KEYS, *CONTEXTS)
"""In order of precedence: where two take the same text, the earlier one names it."""

_SCREEN_MOST = 10
"""How many characters of a class a screen counts. Each counted one is a state of the automaton, in memory."""


def screen_of(rule: Rule) -> str:
    """An expression that matches wherever the rule's does in escaped text, too, and that keeps the automaton of all of
    them small: the pattern up to its first long repetition."""
    if rule.screen:
        return rule.screen
    text = rule.pattern
    begin = _BEGIN if text.startswith(r"\b") else ""
    text = text.removeprefix(r"\b")
    kept, depth, in_class, at = [begin], 0, False, 0
    while at < len(text):
        sign = text[at]
        if sign == "\\":
            kept.append(text[at : at + 2])
            at += 2
            continue
        if in_class:
            in_class = sign != "]"
        elif sign == "[":
            in_class = True
        elif sign in "()":
            depth += 1 if sign == "(" else -1
        elif sign == "{" and depth <= 1:
            end = text.index("}", at) + 1
            least = int(text[at + 1 : end - 1].partition(",")[0])
            if least > _SCREEN_MOST:
                return "".join(kept) + f"{{{_SCREEN_MOST}}}" + ")" * depth
            kept.append(f"{{{least},}}" if "," in text[at:end] else text[at:end])
            at = end
            continue
        kept.append(sign)
        at += 1
    return "".join(kept)
