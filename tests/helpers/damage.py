"""Ways to damage a file in place, and to restore a directory."""

import shutil


def empty(path):
    path.write_bytes(b"")


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def garbage(path):
    path.write_bytes(bytes(range(256)))


def longer(path):
    path.write_bytes(path.read_bytes() * 2)


def remove(path):
    path.unlink()


def make_directory(path):
    path.unlink()
    path.mkdir()


KINDS = (empty, cut_off, garbage, longer, remove, make_directory)


def files(directory):
    """Files of a directory at any depth, by name."""
    return {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def restore(directory, copy):
    """Restore a directory from a copy of it."""
    shutil.rmtree(directory)
    shutil.copytree(copy, directory)


def flip(path, position):
    """Flip the bit of a file at a position, counted in bits from its beginning."""
    data = bytearray(path.read_bytes())
    data[position // 8] ^= 1 << position % 8
    path.write_bytes(data)
