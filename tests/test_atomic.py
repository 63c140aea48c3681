"""Files that are written whole or not at all: modes, links, and what is no file."""

import os
import stat

import pytest

from fastbn._atomic import atomic_write

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX modes and links")


@pytest.fixture(params=[0o022, 0o077], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def write(path, content=b"new"):
    with atomic_write(path) as file:
        file.write(content)


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_new_file_gets_the_mode_of_any_new_file(tmp_path, umask):
    write(tmp_path / "ours")
    (tmp_path / "usual").write_bytes(b"")
    assert mode(tmp_path / "ours") == mode(tmp_path / "usual") == 0o666 & ~umask


@pytest.mark.parametrize("before", [0o600, 0o640, 0o644, 0o666, 0o755, 0o400], ids=oct)
def test_replaced_file_keeps_its_mode(before, tmp_path, umask):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(before)
    with atomic_write(path) as file:
        # Nor is what is being written open to anybody else.
        (temporary,) = (name for name in os.listdir(tmp_path) if name != "file")
        assert mode(tmp_path / temporary) == before
        file.write(b"new")
    assert mode(path) == before
    assert path.read_bytes() == b"new" and os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("exists", [True, False])
def test_link_is_written_through(exists, tmp_path):
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    target.parent.mkdir()
    if exists:
        target.write_bytes(b"old")
        target.chmod(0o600)
    link.symlink_to("folder/target")
    write(link)
    assert link.is_symlink() and os.readlink(link) == "folder/target"
    assert target.read_bytes() == b"new"
    assert mode(target) == 0o600 or not exists
    assert os.listdir(tmp_path / "folder") == ["target"]


def test_what_is_no_file_is_left_alone(tmp_path):
    # A pipe stands for a device too: a fault here must not cost anybody their /dev/null.
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / name for name in ("pipe", "folder", "link")):
        before = os.stat(path)
        with pytest.raises(OSError, match="Not a regular file") as error:
            write(path)
        assert error.value.filename == os.fspath(path)
        assert os.stat(path).st_ino == before.st_ino
    assert sorted(os.listdir(tmp_path)) == ["folder", "link", "pipe"]
    assert (tmp_path / "link").is_symlink() and not os.listdir(tmp_path / "folder")


def test_loop_of_links(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError):
        write(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]
