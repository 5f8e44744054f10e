"""Everywhere the gateway must not be talked into calling (F-134): literals, spellings, names, and what names resolve
to. Kept once, tried by whatever calls a url that a stranger has named."""

LITERALS = """
    127.0.0.1 127.0.0.2 127.255.255.254 127.1 127.0.1 0177.0.0.1 0x7f.0.0.1 0x7f.1 0x7f000001 2130706433 017700000001
    127.0.0.1. 0127.0.0.1 127.0.0.01 0x7F.0.0.0x1 0 0.0.0.0 0.0.0.1 0.1.2.3 10.0.0.1 10.255.255.255 167772161 0xa000001
    012.0.0.1 172.16.0.1 172.31.255.255 192.168.0.1 192.168.1.1 3232235777 0xc0a80101 100.64.0.1 100.127.255.254
    100.100.100.200 169.254.0.1 169.254.169.254 169.254.170.2 2852039166 0xa9fea9fe 0251.0376.0251.0376 169.254.43518
    168.63.129.16 192.0.0.1 192.0.0.8 192.0.0.170 192.0.0.192 192.0.2.1 192.31.196.1 192.52.193.1 192.88.99.1
    192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1 239.255.255.250 240.0.0.1
    255.255.255.255 4294967295 256.1.1.1 1.2.3 1.2.3.4.5 999.999.999.999 0x 1e3.0 127.0.0.1.0x1
    [::1] [::] [::7f00:1] [::127.0.0.1] [::8.8.8.8] [0:0:0:0:0:0:0:1] [0000:0000:0000:0000:0000:0000:0000:0001]
    [::ffff:127.0.0.1] [::ffff:7f00:1] [0:0:0:0:0:ffff:7f00:1] [::ffff:10.0.0.1] [::ffff:169.254.169.254]
    [::ffff:8.8.8.8] [::ffff:0:127.0.0.1] [64:ff9b::7f00:1] [64:ff9b::127.0.0.1] [64:ff9b::a9fe:a9fe]
    [64:ff9b:1::7f00:1] [64:ff9b:1:ffff::1] [100::1] [100:0:0:1::1] [2002:7f00:1::] [2002:7f00:1::1] [2002:a00:1::1]
    [2002:a9fe:a9fe::1] [2002:808:808::1] [2001::1] [2001:0:7f00:1::] [2001:0:4136:e378:8000:63bf:3fff:fdd2]
    [2001:2::1] [2001:3::1] [2001:4:112::1] [2001:10::1] [2001:20::1] [2001:db8::1] [2001:db8:ffff::1] [3fff::1]
    [2620:4f:8000::1] [fc00::1] [fd00::1] [fd00:ec2::254] [fd20:ce::254] [fdff:ffff::1] [fe80::1] [fe80::1%25eth0]
    [fe80::1%eth0] [febf::1] [fec0::1] [ff00::1] [ff02::1] [ff05::2] [ff0e::1] [5f00::1] [4000::1] [8000::1] [1::1]
    [200::1] [::1.2.3.4] [::1%lo] [v1.fe80::a] [] [::g] [1:2:3] [12345::1]
"""

SPELLINGS = """
    http://127.0.0.1:{port}@93.184.216.34/ http://user@localhost:{port}/ http://user:pass@127.0.0.1:{port}/
    http://93.184.216.34@127.0.0.1:{port}/ http://127.0.0.1:{port}#@93.184.216.34/ http://93.184.216.34\\@127.0.0.1:{port}/
    http://127.0.0.1\\:{port}/ http:\\\\127.0.0.1:{port}/ http:/127.0.0.1:{port}/ http:127.0.0.1:{port}
    //127.0.0.1:{port}/
    HTTP://127.0.0.1:{port}/ Http://127.0.0.1:{port}/ http:///127.0.0.1:{port}/ http://%31%32%37.0.0.1:{port}/
    http://127%2e0%2e0%2e1:{port}/ http://127.0.0.1%00.example.com:{port}/ http://127.0.0.1%0a:{port}/
    http://１２７.0.0.1:{port}/ http://127。0。0。1:{port}/ http://①②⑦.⓪.⓪.①:{port}/ http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{port}/
    http://localhost.:{port}/ http://.localhost:{port}/ http://local..host:{port}/ http://-localhost:{port}/
    http://127.0.0.1:{port}:80/ http://127.0.0.1:/ http://127.0.0.1:0/ http://127.0.0.1:65536/ http://127.0.0.1:-1/
    http://[::1]:{port}:80/ http://[::1/ http://::1:{port}/ http://[[::1]]:{port}/ http://[::1].example.com:{port}/
    file:///etc/passwd ftp://127.0.0.1:{port}/ gopher://127.0.0.1:{port}/_x dict://127.0.0.1:{port}/x
    ws://127.0.0.1:{port}/ unix:///run/docker.sock tcp://127.0.0.1:{port} data:text/plain,x javascript:alert(1)
    jar:http://127.0.0.1:{port}/!/ ldap://127.0.0.1:{port}/ httpss://127.0.0.1:{port}/ http+unix://%2Frun%2Fx/
    http://93.184.216.34:22/ http://93.184.216.34:25/ http://93.184.216.34:53/ http://93.184.216.34:110/
    http://93.184.216.34:143/ http://93.184.216.34:445/ http://93.184.216.34:993/ http://93.184.216.34:2375/
    http://93.184.216.34:3306/ http://93.184.216.34:5432/ http://93.184.216.34:6379/ http://93.184.216.34:6443/
    http://93.184.216.34:9200/ http://93.184.216.34:10250/ http://93.184.216.34:11211/ http://93.184.216.34:27017/
    http:// http://? http://: https:// http localhost 127.0.0.1:{port}
"""


def targets_at(port: int) -> list[str]:
    """Urls of literals and spellings, those with a port of their own choice at this one."""
    spaced = [f"http://127.0.0.1:{port}/ x", f" http://127.0.0.1:{port}/", f"http://127.0.0.1\t:{port}/",
              f"http://127.0.0.1:{port}/\r\nX: y", f"http://127.0.0.1:{port}/\x00"]  # fmt: skip
    literals = [f"http://{host}:{port}/" for host in LITERALS.split()]
    return [*literals, *(spelling.replace("{port}", str(port)) for spelling in SPELLINGS.split()), *spaced]


_NAMES = """
    localhost app.localhost metadata.google.internal metadata.internal instance-data rebind.example.com
    127.0.0.1.nip.example.com kubernetes.default.svc db
"""

_RESOLVED = """
    127.0.0.1 127.8.8.8 0.0.0.0 10.1.2.3 172.20.0.1 192.168.9.9 100.64.9.9 169.254.169.254 168.63.129.16 192.0.0.192
    224.0.0.251 255.255.255.255 ::1 :: ::ffff:127.0.0.1 ::7f00:1 64:ff9b::7f00:1 2002:7f00:1::1 2001:0:7f00:1::
    fd00:ec2::254 fe80::1 fe80::1%lo ff02::1 nonsense
"""

NAMES, RESOLVED = tuple(_NAMES.split()), tuple(_RESOLVED.split())
