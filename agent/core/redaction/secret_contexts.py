"""The shapes of private keys, and of secrets that only what stands around them gives away."""

from agent.core.redaction.notations import NAMED
from agent.core.redaction.secret_shapes import BLANK, IS, NAME_OF_ONE, UUID, Rule, in_context, token

_PEM_HEAD = r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM_TAIL = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM = r"PRIVATE KEY(?: BLOCK)?-----"
_PEM_WITH_END = r"-----END [A-Z0-9 ]*PRIVATE KEY"
_KEY_LINE = r"[A-Za-z0-9+/]{16}[A-Za-z0-9+/]*={0,2}"
# What tools put before each line of a file: numbers, quotes, signs of a diff, the file's name; and a key's own header.
_KEY_LINE_LEAD = (
    r"""(?:(?:\n|\\n)[^\s:"'\\]{1,200}[:-][0-9]{1,6}[:-]|[\s>|*#+,:"'\\0-9\x80-\xff-]|\\[nrt]"""
    r"""|(?:Proc-Type|DEK-Info|Version|Comment|Hash):[^\n\\"]{0,100})"""
)

_BEFORE_A_WALLET = r"(?:\A|[^A-Za-z0-9+/_-]|\[[0-9;]*[mK]|3D)"

KEYS = (
    # Everything up to the end, whatever stands before the lines, or in place of some of them.
    Rule(
        "private-key",
        rf"""{_PEM_HEAD}((?:-{{0,4}}[A-Za-z0-9+/=_:;,.()@<>|*#"'\[\]&%~?!\s\\\x80-\xff])*){_PEM_TAIL}""",
        "pem",
        _PEM_WITH_END,
    ),
    # No end: only what looks like key material behind the header.
    Rule("private-key", rf"""{_PEM_HEAD}((?:{_KEY_LINE_LEAD}*{_KEY_LINE})+)""", "pem", _PEM),
    # No beginning.
    Rule(
        "private-key",
        rf"((?:{_KEY_LINE}{_KEY_LINE_LEAD}+)+(?:[A-Za-z0-9+/]{{1,76}}={{0,2}}{_KEY_LINE_LEAD}*)?){_PEM_TAIL}",
        "pem",
        _PEM_WITH_END,
    ),
    # Neither: by how the numbers in it begin (RSA, PKCS #8, elliptic curves, OpenSSH).
    token(
        "private-key",
        r"(?:MII[A-Za-z0-9+/]{3}IBA(?:AK[BC]|DANBgkqhkiG9w0BAQEFAASC)|MIG[A-Za-z0-9+/]AgE(?:AMB[A-Z]GByqGSM49AgEG|BBDD?)"
        r"|MHcCAQEEI|MC4CAQAwBQYDK2VwBCIEI|b3BlbnNzaC1rZXktdjEA)[A-Za-z0-9+/]{20}[A-Za-z0-9+/]*={0,2}"
        rf"(?:{_KEY_LINE_LEAD}+{_KEY_LINE})*",
        "",
        r"(?:MII[A-Za-z0-9+/]{3}IBA(?:AK[BC]|DANBgkqhkiG9w0BAQEFAASC)|MIG[A-Za-z0-9+/]AgE(?:AMB[A-Z]GByqGSM49AgEG|BBDD?)"
        r"|MHcCAQEEI|MC4CAQAwBQYDK2VwBCIEI|b3BlbnNzaC1rZXktdjEA)[A-Za-z0-9+/]{10}",
    ),
    Rule(
        "private-key",
        r"((?:LS0tLS1CRUdJTi|S0tLS1CRUdJTi|0tLS0tQkVHSU4g|tLS0tLUJFR0lOI)[A-Za-z0-9+/]{20}[A-Za-z0-9+/]*"
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
    token("age-key", r"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{58,}"),
    in_context("wireguard-key", r"privatekey|presharedkey", r"[A-Za-z0-9+/]{43}="),
    token("wallet-key", r"[xyz]prv[A-Za-z0-9]{100,}"),
    # Its one letter is everywhere in a picture: what stands before it counts for the screen, too.
    Rule(
        "wallet-key",
        rf"{_BEFORE_A_WALLET}(5[1-9A-HJ-NP-Za-km-z]{{50}}|[KLc9][1-9A-HJ-NP-Za-km-z]{{50,51}})\b",
        "wallet",
        rf"(?:{_BEFORE_A_WALLET}|\\(?:[nrtbf]|u[0-9A-Fa-f]{{4}}))[59KLc][1-9A-HJ-NP-Za-km-z]{{48}}",
        rough=r"[1-9A-HJ-NP-Za-km-z]{49}",
    ),
    token("nostr-key", r"nsec1[02-9ac-hj-np-z]{58}"),
    # As /etc/shadow keeps them: guesses can be tried on them.
    token(
        "password-hash", r"\$(?:1|5|6|7|y|gy)\$[./A-Za-z0-9=,$]{24,}", "", r"\$(?:1|5|6|7|y|gy)\$[./A-Za-z0-9=,$]{10}"
    ),
    token("password-hash", r"\$2[abxy]?\$[0-9]{2}\$[./A-Za-z0-9]{53}"),
    token(
        "password-hash",
        r"\$argon2(?:id|i|d)\$v=[0-9]+\$m=[0-9]+,t=[0-9]+,p=[0-9]+\$[A-Za-z0-9+/]{8,}\$[A-Za-z0-9+/]{16,}",
        "",
        r"\$argon2(?:id|i|d)\$v=",
    ),
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
        rough=r"""["'](?:d|p|q|dp|dq|qi)\\*["'](?:\s|\\+[nrt])*:""",
    ),
    token("jwt", r"eyJ[A-Za-z0-9_-]{14,}\.[A-Za-z0-9_-]{14,}\.[A-Za-z0-9_-]*", "jwt"),
    token(
        "jwt",
        r"eyJ[A-Za-z0-9_-]{14,}\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}",
        "jwt",
    ),
)

_MIXED = r"(?:[A-Za-z_.+/~!%^*=-]{6}[A-Za-z_.+/~!%^*=-]*[0-9]|[A-Za-z_.+/~!%^*=-]{0,5}[0-9][A-Za-z0-9_.+/~!%^*=-]{10})"
"""Sixteen signs of a value, one of them a digit: a count of tokens is shorter, a name has none."""

_HEADER = r"(?i:authorization|x-api-key|x-auth-token|api-key|private-token|x-vault-token)"
_SCHEME = r"(?:(?i:bearer|basic|token|digest|apikey)(?:\s|\\[nrt])+)"

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
        r"\b[A-Za-z0-9][A-Za-z0-9+.-]{1,20}://[^\s:/?#@\"'\\<>\[\]()]*:([^\s/?#\"'\\<>]{3,})@[A-Za-z0-9.\[-]",
        "password",
        r"://[^\s:/?#@\"'\\<>\[\]()]*:[^\s/?#@\"'\\<>]+@",
    ),
    Rule(
        "secret",
        rf"""{NAME_OF_ONE}[A-Za-z0-9_-]{{0,24}}{_ASSIGN}([A-Za-z0-9_+/~!%^*=-]{{16,}})""",
        "assigned",
        NAMED,
    ),
    Rule(
        "password",
        rf"""{_NAME_OF_A_WORD}[A-Za-z0-9_-]{{0,24}}{_ASSIGN}([^\s"'\\`,;<>(){{}}\[\]]{{8,}})""",
        "assigned-password",
        NAMED,
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
        r"""(?i:cookie)["'\\]*\s*:[\s"'\\]*([A-Za-z0-9_.-]{1,64}=[^\s;"'\\<]*(?:;\s[^\s"'\\<]+)*)""",
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
        rf"(?:--[a-z-]{{0,24}}(?:password|passwd|pass|passphrase){_BLANKS}"
        rf"|(?:\bsshpass{_BLANKS}-p|\s-u(?:{_BLANKS})?\S{{1,64}}\s+-p)(?:{_BLANKS})?)"
        r"([^\s\"'\\`,;<>(){}\[\]]{8,})",
        "typed-password",
        rf"(?:--[a-z-]*pass(?:word|wd|phrase)?{_BLANKS}|\bsshpass{_BLANKS}-p|\s-u(?:{_BLANKS})?\S+\s+-p)",
    ),
    Rule(
        "password",
        rf"""(?:\s-u|--(?:proxy-)?user)(?:=|{_BLANKS})["']?[A-Za-z0-9._@+-]{{1,64}}:([^\s"'\\]{{6,}})""",
        "typed-password",
        rf"""(?:\s-u|\\[nt]-u|--(?:proxy-)?user)(?:=|{_BLANKS})[\\"']*[A-Za-z0-9._@+-]+:[^\s"'\\]""",
    ),
    # A .netrc, whose words stand on a line or each on its own.
    Rule(
        "password",
        rf"\b(?:machine|login|account){BLANK}+[A-Za-z0-9_.@+-]{{1,64}}{BLANK}+password{BLANK}+([^\s\"'\\<]{{6,}})",
        "assigned-password",
        r"(?:machine|login|account)(?:[^a-zA-Z\"']|\\[nrt]|\\u[0-9a-f]{4})+[A-Za-z0-9_.@+-]+(?:[^a-zA-Z\"']|\\[nrt]|\\u[0-9a-f]{4})+password",
    ),
    # A .pgpass: host, port, database, user, password.
    Rule(
        "password",
        r"\b[A-Za-z0-9_.*-]{1,64}:(?:[0-9]{4,5}|\*):[A-Za-z0-9_*-]{1,64}:[A-Za-z0-9_.*-]{1,64}:([^\s:\"'\\<]{6,})",
        "assigned-password",
        r":(?:[0-9]{4,5}|\*):[A-Za-z0-9_*-]+:[A-Za-z0-9_.*-]+:[^\s:\"'\\]{6}",
        rough=r":(?:[0-9]{4,5}|\*):[A-Za-z0-9_*-]",
    ),
    Rule(
        "password",
        rf"\b(?:docker|podman|oras|registry)\s+login\b[^\n\"'|;&]{{0,120}}?\s-p\s*([^\s\"'\\`,;<>(){{}}\[\]]{{8,}})"
        rf"|\b(?:redis-cli|ldap[a-z]{{3,8}}|sqlcmd|mongo[a-z]{{0,8}})\b[^\n\"'|;&]{{0,120}}?\s-[awPp]{_BLANKS}([^\s\"'\\`,;<>(){{}}\[\]]{{8,}})",
        "typed-password",
        r"(?:(?:docker|podman|oras|registry)\s+login|redis-cli|ldap[a-z]{3}|sqlcmd|mongo)[^\n\\\"'|;&]*\s-[awPp]",
    ),
)
