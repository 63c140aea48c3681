"""``python publish.py``: `asv publish`, and the site loads nothing from outside.

asv's pages take jQuery, Flot, Bootstrap and others from public CDNs. Here they come from the same
releases on npm, once, into `.asv/vendor`, and from there into the site, with their licences. Every
file is checked: by the hash that asv's page names, which makes it the CDN's, byte for byte; or,
where npm has no such file (Flot's minified ones, stupidtable 1.0.1), by the hash below.

Arguments are asv's, ``--config`` and a range of commits, for example. npm must be installed.
"""

import base64
import hashlib
import html.parser
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import asv.config

#: URL of asv's pages -> npm package, file within it, its SHA-256 if it is not what the URL gives.
FILES = {
    "https://code.jquery.com/jquery-3.3.1.min.js": ("jquery@3.3.1", "dist/jquery.min.js", None),
    "https://cdnjs.cloudflare.com/ajax/libs/flot/0.8.3/jquery.flot.min.js": (
        "flot@0.8.3",
        "jquery.flot.js",
        "b7b931f273c38b1277b9c6c1f4e05c4ec09885a487bddaf3279e2d7e49a38e12",
    ),
    "https://cdnjs.cloudflare.com/ajax/libs/flot/0.8.3/jquery.flot.time.min.js": (
        "flot@0.8.3",
        "jquery.flot.time.js",
        "a582c832adc7138a6b05aaf61f16ebac274701f1be4afea77e739a1c34b9c41a",
    ),
    "https://cdnjs.cloudflare.com/ajax/libs/flot/0.8.3/jquery.flot.selection.min.js": (
        "flot@0.8.3",
        "jquery.flot.selection.js",
        "e6c85f6c1ebe4b4da29d8ae238c7c5060283f05f7ef054f6b91817d02c092918",
    ),
    "https://cdnjs.cloudflare.com/ajax/libs/flot/0.8.3/jquery.flot.categories.min.js": (
        "flot@0.8.3",
        "jquery.flot.categories.js",
        "6e81664b28ea795c734906f4aa15614640a75ac7fbd399a7fb9084040698351a",
    ),
    "https://cdn.jsdelivr.net/npm/flot-orderbars@1.0.0/js/jquery.flot.orderBars.js": (
        "flot-orderbars@1.0.0",
        "js/jquery.flot.orderBars.js",
        None,
    ),
    "https://cdnjs.cloudflare.com/ajax/libs/stupidtable/1.0.1/stupidtable.min.js": (
        "stupid-table-plugin@1.1.3",
        "stupidtable.min.js",
        "4642380f28ebe9ed7cac251793b281ef8620c4386205d92788f9b12f5cceb4e0",
    ),
    "https://cdnjs.cloudflare.com/ajax/libs/blueimp-md5/2.19.0/js/md5.min.js": (
        "blueimp-md5@2.19.0",
        "js/md5.min.js",
        None,
    ),
    "https://cdn.jsdelivr.net/npm/bootstrap@3.1.1/dist/js/bootstrap.min.js": (
        "bootstrap@3.1.1",
        "dist/js/bootstrap.min.js",
        None,
    ),
    "https://cdn.jsdelivr.net/npm/bootstrap@3.1.1/dist/css/bootstrap.min.css": (
        "bootstrap@3.1.1",
        "dist/css/bootstrap.min.css",
        None,
    ),
}

#: What comes along: licences (flot-orderbars has its own in the head of the file), and the fonts
#: that Bootstrap's style names.
ALONG = ("LICENSE*", "package.json", "dist/fonts/*")

_TAG = re.compile(r"<(?:script|link)\b[^>]*>")
_OUTSIDE = re.compile(r"(?:[a-z]+:)?//[a-z0-9.-]+", re.IGNORECASE)


class Refused(Exception):
    """The site would load what nobody has checked."""


def _attribute(tag, *names):
    for name in names:
        found = re.search(rf'\b{name}="([^"]*)"', tag)
        if found:
            return found[1]
    return None


def _matches(data, integrity):
    """Whether data has one of the hashes of an ``integrity`` attribute."""
    return any(
        base64.b64encode(hashlib.new(name, data).digest()).decode() == digest
        for name, _, digest in (word.partition("-") for word in integrity.split())
    )


def unpack(package, folder):
    """Put a release of npm, as ``name@version``, into a folder."""
    npm = shutil.which("npm")
    if npm is None:
        raise Refused(f"npm is not installed: {package} comes from there")
    with tempfile.TemporaryDirectory() as temporary:
        packed = subprocess.run(
            [npm, "pack", "--silent", "--pack-destination", temporary, package],
            capture_output=True,
            text=True,
        )
        if packed.returncode:
            raise Refused(f"npm pack {package} failed: {packed.stderr.strip()}")
        (archive,) = Path(temporary).glob("*.tgz")
        with tarfile.open(archive) as tar:
            tar.extractall(Path(temporary) / "files", filter="data")
        (root,) = (Path(temporary) / "files").iterdir()
        # Whole or not at all: an interrupted copy would be taken for the package.
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(root, folder.with_name(folder.name + ".new"), dirs_exist_ok=True)
        folder.with_name(folder.name + ".new").rename(folder)


def vendored(tag, store, site):
    """Copy what a tag loads from outside into the site; the tag with its new address."""
    url = _attribute(tag, "src", "href")
    if url is None or not _OUTSIDE.match(url):
        return tag
    if url not in FILES:
        raise Refused(f"asv's pages load {url}, which publish.py does not know")
    package, name, sha256 = FILES[url]
    integrity = _attribute(tag, "integrity")
    if sha256 is None and integrity is None:
        raise Refused(f"asv's page has no integrity attribute for {url} any more")
    source = store / package
    if not source.exists():
        unpack(package, source)
    data = (source / name).read_bytes()
    right = hashlib.sha256(data).hexdigest() == sha256 if sha256 else _matches(data, integrity)
    if not right:
        raise Refused(f"{source / name} does not have the hash that {url} should have")
    for path in {source / name, *(path for glob in ALONG for path in source.glob(glob))}:
        target = site / "vendor" / package / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    tag = re.sub(r'\s(integrity|crossorigin|referrerpolicy)="[^"]*"', "", tag)
    return tag.replace(url, f"vendor/{package}/{name}")


class _Loads(html.parser.HTMLParser):
    """Addresses that a page loads by itself; not what a click leads to."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if tag != "a":
            self.found += [named[key] for key in ("src", "href", "srcset") if named.get(key)]
        self.found += re.findall(r"url\(([^)]*)\)", named.get("style") or "")


def outside(site):
    """What the site's pages, styles and asv's own scripts would load from elsewhere."""
    found = []
    for path in sorted(site.rglob("*")):
        if path.suffix == ".html":
            parser = _Loads()
            parser.feed(path.read_text(encoding="utf-8"))
            addresses = parser.found
        elif path.suffix == ".css":
            text = path.read_text(encoding="utf-8")
            addresses = re.findall(r"url\(\s*['\"]?([^)'\"]*)", text)
            addresses += re.findall(r"@import\s+['\"]([^'\"]*)", text)
        elif path.suffix == ".js" and "vendor" not in path.relative_to(site).parts:
            addresses = re.findall(r"['\"]((?:https?:)?//[^'\"]+)", path.read_text("utf-8"))
        else:
            continue
        found += [f"{path}: {address}" for address in addresses if _OUTSIDE.match(address)]
    return found


def vendor(site, store):
    """Make a site of asv's load nothing from outside."""
    for page in sorted(site.glob("*.html")):
        text = page.read_text(encoding="utf-8")
        page.write_text(_TAG.sub(lambda tag: vendored(tag[0], store, site), text), encoding="utf-8")
    left = outside(site)
    if left:
        raise Refused("the site would still load from outside:\n" + "\n".join(left))


def main(arguments):
    here = Path(__file__).parent
    if not any(word.startswith("--config") for word in arguments):
        arguments = ["--config", str(here / "asv.conf.json"), *arguments]
    published = subprocess.run([sys.executable, "-m", "asv", "publish", *arguments])
    if published.returncode:
        return published.returncode
    at = next(i for i, word in enumerate(arguments) if word.startswith("--config"))
    config = arguments[at].partition("=")[2] or arguments[at + 1]
    site = Path(config).parent / asv.config.Config.load(config).html_dir
    try:
        vendor(site, here / ".asv" / "vendor")
    except Refused as error:
        print(f"publish.py: {error}", file=sys.stderr)
        return 1
    print(f"{site} loads nothing from outside; to look at it: asv preview")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
