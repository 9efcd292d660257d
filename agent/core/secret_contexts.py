"""The shapes of private keys, and of secrets that only what stands around them gives away."""

from agent.core.secret_shapes import IS, UUID, Rule, in_context

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
    # A key somewhere in what was encoded, as behind its certificate: from there on.
    Rule(
        "private-key",
        r"((?:UFJJVkFURSBLRV|BSSVZBVEUgS0VZ|QUklWQVRFIEtFW)[A-Za-z0-9+/]{20,}"
        r"(?:(?:\r?\n|\\+[nr])[ \t]*[A-Za-z0-9+/]{16}[A-Za-z0-9+/]*)*={0,2})",
        "",
        r"(?:UFJJVkFURSBLRV|BSSVZBVEUgS0VZ|QUklWQVRFIEtFW)",
    ),
    Rule(
        "private-key",
        r"Private-Lines:\s*[0-9]+((?:(?:\s|\\+[nr])+[A-Za-z0-9+/=]{20,64})+)",
        "",
        r"Private-Lines:",
    ),
    Rule("age-key", r"\b(AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{58,})"),
    in_context("wireguard-key", r"privatekey|presharedkey", r"[A-Za-z0-9+/]{43}="),
    Rule("wallet-key", r"\b([xyz]prv[A-Za-z0-9]{100,})"),
    Rule(
        "wallet-phrase",
        rf"(?i:mnemonic|(?:seed|recovery)[_ -]?phrase){IS}((?:[a-z]{{3,8}}\s+){{11,23}}[a-z]{{3,8}})",
        "any",
        rf"(?i:mnemonic|(?:seed|recovery)[_ -]?phrase){IS}[a-z]{{3}}",
    ),
    # The private numbers of a JSON Web Key.
    Rule(
        "private-key",
        r"""["'](?:d|p|q|dp|dq|qi)["']\s*:\s*["']([A-Za-z0-9_-]{43,})["']""",
        "random",
        r"""["'](?:d|p|q|dp|dq|qi)[\\]*["']\s*:\s*[\\]*["'][A-Za-z0-9_-]{10}""",
    ),
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

_BLANKS = r"""(?:[\s"'\\]|\\[nrt])+"""

CONTEXTS = (
    Rule(
        "auth-header",
        rf"{_HEADER}{IS}{_SCHEME}?([A-Za-z0-9._~+/=-]{{16,}})",
        "header",
        rf"{_HEADER}{IS}{_SCHEME}?{_MIXED}",
    ),
    Rule("auth-header", r"(?i:authorization)" + IS + r"(?i:basic)\s+([A-Za-z0-9+/=]{8,})", "basic"),
    Rule("auth-header", r"\b[Bb]earer\s+([A-Za-z0-9._~+/-]{20,}=*)", "random", r"[Bb]earer(?:\s|\\[nrt])+" + _MIXED),
    Rule(
        "url-password",
        r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:/?#@\"'\\<>\[\]()]*:([^\s/?#\"'\\<>]{3,})@[A-Za-z0-9.\[-]",
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
    # A token alone before the host.
    Rule("url-password", r"://([A-Za-z0-9_-]{20,})@[A-Za-z0-9\[]", "random", r"://[A-Za-z0-9_-]+@"),
    Rule("secret", r"[?&;]key=([A-Za-z0-9_-]{24,})", "assigned"),
    Rule(
        "secret",
        rf"(?i:_key|secret)[A-Za-z0-9_-]{{0,24}}{_ASSIGN}base64:([A-Za-z0-9+/]{{32,}}={{0,2}})",
        "random",
        r"base64:[A-Za-z0-9+/]{10}",
    ),
    # An id is a secret where its name says so.
    Rule(
        "secret",
        rf"(?:_TOKEN|API_?KEY|ACCESS_?KEY|SECRET(?:_KEY)?|(?i:x-[a-z-]*(?:api-?key|token))){_ASSIGN}({UUID})",
        "any",
        rf"(?:_TOKEN|API_?KEY|ACCESS_?KEY|SECRET(?:_KEY)?|(?i:x-[a-z-]*(?:api-?key|token))){_ASSIGN}[0-9a-fA-F]{{8}}-",
    ),
    Rule("auth-header", r"""["']auth["']\s*:\s*["']([A-Za-z0-9+/=]{12,})""", "basic", r"""["']auth\\*["']\s*:"""),
    Rule(
        "cookie",
        r"""(?i:cookie)["'\\]*\s*:[\s"'\\]*([A-Za-z0-9_.-]{1,64}=[^\s;"'\\]*(?:;\s[^\s"'\\]+)*)""",
        "cookie",
        r"""(?i:cookie)["'\\]*\s*:[\s"'\\]*[A-Za-z0-9_.-]+=""",
    ),
    # On command lines, and where a blank stands between a name and its value.
    Rule(
        "secret",
        rf"--[a-z-]{{0,24}}(?:token|key|secret|credential){_BLANKS}([A-Za-z0-9_+/~!%^*=.-]{{16,}})",
        "assigned",
        rf"--[a-z-]*(?:token|key|secret|credential){_BLANKS}{_MIXED}",
    ),
    Rule(
        "password",
        rf"(?:--[a-z-]{{0,24}}(?:password|passwd|pass|passphrase)|\bsshpass{_BLANKS}-p|\s-u(?:{_BLANKS})?\S{{1,64}}\s+-p)"
        rf"(?:{_BLANKS})?([^\s\"'\\`,;<>(){{}}\[\]]{{8,}})",
        "typed-password",
        rf"(?:--[a-z-]*pass(?:word|wd|phrase)?{_BLANKS}|\bsshpass{_BLANKS}-p|\s-u(?:{_BLANKS})?[^\s\\]+\s+-p)",
    ),
    Rule(
        "password",
        rf"""(?:\s-u|--(?:proxy-)?user)(?:=|{_BLANKS})["']?[A-Za-z0-9._@+-]{{1,64}}:([^\s"'\\]{{6,}})""",
        "typed-password",
        rf"""(?:\s-u|\\[nt]-u|--(?:proxy-)?user)(?:=|{_BLANKS})[\\"']*[A-Za-z0-9._@+-]+:[^\s"'\\]""",
    ),
    Rule(
        "password",
        r"\blogin\s+[^\s\"'\\]{1,64}\s+password\s+([^\s\"'\\]{6,})",
        "password",
        r"\blogin(?:\s|\\[nrt])+[^\s\"'\\]+(?:\s|\\[nrt])+password",
    ),
)
